"""How values are written for people."""

import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Final

from artifacts.canonical import Json
from artifacts.keys import Absent
from artifacts.queries.explain import Explanation
from artifacts.records import Record
from paraknow_core.printable import one_line

SHOWN: Final = 12  # digits of a key in a table; any unique prefix is accepted back


def human_age(seconds: float) -> str:
    """Write a span of time in the unit that suits it."""
    minutes = max(0.0, seconds) / 60
    if minutes < 120:
        return f"{minutes:.0f} min"
    return f"{minutes / 60:.0f} h" if minutes < 48 * 60 else f"{minutes / 1440:.0f} d"


def age_of(finished: str) -> float | None:
    """Return the seconds since a result was finished, None for what is no date, such as ""."""
    try:
        then = datetime.fromisoformat(finished).astimezone(UTC)
    except ValueError:
        return None
    return (datetime.now(UTC) - then).total_seconds()


def text_of(record: Record, field: str) -> str:
    """Return a text of a record's provenance, "" if it is not there."""
    value = record.provenance.get(field)
    return value if isinstance(value, str) else ""


def name_of(record: Record | None) -> str:
    """Name a result by step and key."""
    return f"{record.step} {record.key[:SHOWN]}" if record is not None else "an unknown step"


def value_text(value: Json | Absent) -> str:
    """Write a setting's value on one line."""
    return "absent" if isinstance(value, Absent) else json.dumps(value, ensure_ascii=False)


def explanation_lines(
    found: Iterable[Explanation], names: tuple[str, str], indent: str = "  "
) -> Iterator[str]:
    """Yield lines that say in what two keys differ; ``names`` is what the two are called."""
    first, second = names
    for item in found:
        field, a, b = item.difference
        yield f"{indent}{one_line(field)}: {value_text(a)} {first}, {value_text(b)} {second}"
        if item.a is not None or item.b is not None:
            made = f"{name_of(item.a)} {first}, by {name_of(item.b)} {second}"
            yield f"{indent}  made by {made}"
        if item.because:
            yield f"{indent}  which differ in"
            yield from explanation_lines(item.because, names, indent + "    ")
