"""From a row (a JSON object, a Parquet row, a Hub row) to a `Draft`, checked field by field."""

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from paraknow_core.data.drafts import Draft
from paraknow_core.data.examples import NO_LOSS, Columns, Example
from paraknow_core.data.templates import ROLES, Message
from paraknow_core.data.wording import Wording, names_in, render
from paraknow_core.errors import DataError

MAX_TOKEN = 2**31 - 1


@dataclass(frozen=True)
class RowForm:
    """What the fields of a data set's rows mean.

    Attributes:
        columns: the fields' names.
        wording: templates over the fields.
        group: the field by which few-shot examples are chosen; empty: none.
        unanswered: whether rows may lack an answer.
    """

    columns: Columns = field(default_factory=Columns)
    wording: Wording = field(default_factory=Wording)
    group: str = ""
    unanswered: bool = False

    @property
    def is_templated(self) -> bool:
        """Whether question, answer or instruction are made by a template."""
        return bool(self.wording.prompt or self.wording.answer or self.wording.instruction)

    def lacking(self, row: Mapping[str, Any]) -> list[str]:
        """The fields that the templates need and a row does not have."""
        wording, columns = self.wording, self.columns
        needed = {*names_in(wording.instruction), *names_in(wording.prompt)}
        needed |= set() if wording.prompt else {columns.prompt}
        if not (self.unanswered and row.get(columns.answer) in (None, "")):
            needed |= names_in(wording.answer) if wording.answer else {columns.answer}
        return sorted(needed - row.keys())


def to_draft(row: Mapping[str, Any], *, where: str, default_id: str, form: RowForm) -> Draft:
    """Convert a row; its fields decide how.

    The first of these whose fields are there wins: what the templates of the wording name; prompt
    and answer texts; chat messages; token numbers with labels. The answer may be a list of texts:
    several are right, and the first is the one that is learned.

    Args:
        row: field name to value.
        where: file and line, or row, for errors.
        default_id: used where the row has no id of its own.
        form: what the fields mean.

    Raises:
        DataError: for a missing field, a wrong type, an empty text, or labels that do not fit.
    """
    columns = form.columns
    identity = _identity(row, where=where, default=default_id, columns=columns)
    try:
        group = str(_field(row, form.group)) if form.group else ""
        if form.is_templated and not form.lacking(row):
            return _from_fields(row, Draft(identity, where, group=group), form)
        if not form.is_templated and (columns.prompt in row or columns.answer in row):
            question, answers = _text(row, columns.prompt), _answers(row, form)
            return Draft(identity, where, question=question, answers=answers, group=group)
        if columns.messages in row:
            return _from_messages(row, Draft(identity, where, group=group), form)
        if columns.input_ids in row or columns.labels in row:
            tokens = _from_tokens(row, identity, columns)
            return Draft(identity, where, group=group, tokenised=tokens)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    if form.is_templated:
        lacking = ", ".join(map(repr, form.lacking(row)))
        raise DataError(
            f"{where}: the row has {_names(row)}, but the templates of the wording need {lacking}"
        )
    raise DataError(f"{where}: {_unknown_form(row, columns)}")


def _identity(row: Mapping[str, Any], *, where: str, default: str, columns: Columns) -> str:
    value = row.get(columns.id)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: field {columns.id!r} must be text or an integer, {_got(value)}")
    return str(value)


def _from_fields(row: Mapping[str, Any], draft: Draft, form: RowForm) -> Draft:
    """Fill the templates in."""
    wording, columns = form.wording, form.columns
    asked = _filled(wording.prompt, row, "prompt") if wording.prompt else _text(row, columns.prompt)
    instruction = _filled(wording.instruction, row, "instruction") if wording.instruction else ""
    return Draft(
        draft.id,
        draft.where,
        instruction=instruction,
        question=asked,
        answers=_answers(row, form),
        group=draft.group,
    )


def _answers(row: Mapping[str, Any], form: RowForm) -> tuple[str, ...]:
    """The right answers; none where the row has none and may lack them."""
    name, template = form.columns.answer, form.wording.answer
    given = row.get(name)
    if form.unanswered and (given is None or given in ("", [])):
        return ()
    if isinstance(given, list):
        if not given:
            raise DataError(f"field {name!r} is an empty list; a row needs at least one answer")
        return tuple(_answer({**row, name: one}, name, template) for one in given)
    return (_answer(row, name, template),)


def _answer(row: Mapping[str, Any], name: str, template: str) -> str:
    return _filled(template, row, "answer") if template else _text(row, name)


def _filled(template: str, row: Mapping[str, Any], setting: str) -> str:
    text = render(template, row, what=f"wording.{setting}")
    return _text({setting: text}, setting, what=f"what wording.{setting} gives")


def _from_messages(row: Mapping[str, Any], draft: Draft, form: RowForm) -> Draft:
    name = form.columns.messages
    turns = row[name]
    least = 1 if form.unanswered else 2
    if not isinstance(turns, list) or len(turns) < least:
        raise DataError(f"field {name!r} must be a list of at least two turns, {_got(turns)}")
    messages = [_message(turn, f"{name}[{place}]") for place, turn in enumerate(turns)]
    answers: Sequence[Message] = ()
    if messages[-1].role == "assistant":
        *messages, last = messages
        answers = (last,)
    elif not form.unanswered:
        raise DataError(
            f"the last turn must be the assistant's (it is the answer), got {messages[-1].role!r}"
        )
    *before, question = messages
    return Draft(
        draft.id,
        draft.where,
        turns=tuple(before),
        asker=question.role,
        question=question.content,
        answers=tuple(message.content for message in answers),
        group=draft.group,
    )


def _message(turn: Any, place: str) -> Message:
    if not isinstance(turn, Mapping):
        raise DataError(f"{place} must be an object with 'role' and 'content', {_got(turn)}")
    role = turn.get("role")
    if role not in ROLES:
        raise DataError(f"{place}: role must be one of {', '.join(ROLES)}, got {_short(role)}")
    try:
        return Message(role, _text(turn, "content"))
    except DataError as error:
        raise DataError(f"{place}: {error}") from None


def _from_tokens(row: Mapping[str, Any], identity: str, columns: Columns) -> Example:
    input_ids = _integers(row, columns.input_ids, low=0)
    labels = _integers(row, columns.labels, low=NO_LOSS)
    if len(input_ids) != len(labels):
        raise DataError(
            f"{columns.input_ids!r} has {len(input_ids)} tokens but {columns.labels!r} has "
            f"{len(labels)}; both must be equally long"
        )
    for place, (token, label) in enumerate(zip(input_ids, labels, strict=True)):
        if label not in (NO_LOSS, token):
            raise DataError(
                f"label {label} at place {place} is neither {NO_LOSS} (no loss) nor the token "
                f"there ({token}); labels must not be shifted"
            )
    if all(label == NO_LOSS for label in labels[1:]):
        raise DataError(f"empty answer: every label after the first is {NO_LOSS}")
    return Example(identity, input_ids=input_ids, labels=labels)


def _integers(row: Mapping[str, Any], name: str, *, low: int) -> tuple[int, ...]:
    values = _field(row, name)
    if not isinstance(values, list) or not all(type(value) is int for value in values):
        raise DataError(f"field {name!r} must be a list of integers, {_got(values)}")
    wrong = [value for value in values if not low <= value <= MAX_TOKEN]
    if wrong:
        raise DataError(f"field {name!r} holds {wrong[0]}, outside {low}..{MAX_TOKEN}")
    return tuple(values)


def _text(row: Mapping[str, Any], name: str, *, what: str = "") -> str:
    value = _field(row, name)
    what = what or f"field {name!r}"
    if not isinstance(value, str):
        raise DataError(f"{what} must be text, {_got(value)}")
    if not value.strip():
        raise DataError(f"{what} is empty: every row needs a prompt and an answer")
    try:
        value.encode("utf-8")  # json accepts lone surrogates, which no tokenizer or file can hold
    except UnicodeEncodeError as error:
        raise DataError(f"{what} is not valid Unicode text: {error.reason}") from None
    return value


def _field(row: Mapping[str, Any], name: str) -> Any:
    if name in row:
        return row[name]
    near = difflib.get_close_matches(name, map(str, row), n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise DataError(f"field {name!r} is missing; the row has {_names(row)}{hint}")


def _unknown_form(row: Mapping[str, Any], columns: Columns) -> str:
    return (
        f"the row has {_names(row)}; expected {columns.prompt!r} and {columns.answer!r}, or "
        f"{columns.messages!r}, or {columns.input_ids!r} and {columns.labels!r} "
        "(other names can be given as columns)"
    )


def _names(row: Mapping[str, Any]) -> str:
    return "the fields " + ", ".join(map(_short, list(row)[:10])) if row else "no fields"


def _got(value: Any) -> str:
    return f"got {type(value).__name__} {_short(value)}"


def _short(value: Any) -> str:
    if isinstance(value, list | dict):
        return f"of {len(value)} entries"
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."
