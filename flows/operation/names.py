"""How a run is called: as it was told, else by what is different about it."""

import contextlib
import itertools
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final
from uuid import UUID

SHOWN: Final = 4
"""Differences in a name; more are counted."""
_LONGEST: Final = 24


def run_name() -> str:
    """Name the present flow run; one that was given a name keeps it.

    Otherwise it is the experiment's name, and what of its settings is not as its deployment says:
    "demo rank 4 seed 0". To be given to Prefect as ``flow_run_name``.
    """
    from prefect.runtime import flow_run

    given = str(flow_run.name or "")
    if given and not is_random(given):
        return given
    parameters: Mapping[str, Any] = flow_run.parameters or {}
    config = _plain(parameters.get("config", {}))
    name = str(config.get("name", "run"))
    changed: dict[str, Any] = dict(parameters.get("overrides") or {})
    base = _deployed_config()
    if base is not None:
        changed |= dict(differences(_filled(parameters.get("config"), base), config))
    return name_of(name, changed)


def name_of(name: str, changed: Mapping[str, Any]) -> str:
    """Put a name together.

    Args:
        name: of the experiment.
        changed: setting, with dots, → what it is.
    """
    changed = {path: value for path, value in changed.items() if path != "name"}
    told = [f"{path.rpartition('.')[2]} {_short(value)}" for path, value in changed.items()]
    if len(told) > SHOWN:
        told[SHOWN:] = [f"and {len(told) - SHOWN} more"]
    return " ".join([name, *told])


def differences(base: Any, given: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield the place, with dots, and the value of every setting that is not as in ``base``."""
    if isinstance(base, Mapping) and isinstance(given, Mapping):
        for key, value in given.items():
            below = f"{path}.{key}" if path else str(key)
            yield from differences(base.get(key), value, below)
    elif base != given:
        yield path, given


def is_random(name: str) -> bool:
    """Tell whether a name is one of those that Prefect draws, such as "brave-otter"."""
    words = name.split("-")
    return len(words) == 2 and all(word in _vocabulary() for word in words)


@cache
def _vocabulary() -> frozenset[str]:
    from coolname.data import config

    lists = (found.get("words", []) for found in config.values() if isinstance(found, Mapping))
    return frozenset(str(word) for word in itertools.chain.from_iterable(lists))


def _deployed_config() -> Mapping[str, Any] | None:
    """Return the settings that the run's deployment has, None if it is of none."""
    from prefect.client.orchestration import get_client
    from prefect.runtime import deployment

    if not deployment.id:
        return None
    with contextlib.suppress(Exception), get_client(sync_client=True) as client:  # only a name
        found = client.read_deployment(UUID(str(deployment.id))).parameters.get("config")
        return found if isinstance(found, Mapping) else None
    return None


def _filled(config: Any, base: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return settings with their defaults, so that they can be compared with whole ones."""
    with contextlib.suppress(ValueError):
        return _plain(type(config).model_validate(base))
    return base


def _plain(config: Any) -> dict[str, Any]:
    if hasattr(config, "model_dump"):
        return dict(config.model_dump(mode="json"))
    return dict(config) if isinstance(config, Mapping) else {}


def _short(value: Any) -> str:
    """Write a value in a few letters, without the square brackets that break Prefect's --watch."""
    text = str(value).replace("[", "(").replace("]", ")")
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
