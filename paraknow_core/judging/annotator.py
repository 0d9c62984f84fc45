"""How a judge is asked: an annotator in the format of alpaca_eval's ``evaluators_configs``.

An annotator is a folder with ``configs.yaml`` and a prompt. What it holds is its identity, wherever
it lies. It says nothing of where the judge is: every judge is asked through OpenAI's chat format.
"""

import importlib.util
import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from paraknow_core.errors import ConfigError
from paraknow_core.judging.parsers import PARSERS, preference_in
from paraknow_core.strict_yaml import read_yaml

SHIPPED: Final = Path(__file__).parent / "annotators"
USUAL: Final = "pairwise"
"""The annotator that is shipped."""
_CONFIG: Final = "configs.yaml"
_PLACEHOLDER: Final = re.compile(r"{([^ \s]+?)}")
_FIELDS: Final = frozenset({"instruction", "output_1", "output_2"})
_TURN: Final = re.compile(r"<\|im_start\|>[ ]*(system|user|assistant)[ ]*\n(.*?)<\|im_end\|>", re.S)
_READ: Final = frozenset(
    {"prompt_template", "fn_completions", "completions_kwargs", "fn_completion_parser"}
    | {"completion_parser_kwargs", "completion_key", "batch_size", "processors_to_kwargs"}
    | {"is_randomize_output_order", "is_shuffle", "pretty_name", "link"}
)
_OF_ITS_CLIENT: Final = frozenset(
    {"batch_size", "num_procs", "price_per_token", "is_strip", "requires_chatml", "is_chat"}
    | {"sleep_time", "n_retries", "model_name"}
)
"""Options of alpaca_eval's own client, which are no part of a request."""
_DEFAULTS: Final = {"max_tokens": 2048, "temperature": 0.7, "top_p": 1.0}
"""As in alpaca_eval's client."""


@dataclass(frozen=True)
class Annotator:
    """How a judge is asked about a pair of outputs, and how its answer is read.

    Attributes:
        name: as it was given.
        model: the judge that its file names; "" if none.
        turns: role and text of each message, with placeholders.
        request: further fields of a request, such as the temperature.
        parser: a key of ``PARSERS``.
        options: of the parser.
        reads_choice: whether the parser takes the whole choice, not only its text.
    """

    name: str
    model: str
    turns: tuple[tuple[str, str], ...]
    request: Mapping[str, Any]
    parser: str
    options: Mapping[str, Any]
    reads_choice: bool

    def identity(self) -> str:
        """Return all that decides what is asked and how it is read, as JSON text."""
        held = [self.turns, self.request, self.parser, self.options, self.reads_choice]
        return json.dumps(held, sort_keys=True)

    def body(self, model: str, *, instruction: str, first: str, second: str) -> dict[str, Any]:
        """Return the request about two outputs, in this order.

        Texts are put into the turns after these were told apart, and all at once: neither a mark of
        a turn nor a placeholder that stands in an output means anything.
        """
        texts = {"instruction": instruction, "output_1": first, "output_2": second}
        return {
            "model": model,
            "messages": [
                {
                    "role": role,
                    "content": _PLACEHOLDER.sub(lambda m: texts[m[1]], text).strip(),
                }
                for role, text in self.turns
            ],
            **self.request,
        }

    def preference(self, choice: Mapping[str, Any]) -> float | None:
        """Read which output a choice prefers: from 1 (the first) to 2; None if it does not say."""
        completion = dict(choice) if self.reads_choice else text_of(choice)
        return preference_in(completion, self.parser, self.options)


def text_of(choice: Mapping[str, Any]) -> str:
    """Return what a choice says: the arguments of a function that it calls, else its text."""
    message = choice.get("message")
    if not isinstance(message, Mapping):
        return ""
    calls = message.get("tool_calls")
    called = calls[0].get("function") if isinstance(calls, list) and calls else None
    called = called or message.get("function_call")
    found = called.get("arguments") if isinstance(called, Mapping) else message.get("content")
    return found if isinstance(found, str) else ""


def read_annotator(name: str) -> Annotator:
    """Read an annotator by its name or place.

    Args:
        name: one that is shipped, one of alpaca_eval's if that is installed, or a path to a folder
            or its ``configs.yaml``.

    Raises:
        ConfigError: if there is none, or it cannot be used here; says why.
    """
    path = _find(name)
    found = read_yaml(path, refuse=ConfigError)
    if not isinstance(found, dict) or len(found) != 1:
        held = f"{len(found)} annotators" if isinstance(found, dict) else "no annotator"
        raise ConfigError(f"{path} holds {held}; a judge is asked by exactly one")
    (own,) = found.values()
    if not isinstance(own, dict):
        raise ConfigError(f"{path} holds no settings of an annotator")
    _check(path, own)
    request = dict(own.get("completions_kwargs") or {})
    model = str(request.get("model_name") or "")
    request = {key: value for key, value in request.items() if key not in _OF_ITS_CLIENT}
    turns = tuple(_turns(path, _template(path, own)))
    return Annotator(
        name=name,
        model=model,
        turns=turns,
        request={**_DEFAULTS, **request},
        parser=str(own.get("fn_completion_parser") or "regex_parser"),
        options=own.get("completion_parser_kwargs") or {},
        reads_choice=own.get("completion_key") == "completions_all",
    )


def _find(name: str) -> Path:
    known = {path.parent.name: path for path in _listed()}
    if name in known:
        return known[name]
    path = Path(name).expanduser()
    path = path / _CONFIG if path.is_dir() else path
    if path.is_file():
        return path
    hint = "" if len(known) > 1 else "; with the extra 'judge' those of alpaca_eval are known too"
    raise ConfigError(
        f"no annotator {name!r}: known are {', '.join(known)}{hint}; or give the path of a folder "
        f"that holds {_CONFIG}"
    )


def _listed() -> Iterator[Path]:
    """What alpaca_eval has, which is not imported for it, and what is shipped."""
    package = importlib.util.find_spec("alpaca_eval")
    for folder in (package.submodule_search_locations or ()) if package else ():
        yield from sorted(Path(folder, "evaluators_configs").glob(f"*/{_CONFIG}"))
    yield from sorted(SHIPPED.glob(f"*/{_CONFIG}"))


def _check(path: Path, own: Mapping[str, Any]) -> None:
    """Refuse what alpaca_eval has and this project has not."""
    asks = str(own.get("fn_completions") or "openai_completions")
    request, options = own.get("completions_kwargs") or {}, own.get("completion_parser_kwargs")
    parser = str(own.get("fn_completion_parser") or "regex_parser")
    processors = set(own.get("processors_to_kwargs") or {}) - {"ChainOfThoughtProcessor"}
    wrong = ""
    if unknown := sorted(set(map(str, own)) - _READ):
        wrong = f"does not know {', '.join(unknown)}"
    elif asks != "openai_completions":
        wrong = f"asks by {asks}; a judge here is asked through OpenAI's chat format"
    elif own.get("batch_size", 1) != 1:
        wrong = f"puts {own['batch_size']} pairs into one question; here each pair is one"
    elif processors:
        wrong = f"needs {', '.join(sorted(map(str, processors)))}, which is not supported"
    elif not isinstance(request, dict) or not isinstance(options or {}, dict):
        wrong = "needs completions_kwargs and completion_parser_kwargs to hold settings"
    elif own.get("completion_key") not in (None, "completions", "completions_all"):
        wrong = f"reads {own['completion_key']!r} of an answer; known: completions, completions_all"
    elif given := sorted(n for n in request if "key" in n or "client" in n or "tokens_to" in n):
        wrong = f"gives {', '.join(given)}, which is no part of a request"
    if wrong:
        raise ConfigError(f"annotator {path} cannot be used: it {wrong}")
    PARSERS.choose(parser)
    for expression in ((options or {}).get("outputs_to_match") or {}).values():
        try:
            re.compile(str(expression))
        except re.error as error:
            raise ConfigError(f"{path}: {expression!r} is no regular expression: {error}") from None


def _template(path: Path, own: Mapping[str, Any]) -> str:
    """Read the prompt: beside the annotator's folder, in it, or written out in its file."""
    said = str(own.get("prompt_template") or "")
    if "{output_1}" in said:
        return said
    for folder in (path.absolute().parent.parent, path.absolute().parent):
        if said and (folder / said).is_file():
            try:
                return (folder / said).read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError) as error:
                raise ConfigError(f"{folder / said} cannot be read: {error}") from error
    raise ConfigError(f"{path}: there is no file {said!r} (prompt_template) beside its folder")


def _turns(path: Path, template: str) -> Iterator[tuple[str, str]]:
    """Tell the turns of a prompt apart; one without marks is a single turn of the user's."""
    names = set(_PLACEHOLDER.findall(template))
    if names - _FIELDS or not {"output_1", "output_2"} <= names:
        raise ConfigError(
            f"{path}: its prompt has the placeholders {', '.join(sorted(names)) or 'none'}; it "
            f"takes {', '.join(sorted(_FIELDS))}, both outputs among them"
        )
    found = [(turn[1], turn[2]) for turn in _TURN.finditer(template)]
    yield from found or [("user", template)]
