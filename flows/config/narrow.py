"""A part of a comparison: some of its pairs, some of its tasks."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from flows.config.compare import CompareConfig
from paraknow_core.errors import ConfigError
from paraknow_core.setting_errors import refusal
from paraknow_core.setting_types import choose_setting


def narrowed(
    config: CompareConfig, *, pairs: Sequence[str] = (), tasks: Sequence[str] = ()
) -> CompareConfig:
    """Return a comparison of these pairs and tasks alone.

    Args:
        config: the whole one.
        pairs: names of pairs; empty: all.
        tasks: names of tasks; empty: all.

    Raises:
        ConfigError: for a name that it has not, with the nearest that it has.
    """
    if not (pairs or tasks):
        return config
    kept: dict[str, Any] = {name: getattr(config, name) for name in config.model_fields_set}
    kept["pairs"] = _named("pair", config.pairs, pairs)
    kept["tasks"] = _named("task", config.tasks, tasks)
    try:
        return CompareConfig.model_validate(kept)
    except ValidationError as error:
        raise refusal(CompareConfig, error, file="the part of the comparison") from None


def _named(kind: str, entries: Sequence[Any], names: Sequence[str]) -> tuple[Any, ...]:
    for name in names:
        try:
            choose_setting(kind, name, {entry.name: entry for entry in entries})
        except ValueError as error:
            raise ConfigError(str(error)) from None
    return tuple(entry for entry in entries if not names or entry.name in names)
