"""What is wrong with a setting, in one line: where it stands, what is allowed, what was given."""

import difflib
import types
from collections.abc import Mapping, Sequence
from typing import Any, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from paraknow_core.errors import ConfigError
from paraknow_core.printable import printable

SHOWN_ERRORS = 5
SHOWN_CHARACTERS = 80
LONGEST_MESSAGE = 600
HIDDEN = "hidden"
"""Kind of an error, which a validator raises as a ``PydanticCustomError``, whose message must not
repeat what was given: it may be a key or a password."""

_WORDS: Mapping[str, str] = {
    "model_type": "must hold settings (key: value)",
    "model_attributes_type": "must hold settings (key: value)",
    "dict_type": "must hold settings (key: value)",
    "tuple_type": "must be a list",
    "string_type": "must be a text",
    "too_short": "must have no fewer entries than {min_length}",
    "too_long": "must have no more entries than {max_length}",
    "string_too_long": "must be a text of at most {max_length} characters",
    "string_pattern_mismatch": "must be a text that matches {pattern}",
    "invalid_key": "every key must be a text",
    "string_unicode": "must be a text that UTF-8 can hold",
}
"""Kinds of pydantic's errors that speak of Python types → a message about a settings file."""


def refusal(model: type[BaseModel], error: ValidationError, *, file: str = "") -> ConfigError:
    """Turn what pydantic found into one line.

    Args:
        model: the settings' type.
        error: as its validation raised it.
        file: where the settings were read.
    """
    found = first_causes(error)
    lines = [explain(model, one) for one in found[:SHOWN_ERRORS]]
    if len(found) > SHOWN_ERRORS:
        lines.append(f"and {len(found) - SHOWN_ERRORS} more")
    return ConfigError((f"{file}: " if file else "") + "; ".join(lines))


def first_causes(error: ValidationError) -> list[Mapping[str, Any]]:
    """Return what pydantic found, without "too short" for lists that only lack wrong entries."""
    found = error.errors(include_url=False)
    places = [one["loc"] for one in found]
    return [
        one
        for one in found
        if one["type"] != "too_short"
        or not any(p != one["loc"] and p[: len(one["loc"])] == one["loc"] for p in places)
    ]


def explain(model: type[BaseModel], error: Mapping[str, Any], *, place: str | None = None) -> str:
    """Explain one error of ``ValidationError.errors()``.

    Args:
        model: the settings' type.
        error: what pydantic found, with its context.
        place: where the user wrote the setting, if not at its place in the type.
    """
    where = place_of(error["loc"]) if place is None else place
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        return f"unknown setting {where}; {hint}"
    if error["type"] == "missing":
        return f"{where} is required"
    if error["type"] in _WORDS:
        message = _WORDS[error["type"]].format(**error.get("ctx", {}))
    else:
        message = error["msg"].removeprefix("Value error, ")
        message = printable(message.replace("Input should be ", "must be ", 1))
    # A rule across several settings says itself which of them do not go together.
    told = error["type"] == "value_error" and isinstance(error["input"], dict | BaseModel)
    hidden = told or error["type"] == HIDDEN
    given = "" if hidden else f" (given {shown(error['input'])})"
    message = _cut(message, LONGEST_MESSAGE)
    return f"{where}: {message}{given}" if where else message


def place_of(path: Sequence[str | int]) -> str:
    """Write a path as it stands in a settings file: ``pairs[0].teacher.model``."""
    text = ""
    for part in path:
        if isinstance(part, int):
            text += f"[{part}]"
        elif part != "[key]":  # pydantic's mark for a fault of the key itself, not of its value
            text += f".{_cut(part)}" if text else _cut(part)
    return printable(text)


def shown(value: object) -> str:
    """Write what was given on one line, however large or odd it is."""
    try:
        return printable(_cut(repr(value)))
    except Exception:  # noqa: BLE001 - whatever the value is, the error about it must be shown
        return f"a {type(value).__name__} that is too large to show"


def _cut(text: str, longest: int = SHOWN_CHARACTERS) -> str:
    return text if len(text) <= longest else f"{text[:longest]}… ({len(text):,} characters)"


def _fields_at(model: type[BaseModel], path: Sequence[str | int]) -> list[str]:
    """Return the names of the settings at a place; none where no settings can be."""
    kind: Any = model
    for part in path:
        field = getattr(kind, "model_fields", {}).get(part)
        kind = _settings_in(field.annotation) if field else kind if isinstance(part, int) else None
    return list(getattr(kind, "model_fields", {}))


def _settings_in(annotation: Any) -> Any:
    """Return the type of settings that an annotation allows, alone, in a list, or optional."""
    if get_origin(annotation) in (Union, types.UnionType, tuple, list):
        found = (_settings_in(option) for option in get_args(annotation))
        return next((kind for kind in found if kind is not None), None)
    return annotation if hasattr(annotation, "model_fields") else None
