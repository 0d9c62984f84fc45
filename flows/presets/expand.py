"""Settings that name a task or a recipe: its own settings are laid below those that are given."""

import re
from collections.abc import Collection, Mapping
from pathlib import PurePath
from typing import Any

from flows.presets.files import RecipeFile, TaskFile, own_benchmark_in, read_preset
from paraknow_core.errors import ConfigError
from tasks.harness.config import OWN_BENCHMARK

_PLACE = frozenset({"path", "hub", "subset", "split", "revision"})
"""Where rows come from; a place that is given replaces the whole place below it."""


def with_presets(given: Any, *, name: str | None = None) -> Any:
    """Lay what a task and a recipe say below an experiment's or a task's own settings.

    Args:
        given: the settings as they were read; ``task`` and ``recipe`` name the files.
        name: default for ``name``, where the task gives none.

    Raises:
        ValueError: for an unknown task or recipe, or a fault of its file.
    """
    if not isinstance(given, Mapping):
        return given
    below: dict[str, Any] = {}
    own = ""
    for key, kind in (("recipe", RecipeFile), ("task", TaskFile)):
        if isinstance(named := given.get(key), str) and named:
            try:
                preset = read_preset(kind, named)
                below |= preset.sections()
            except ConfigError as error:
                raise ValueError(str(error)) from error
            own = own or getattr(preset, "harness", "")
    if given.get("task"):
        below |= {"name": name or task_name(str(given["task"]))}
    return _with_own_benchmark(overlaid(below, given), own) if below else given


def _with_own_benchmark(found: dict[str, Any], own: str) -> dict[str, Any]:
    """Put the harness task of the task's file in the place of ``own``."""
    evaluate = found.get("evaluate")
    if not isinstance(evaluate, Mapping) or evaluate.get("tasks") != OWN_BENCHMARK:
        return found
    if not own:
        msg = (
            f"evaluate.tasks is {OWN_BENCHMARK}, but task {found.get('task')!r} names no harness "
            "task; name the benchmarks"
        )
        raise ValueError(msg)
    return dict(own_benchmark_in(found, own))


def with_recipe(given: Any, *, among: Collection[str]) -> Any:
    """Lay what a recipe says below a comparison's shared settings.

    Args:
        given: the comparison as it was read; ``recipe`` names the file.
        among: the sections that methods share; others are left out.

    Raises:
        ValueError: for an unknown recipe, or a fault of its file.
    """
    if not isinstance(given, Mapping) or not isinstance(given.get("settings", {}), Mapping):
        return given
    if not isinstance(named := given.get("recipe"), str) or not named:
        return given
    whole = with_presets({"recipe": named})
    below = {name: section for name, section in whole.items() if name in among}
    return {**given, "settings": overlaid(below, given.get("settings", {}))}


def task_name(task: str) -> str:
    """Return how a task is called, by its name or its file's."""
    return re.sub(r"[^A-Za-z0-9]+", "_", PurePath(task).stem).strip("_") or "task"


def overlaid(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Return settings in which those above replace those below, section by section.

    Rows for which a file or a data set is given come from there alone: no part of the place below
    is kept. Null takes a whole section away, such as the test rows of a data set; they are then
    dealt from the common ones.
    """
    found = dict(below)
    if above.get("path") or above.get("hub"):
        found = {key: value for key, value in found.items() if key not in _PLACE}
    elif {"path", "hub"} & above.keys():  # a form sends what was left alone as well
        above = {key: value for key, value in above.items() if key not in _PLACE}
    for key, value in above.items():
        kept = found.get(key)
        if value is None and isinstance(kept, Mapping):
            del found[key]
            continue
        is_section = isinstance(kept, Mapping) and isinstance(value, Mapping)
        found[key] = overlaid(kept, value) if is_section else value  # type: ignore[arg-type]
    return found
