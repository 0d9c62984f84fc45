"""What a number of seeds and a family of comparisons can show, and Holm's correction."""

import math
from collections.abc import Collection, Hashable, Mapping
from typing import TypeVar

from paraknow_core.errors import ConfigError

Name = TypeVar("Name", bound=Hashable)

LEAST_SEEDS = 2
"""Fewer shared seeds give no interval, and no comparison at all."""
DEFAULT_SEEDS = 8
"""Their smallest p, .0078, is still below .05 after Holm's correction for six comparisons."""


def count_seeds(count: int) -> str:
    """Write a number of seeds."""
    return "no seed" if count == 0 else f"{count} seed{'s' * (count > 1)}"


def shortfall(
    results: int, diverged: Collection[int], failed: Collection[int], lost: str = ""
) -> str:
    """Say in words which of a method's seeds have no result, and why; nothing if all have one.

    Args:
        results: number of seeds with one.
        diverged: seeds whose training diverged.
        failed: seeds that gave an error.
        lost: why not even one seed was run.
    """
    if lost:
        return lost
    total = results + len(diverged) + len(failed)
    return ", ".join(
        f"{len(seeds)} of {total} seeds {what} ({', '.join(map(str, sorted(seeds)))})"
        for seeds, what in ((diverged, "diverged"), (failed, "failed"))
        if seeds
    )


def smallest_p(n: int) -> float:
    """The smallest p an exact two-sided sign-flip test over n pairs can give: 2 / 2**n."""
    return min(1.0, 2.0 ** (1 - n))


def largest_family(n: int, alpha: float = 0.05) -> int:
    """The most comparisons for which n seeds can show something after Holm's correction.

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


def seeds_needed(family: int, alpha: float = 0.05) -> int:
    """The fewest seeds with which a family of comparisons can show anything.

    With m comparisons n seeds have to satisfy m · 2 / 2**n < alpha.
    """
    n = LEAST_SEEDS
    while largest_family(n, alpha) < family:
        n += 1
    return n


def out_of_reach(n: int, *, family: int, alpha: float = 0.05) -> str:
    """Say that n seeds can show nothing in a family of comparisons, and how many could.

    Returns "" where something can be shown.
    """
    if family <= largest_family(n, alpha):
        return ""
    compared = f"{family} comparison{'s' * (family > 1)}"
    return (
        f"with {n} seeds and {compared} nothing can be shown, as p < {alpha:g} cannot be reached; "
        f"{seeds_needed(family, alpha)} seeds can"
    )


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
