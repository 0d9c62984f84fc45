"""Choices by name: one way to look one up, one way to say that there is none of that name."""

import difflib
from collections.abc import Mapping
from typing import TypeVar

from paraknow_core.errors import ParaknowError

T = TypeVar("T")


def choose(kind: str, name: str, known: Mapping[str, T], error: type[ParaknowError]) -> T:
    """Return what is registered under a name.

    Args:
        kind: what is chosen, for the message.
        name: as the user gave it.
        known: name to choice.
        error: raised where there is none of that name; it names the known ones and the nearest.
    """
    if name in known:
        return known[name]
    near = difflib.get_close_matches(name, known, n=1, cutoff=0.4)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise error(f"unknown {kind} {name!r}; known are {', '.join(known)}{hint}")
