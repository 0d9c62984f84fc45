"""How a conversation becomes a prompt and an answer.

``tulu`` is the format SeeKing (arXiv 2310.11451) fine-tunes and evaluates in; ``none`` leaves
texts alone. A new format is one function and one line in `TEMPLATES`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from paraknow_core.errors import DataError
from paraknow_core.registry import Registry

ROLES = ("system", "user", "assistant")


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: str
    content: str


Template = Callable[[Sequence[Message]], tuple[str, str]]
"""Takes a conversation that ends with the assistant, gives (prompt, answer)."""


def tulu(messages: Sequence[Message]) -> tuple[str, str]:
    """``<|system|>``, ``<|user|>`` and ``<|assistant|>`` headers; the last turn is the answer.

    Earlier assistant turns belong to the prompt and bear no loss. Outer white space of every
    turn is dropped, so the answer follows the header's line break directly.
    """
    turns = [f"<|{message.role}|>\n{message.content.strip()}\n\n" for message in messages[:-1]]
    return "".join(turns) + "<|assistant|>\n", messages[-1].content.strip()


def none(messages: Sequence[Message]) -> tuple[str, str]:
    """Prompt and answer exactly as given; only for one user turn and one assistant turn."""
    if [message.role for message in messages] != ["user", "assistant"]:
        raise DataError(
            "template 'none' takes one user and one assistant turn, got "
            f"{[message.role for message in messages]}; choose a chat template such as 'tulu'"
        )
    return messages[0].content, messages[1].content


TEMPLATES: Registry[Template] = Registry("template", {"tulu": tulu, "none": none}, error=DataError)


def get_template(name: str) -> Template:
    """Look a template up by name.

    Raises:
        DataError: if there is none of that name; names the nearest one.
    """
    return TEMPLATES.choose(name)
