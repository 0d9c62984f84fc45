"""Names that must differ, and settings that lie over others."""

from collections.abc import Sequence
from typing import Any


def refuse_doubles(what: str, names: Sequence[Any]) -> None:
    """Refuse a list in which a value stands twice.

    Raises:
        ValueError: names the values.
    """
    doubles = sorted({name for name in names if list(names).count(name) > 1})
    if doubles:
        msg = f"{what} must differ; given twice: {', '.join(map(str, doubles))}"
        raise ValueError(msg)


def merged(shared: dict[str, dict[str, Any]], own: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """Lay a method's settings over the shared ones, step by step."""
    found = {step: dict(values) for step, values in shared.items()}
    for step, values in own.items():
        found[step] = {**found.get(step, {}), **values}
    return found
