"""Experiments as YAML: read, overridden by ``--set``, checked, with an error that helps."""

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from paraknow_core.errors import ConfigError
from paraknow_core.setting_errors import refusal, shown
from paraknow_core.strict_data import NotStrictError
from paraknow_core.strict_yaml import parse_yaml, read_yaml

M = TypeVar("M", bound=BaseModel)


def load_config(
    model: type[M],
    path: Path | None,
    overrides: Sequence[str] = (),
    *,
    presets: Mapping[str, str] | None = None,
) -> M:
    """Read an experiment.

    Args:
        model: the config's type.
        path: a YAML file; None where all is said by overrides and presets.
        overrides: ``key=value``, dots for nesting (``finetune.seed=3``), also into the entry of
            a list that has a name (``pairs.llama2.teacher.model=./big``); the value is YAML.
        presets: settings such as ``task``, which replace those of the file.

    Raises:
        ConfigError: for a missing file, bad YAML (with its line), an unknown key (with the nearest
            known one), or a value that is not allowed.
    """
    fields = {} if path is None else read_yaml(path, refuse=ConfigError)
    if not isinstance(fields, dict):
        raise ConfigError(
            f"{path} must hold settings (key: value), it holds {type(fields).__name__}"
        )
    fields |= presets or {}
    for name, value in read_overrides(overrides).items():
        _place(fields, name, value, "--set ")
    try:
        return model.model_validate(fields)
    except ValidationError as error:
        raise refusal(model, error, file="" if path is None else str(path)) from None


def with_overrides(config: M, overrides: Mapping[str, Any] | None) -> M:
    """Return settings of which some are set otherwise; all of them are checked again.

    Args:
        config: the settings.
        overrides: setting, with dots for nesting, → its value.

    Raises:
        ConfigError: for an unknown setting (with the nearest known one), or a value that is not
            allowed.
    """
    if not overrides:
        return config
    return overridden(type(config), config.model_dump(exclude_unset=True), overrides)


def overridden(model: type[M], fields: Mapping[str, Any], overrides: Mapping[str, Any]) -> M:
    """As `with_overrides`, of settings that are plain values yet, as a deployment has them."""
    changed = copy.deepcopy(dict(fields))
    for name, value in overrides.items():
        _place(changed, name, value, "overrides: ")
    try:
        return model.model_validate(changed)
    except ValidationError as error:
        raise refusal(model, error, file="the settings with their overrides") from None


def read_overrides(texts: Sequence[str]) -> dict[str, Any]:
    """Read ``key=value``, whose value is YAML, as `with_overrides` takes it.

    Raises:
        ConfigError: if one is not written so.
    """
    found: dict[str, Any] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name:
            raise ConfigError(f"--set {shown(text)}: write key=value, such as finetune.seed=3")
        try:
            found[name] = parse_yaml(value)
        except NotStrictError as error:
            raise ConfigError(f"--set {shown(text)}: no valid YAML value: {error}") from None
    return found


def drift_overrides(*, strict: bool, rebuild: bool) -> list[str]:
    """Return the overrides that ``--strict`` and ``--rebuild`` stand for.

    Raises:
        ConfigError: if both are given.
    """
    if strict and rebuild:
        raise ConfigError("give --strict or --rebuild, not both")
    return ["run.drift=strict"] * strict + ["run.drift=rebuild"] * rebuild


def _place(fields: dict[str, Any], name: str, value: Any, option: str) -> None:
    """Write one setting to its place, and make the sections above it."""
    *parents, last = name.split(".")
    place: Any = fields
    for parent in parents:
        within = f"{option}{shown(name)}"
        key: Any = _number_of(place, parent, within) if isinstance(place, list) else parent
        below = place[key] if isinstance(place, list) else place.setdefault(key, {})
        if isinstance(below, tuple):  # of settings that were checked once
            below = place[key] = list(below)
        if not isinstance(below, dict | list):
            raise ConfigError(f"{within}: {shown(parent)} is a value, it has no settings below it")
        place = below
    if isinstance(place, list):
        last = _number_of(place, last, f"{option}{shown(name)}")
    place[last] = value


def _number_of(entries: Sequence[Any], name: str, within: str) -> Any:
    """Where in a list the entry of a name stands, such as a comparison's pair.

    Raises:
        ConfigError: names those that there are.
    """
    names = [entry.get("name") if isinstance(entry, dict) else entry for entry in entries]
    if names.count(name) != 1:
        raise ConfigError(
            f"{within}: this is a list, whose entries are named {', '.join(map(str, names))}; "
            f"none, or more than one, is {shown(name)}"
        )
    return names.index(name)
