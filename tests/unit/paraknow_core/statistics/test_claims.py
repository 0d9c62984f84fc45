"""The page's rates of false and of right claims are what the simulation gives, at a small size."""

import math
from pathlib import Path

import pytest

from benchmarks.claims import (
    FALSE_HEAD,
    FAR,
    GAINS,
    ONE_SEED,
    POWER_HEAD,
    SEEDS,
    USUAL,
    Case,
    as_table,
    share_of_claims,
)

PAGE = (Path(__file__).parents[4] / "docs" / "statistics.md").read_text(encoding="utf-8")
REPETITIONS = 60


def table(head: tuple[str, ...]) -> dict[str, list[float]]:
    """First cell of each row → the other cells."""
    begin = as_table(head, [])
    assert begin in PAGE
    rows = PAGE.split(begin, 1)[1].strip().split("\n\n", 1)[0].splitlines()
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows]
    return {first: [float(cell) for cell in rest] for first, *rest in cells}


def agrees(share: float, printed: float) -> bool:
    """Whether a share of few repetitions may come from the printed probability, at 4 SEs."""
    likely = max(printed, 0.01)
    return abs(share - printed) <= 4 * math.sqrt(likely * (1 - likely) / REPETITIONS)


@pytest.mark.parametrize("curvature", ["0", "2"])
def test_false_claims_are_as_the_page_says(curvature: str) -> None:
    printed = table(FALSE_HEAD)[curvature]
    cases = [
        Case(s, 8, float(curvature), lead=lead) for lead in (0, FAR) for s in (ONE_SEED, USUAL)
    ]
    shares = [share_of_claims(case, REPETITIONS, rng_seed=7) for case in cases]
    assert all(map(agrees, shares, printed)), (shares, printed)
    assert max(printed) < 0.05


def test_power_is_as_the_page_says() -> None:
    printed = table(POWER_HEAD)
    assert printed["5"] == [0.0] * len(GAINS)
    assert share_of_claims(Case(USUAL, SEEDS[0], 1.0, 2.0, lead=2.0), 5) == 0
    share = share_of_claims(Case(USUAL, 8, 1.0, 2.0, lead=2.0), REPETITIONS, rng_seed=7)
    assert agrees(share, printed["8"][-1]), share
    assert share > 0.5
