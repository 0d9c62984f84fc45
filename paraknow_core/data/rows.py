"""From a row (a JSON object, a Parquet row, a Hub row) to an `Example`, checked field by field."""

import difflib
from collections.abc import Mapping
from typing import Any

from paraknow_core.data.examples import NO_LOSS, Columns, Example
from paraknow_core.data.templates import ROLES, Message, Template
from paraknow_core.errors import DataError

MAX_TOKEN = 2**31 - 1


def to_example(
    row: Mapping[str, Any], *, where: str, default_id: str, template: Template, columns: Columns
) -> Example:
    """Convert a row; its fields decide the form.

    Forms, the first whose fields are there wins: prompt and answer texts, chat messages, token
    numbers with labels. Texts go through the template as one user and one assistant turn.

    Args:
        row: field name to value.
        where: file and line, or row, for errors.
        default_id: used where the row has no id of its own.
        template: turns a conversation into prompt and answer.
        columns: the fields' names.

    Raises:
        DataError: for a missing field, a wrong type, an empty text, or labels that do not fit.
    """
    identity = _identity(row, where=where, default=default_id, columns=columns)
    try:
        if columns.prompt in row or columns.answer in row:
            return _from_texts(row, identity, template, columns)
        if columns.messages in row:
            return _from_messages(row, identity, template, columns)
        if columns.input_ids in row or columns.labels in row:
            return _from_tokens(row, identity, columns)
    except DataError as error:
        raise DataError(f"{where}: {error}") from None
    raise DataError(f"{where}: {_unknown_form(row, columns)}")


def _identity(row: Mapping[str, Any], *, where: str, default: str, columns: Columns) -> str:
    value = row.get(columns.id)
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise DataError(f"{where}: field {columns.id!r} must be text or an integer, {_got(value)}")
    return str(value)


def _from_texts(
    row: Mapping[str, Any], identity: str, template: Template, columns: Columns
) -> Example:
    turns = [
        Message("user", _text(row, columns.prompt)),
        Message("assistant", _text(row, columns.answer)),
    ]
    prompt, answer = template(turns)
    return Example(identity, prompt, answer)


def _from_messages(
    row: Mapping[str, Any], identity: str, template: Template, columns: Columns
) -> Example:
    turns = row[columns.messages]
    if not isinstance(turns, list) or len(turns) < 2:
        raise DataError(
            f"field {columns.messages!r} must be a list of at least two turns, {_got(turns)}"
        )
    messages = [_message(turn, f"{columns.messages}[{place}]") for place, turn in enumerate(turns)]
    if messages[-1].role != "assistant":
        raise DataError(
            f"the last turn must be the assistant's (it is the answer), got {messages[-1].role!r}"
        )
    prompt, answer = template(messages)
    return Example(identity, prompt, answer)


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


def _text(row: Mapping[str, Any], name: str) -> str:
    value = _field(row, name)
    if not isinstance(value, str):
        raise DataError(f"field {name!r} must be text, {_got(value)}")
    if not value.strip():
        raise DataError(f"field {name!r} is empty: every row needs a prompt and an answer")
    try:
        value.encode("utf-8")  # json accepts lone surrogates, which no tokenizer or file can hold
    except UnicodeEncodeError as error:
        raise DataError(f"field {name!r} is not valid Unicode text: {error.reason}") from None
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
