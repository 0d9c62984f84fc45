"""Made-up items and results of a comparison's methods."""

import random

from paraknow_core.evaluation.items import Item
from paraknow_core.statistics.arm_result import ArmResult


def items(nll: float, seed: int, *, right: float = 0.5, count: int = 40) -> list[Item]:
    """Items whose answer NLL is about ``nll``, with a spread over seeds that methods share."""
    shift = random.Random(seed).gauss(0, 0.05)
    draw = random.Random(f"{nll} {seed}")
    return [
        Item(
            str(i), "q", "a", nll + shift + draw.gauss(0, 0.02), 1, "x", "x", "a", i < right * count
        )
        for i in range(count)
    ]


def arm(name: str, nll: float, *, start: str = "", seeds: int = 8, edge: bool = False) -> ArmResult:
    return ArmResult(name, start or name, {s: items(nll, s) for s in range(seeds)}, edge)
