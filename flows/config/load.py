"""Experiments as YAML: read, overridden by ``--set``, checked, with an error that helps."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError

from paraknow_core.errors import ConfigError
from paraknow_core.printable import printable
from paraknow_core.strict_data import NotStrictError
from paraknow_core.strict_yaml import parse_yaml, read_yaml

M = TypeVar("M", bound=BaseModel)

_TOLD = 5
"""Faults named in one message; a list given in place of another thing can have thousands."""


def load_config(model: type[M], path: Path, overrides: Sequence[str] = ()) -> M:
    """Read an experiment.

    Args:
        model: the config's type.
        path: a YAML file.
        overrides: ``key=value``, dots for nesting (``finetune.seed=3``); the value is YAML.

    Raises:
        ConfigError: for a missing file, bad YAML (with its line), an unknown key (with the nearest
            known one), or a value that is not allowed.
    """
    fields = read_yaml(path, refuse=ConfigError)
    if not isinstance(fields, dict):
        raise ConfigError(
            f"{path} must hold settings (key: value), it holds {type(fields).__name__}"
        )
    for override in overrides:
        _set(fields, override)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        faults = [_explain(model, each) for each in error.errors()[:_TOLD]]
        more = error.error_count() - len(faults)
        said = "; ".join([*faults, f"and {more} more"] if more else faults)
        raise ConfigError(f"{path}: {said}") from None


def drift_overrides(*, strict: bool, rebuild: bool) -> list[str]:
    """Return the overrides that ``--strict`` and ``--rebuild`` stand for.

    Raises:
        ConfigError: if both are given.
    """
    if strict and rebuild:
        raise ConfigError("give --strict or --rebuild, not both")
    return ["run.drift=strict"] * strict + ["run.drift=rebuild"] * rebuild


def _set(fields: dict[str, Any], override: str) -> None:
    name, equals, text = override.partition("=")
    if not equals or not name:
        raise ConfigError(f"--set {_short(override)}: write key=value, such as finetune.seed=3")
    *parents, last = name.split(".")
    place = fields
    for parent in parents:
        below = place.setdefault(parent, {})
        if not isinstance(below, dict):
            raise ConfigError(
                f"--set {_short(override)}: {parent!r} is a value, it has no settings below it"
            )
        place = below
    try:
        place[last] = parse_yaml(text)
    except NotStrictError as error:
        raise ConfigError(f"--set {_short(override)}: no valid YAML value: {error}") from None


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 200 else text[:199] + "…"


def _explain(model: type[BaseModel], error: Any) -> str:
    place = printable(".".join(str(part)[:80] for part in error["loc"]))
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        return f"unknown setting {place}; {hint}"
    if error["type"] == "missing":
        return f"{place} is required"
    message = " ".join(error["msg"].removeprefix("Value error, ").split())
    return f"{place}: {message} (given {_short(error['input'])})" if place else message


def _fields_at(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """Return the names of the settings at a place of the config.

    Parts of the path that name no setting, such as a place in a list, lead nowhere else.
    """
    for part in path:
        if part in model.model_fields:
            model = _model_in(model.model_fields[part].annotation) or model
    return list(model.model_fields)


def _model_in(annotation: Any) -> type[BaseModel] | None:
    """Return the config in a type such as ``tuple[Config, ...]`` or ``Config | None``."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = map(_model_in, get_args(annotation))
    return next((inner for inner in found if inner is not None), None)
