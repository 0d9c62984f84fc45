"""Experiments as YAML: read, overridden by ``--set``, checked, with an error that helps."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from paraknow_core.errors import ConfigError
from paraknow_core.setting_errors import refusal, shown
from paraknow_core.strict_data import NotStrictError
from paraknow_core.strict_yaml import parse_yaml, read_yaml

M = TypeVar("M", bound=BaseModel)


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
        raise refusal(model, error, file=str(path)) from None


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
        raise ConfigError(f"--set {shown(override)}: write key=value, such as finetune.seed=3")
    *parents, last = name.split(".")
    place = fields
    for parent in parents:
        below = place.setdefault(parent, {})
        if not isinstance(below, dict):
            raise ConfigError(
                f"--set {shown(override)}: {shown(parent)} is a value, it has no settings below it"
            )
        place = below
    try:
        place[last] = parse_yaml(text)
    except NotStrictError as error:
        raise ConfigError(f"--set {shown(override)}: no valid YAML value: {error}") from None
