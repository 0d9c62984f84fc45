"""How the fields of a row become a question and an answer: templates, prefix, few-shot examples.

Templates are Jinja's, as in lm-evaluation-harness (``doc_to_text``), with its filter
``regex_replace``: a format string could not write MMLU's answer, the letter of a number
(``{{ "ABCD"[answer] }}``). They are run in Jinja's sandbox, and a field that a row lacks is an
error, never an empty text.
"""

import re
from collections.abc import Mapping
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import Field, field_validator

from paraknow_core.data.splits import SPLITS
from paraknow_core.errors import DataError
from paraknow_core.setting_types import CountOrNone, EachOnce, OneOf, Text
from paraknow_core.settings import Recipe

if TYPE_CHECKING:
    from jinja2 import Template as JinjaTemplate
    from jinja2.sandbox import SandboxedEnvironment

ROW = "row"
"""In templates: the whole row, for fields whose names are no names in Jinja: ``row["a field"]``."""

TemplateText = Annotated[str, Field(max_length=65_536)]
SplitName = Annotated[str, OneOf("split", dict.fromkeys(SPLITS))]


class Wording(Recipe):
    """How a row is put into words; whatever is empty leaves the row's texts as they are."""

    system: TemplateText = Field(
        "", title="System prompt", description="As it is; rows with one of their own keep that."
    )
    instruction: TemplateText = Field(
        "",
        title="Instruction",
        description="Jinja over the row's fields; once at the beginning, before examples.",
    )
    prompt: TemplateText = Field(
        "", title="Question", description="Jinja, such as 'Question: {{ question }}'."
    )
    answer: TemplateText = Field(
        "", title="Answer", description="Jinja; once for each where the row has a list of answers."
    )
    prefix: Text = Field(
        "",
        title="Answer's prefix",
        description="What the assistant's turn begins with, such as 'Answer:'. It is part of the "
        "prompt, without loss; answers that begin with it already lose it.",
    )

    @field_validator("instruction", "prompt", "answer")
    @classmethod
    def _compiles(cls, text: str) -> str:
        try:
            names_in(text)
        except DataError as error:
            raise ValueError(str(error)) from error
        return text


class Fewshot(Recipe):
    """Examples that stand before the question, and how they are laid out."""

    count: CountOrNone = Field(0, title="Examples", description="Before each question; 0: none.")
    splits: Annotated[tuple[SplitName, ...], EachOnce] = Field(
        ("test",), min_length=1, title="Splits", description="Whose rows get examples."
    )
    group: Text = Field(
        "",
        title="Of the same",
        description="A field; examples are rows that have the same there, as MMLU's subject.",
    )
    layout: Literal["text", "turns"] = Field(
        "text", title="Layout", description="text: within the user's turn; turns: turns before it."
    )
    joint: Text = Field(
        "\n", title="Joint", description="In layout text: between an example's question and answer."
    )
    separator: Text = Field(
        "\n\n", title="Separator", description="In layout text: after instruction and each example."
    )


def names_in(text: str) -> frozenset[str]:
    """Return the fields that a template needs.

    Raises:
        DataError: with the line in the template, if it is no valid Jinja.
    """
    return _compiled(text)[1] if text else frozenset()


def render(text: str, row: Mapping[str, Any], *, what: str) -> str:
    """Fill a template in.

    Args:
        text: the template.
        row: field name to value.
        what: the setting, for errors.

    Raises:
        DataError: says what failed; a field that is not there is named.
    """
    from jinja2 import TemplateError

    template, _ = _compiled(text)
    try:
        return template.render({ROW: row, **row})
    # Whatever a template's expressions raise on a value that they were not made for.
    except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, re.error) as error:
        said = str(error) or type(error).__name__
        raise DataError(f"{what} cannot be filled in from this row: {said[:200]}") from error


@lru_cache(maxsize=64)
def _compiled(text: str) -> "tuple[JinjaTemplate, frozenset[str]]":
    from jinja2 import TemplateSyntaxError
    from jinja2.meta import find_undeclared_variables

    environment = _environment()
    try:
        parsed = environment.parse(text)
        compiled = environment.from_string(text)
    except TemplateSyntaxError as error:
        raise DataError(f"no valid Jinja template: line {error.lineno}: {error.message}") from error
    names = find_undeclared_variables(parsed) - {ROW, *environment.globals}
    return compiled, frozenset(names)


@cache
def _environment() -> "SandboxedEnvironment":
    from jinja2 import StrictUndefined
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    found = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined,
        keep_trailing_newline=True,
        autoescape=False,
    )
    found.filters["regex_replace"] = _regex_replace
    return found


def _regex_replace(text: str, pattern: str, replacement: str, count: int = 0) -> str:
    """The filter of this name in lm-evaluation-harness."""
    return re.sub(pattern, replacement, text, count=count)
