"""What a number of seeds and a family of comparisons can show, and Holm's correction."""

import math
from collections.abc import Hashable, Mapping
from typing import TypeVar

from paraknow_core.errors import ConfigError

Name = TypeVar("Name", bound=Hashable)

MIN_SEEDS = 5
"""Fewer give no verdict."""
DEFAULT_SEEDS = 8


def smallest_p(n: int) -> float:
    """The smallest p an exact two-sided sign-flip test over n pairs can give: 2 / 2**n."""
    return min(1.0, 2.0 ** (1 - n))


def largest_family(n: int, alpha: float = 0.05) -> int:
    """How many comparisons Holm's correction stands before n seeds can show nothing at all.

    The smallest adjusted p is m · `smallest_p`; this is the largest m with that below ``alpha``.
    """
    return max(0, math.ceil(alpha / smallest_p(n)) - 1)


def describe_design(n: int, *, family: int = 1, alpha: float = 0.05) -> str:
    """One or two sentences: what n seeds with a family of comparisons can and cannot show."""
    floor = smallest_p(n)
    adjusted = min(1.0, family * floor)
    text = f"With {n} paired seeds the sign-flip test cannot go below p = {floor:.3g}"
    text += f", which is {adjusted:.3g} after Holm's correction for {family}" * (family > 1)
    if adjusted < alpha:
        return f"{text}; p < {alpha:g} can be reached."
    return f"{text}: p < {alpha:g} cannot be reached, whatever the methods do."


def holm(p_values: Mapping[Name, float]) -> dict[Name, float]:
    """Adjust p-values so that the chance of any false one among them stays below alpha.

    Holm (1979): sorted upwards p(1) … p(m), the adjusted p(i) is the largest of (m − j + 1) ·
    p(j) over j ≤ i, at most 1.

    Raises:
        ConfigError: for a value outside 0..1.
    """
    adjusted: dict[Name, float] = {}
    highest = 0.0
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        if not 0 <= p_values[name] <= 1:
            raise ConfigError(f"a p-value is between 0 and 1, got {p_values[name]} for {name!r}")
        highest = max(highest, (len(p_values) - place) * p_values[name])
        adjusted[name] = min(1.0, highest)
    return {name: adjusted[name] for name in p_values}
