"""Experiments as YAML: read, overridden by ``--set``, checked, with an error that helps."""

import difflib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from paraknow_core.errors import ConfigError

M = TypeVar("M", bound=BaseModel)


def load_config(model: type[M], path: Path, overrides: Sequence[str] = ()) -> M:
    """Read an experiment.

    Args:
        model: the config's type.
        path: a YAML file.
        overrides: ``key=value``, dots for nesting (``finetune.seed=3``); the value is YAML.

    Raises:
        ConfigError: for a missing file, bad YAML, an unknown key (with the nearest known one), or
            a value that is not allowed.
    """
    try:
        fields = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ConfigError(f"{path} is no valid YAML: {error}") from error
    if not isinstance(fields, dict):
        raise ConfigError(
            f"{path} must hold settings (key: value), it holds {type(fields).__name__}"
        )
    for override in overrides:
        _set(fields, override)
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise ConfigError(
            f"{path}: " + "; ".join(_explain(model, e) for e in error.errors())
        ) from None


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
        raise ConfigError(f"--set {override!r}: write key=value, such as finetune.seed=3")
    *parents, last = name.split(".")
    place = fields
    for parent in parents:
        below = place.setdefault(parent, {})
        if not isinstance(below, dict):
            raise ConfigError(
                f"--set {override!r}: {parent!r} is a value, it has no settings below it"
            )
        place = below
    try:
        place[last] = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {override!r}: the value is no valid YAML: {error}") from error


def _explain(model: type[BaseModel], error: Any) -> str:
    place = ".".join(str(part) for part in error["loc"])
    if error["type"] == "extra_forbidden":
        known = _fields_at(model, error["loc"][:-1])
        near = difflib.get_close_matches(str(error["loc"][-1]), known, n=1)
        hint = f"did you mean {near[0]}?" if near else f"known are {', '.join(known)}"
        return f"unknown setting {place}; {hint}"
    if error["type"] == "missing":
        return f"{place} is required"
    message = error["msg"].removeprefix("Value error, ")
    return f"{place or 'the settings'}: {message} (given {error['input']!r})" if place else message


def _fields_at(model: type[BaseModel], path: Sequence[Any]) -> list[str]:
    """Return the names of the settings at a place of the config."""
    for part in path:
        annotation = model.model_fields[str(part)].annotation
        options = [annotation, *getattr(annotation, "__args__", ())]
        model = next(o for o in options if isinstance(o, type) and issubclass(o, BaseModel))
    return list(model.model_fields)
