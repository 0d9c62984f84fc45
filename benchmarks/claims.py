"""How often "owed to what the teacher learnt" is said falsely, and how often rightly.

    python -m benchmarks.claims [--repetitions 1000]

simulates whole comparisons, tuning included, with the project's own search over learning rates,
tests and verdict, and prints the tables of ``docs/statistics.md``. Lengths are in standard
deviations of a paired difference between two methods in one seed.

A method's loss in a seed is curvature · (x − optimum)² plus noise; x is the logarithm of its
learning rate in steps of the grid, and the optimum is drawn anew for every method of every
comparison: it may lie beyond the grid on both sides. The noise of a trial on validation is as
large as that of a seed on test. What tuning got wrong is the same in all seeds of a method, so no
test over seeds sees it: that is what makes false claims.

A claim is false where the transfer is not really better than plain LoRA: all methods are equal, or,
which is the hardest case, all others are far worse and plain LoRA alone has to be told apart.

Legend: S = seeds of the test.
"""

import argparse
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paraknow_core.evaluation.metrics import METRICS
from paraknow_core.method import USUAL_RATES
from paraknow_core.methods import METHODS, TRANSFER
from paraknow_core.statistics.design import holm
from paraknow_core.statistics.paired_seeds import compare_seeds, seed_test
from paraknow_core.statistics.rate_search import RateSearch
from paraknow_core.statistics.verdict import knowledge_controls, pair_verdict, questions

if TYPE_CHECKING:
    from numpy.random import Generator

METRIC = METRICS["answer_nll"]
OTHERS = questions(TRANSFER)
BASELINE = METHODS[TRANSFER].baseline
NEEDED = (BASELINE, *knowledge_controls(TRANSFER, ()))
OWN_NOISE = math.sqrt(0.5)
"""Of one method in one seed, so that differences have a standard deviation of 1."""
REACH = 1.5
"""How far an optimum may lie from the middle of the grid, in steps; the grid itself reaches 1."""
ONE_SEED = RateSearch(USUAL_RATES, (1000,), halving=False, extensions=0, refine=False)
USUAL = RateSearch(USUAL_RATES, (1000, 1001, 1002))
CURVATURES = (0.0, 0.5, 1.0, 2.0, 4.0)
FAR = 4.0
SEEDS, GAINS = (5, 8, 10), (1.0, 1.5, 2.0)


@dataclass(frozen=True)
class Case:
    """What comparisons are simulated.

    Attributes:
        search: how rates are tuned.
        seeds: of the test.
        curvature: how much is lost one step of the grid beside the optimum.
        gain: by how much the transfer is really better than plain LoRA.
        lead: by how much it is really better than all others, its controls among them.
    """

    search: RateSearch
    seeds: int
    curvature: float
    gain: float = 0.0
    lead: float = 0.0


def share_of_claims(case: Case, repetitions: int, rng_seed: int = 0) -> float:
    """The share of simulated comparisons in which the verdict names the teacher as the cause."""
    import numpy as np

    generator = np.random.default_rng(rng_seed)
    return sum(_claims(case, generator) for _ in range(repetitions)) / repetitions


def _claims(case: Case, generator: "Generator") -> bool:
    tested, at_edge = {}, []
    for name in (TRANSFER, *OTHERS):
        level, edge = _tuned(case, generator)
        worse = 0.0 if name == TRANSFER else case.gain if name == BASELINE else case.lead
        tested[name] = level + worse + OWN_NOISE * generator.normal(size=case.seeds)
        if edge:
            at_edge.append(name)
    for name in NEEDED:  # no claim without these: it saves the bootstrap of the others
        difference_S = tested[TRANSFER] - tested[name]
        if difference_S.mean() >= 0 or seed_test(difference_S) >= 0.05:
            return False
    values = {name: dict(enumerate(map(float, of_S))) for name, of_S in tested.items()}
    compared = {
        name: compare_seeds(values[TRANSFER], values[name], resamples=1_000) for name in OTHERS
    }
    adjusted = holm({name: c.p_value for name, c in compared.items()})
    return pair_verdict(compared, adjusted=adjusted, metric=METRIC, lr_at_edge=at_edge).teacher


def _tuned(case: Case, generator: "Generator") -> tuple[float, bool]:
    """What a method loses at the rate that was chosen for it, and whether that is at the edge."""
    rates = case.search.rates
    step = math.log(rates[-1] / rates[0]) / (len(rates) - 1)
    middle = math.log(rates[0] * rates[-1]) / 2
    optimum = generator.uniform(-REACH, REACH)

    def lost(rate: float) -> float:
        return case.curvature * ((math.log(rate) - middle) / step - optimum) ** 2

    losses: dict[tuple[float, int], float] = {}
    while wanted := case.search.wanted(losses):
        for rate, seed in wanted:
            losses[rate, seed] = lost(rate) + OWN_NOISE * float(generator.normal())
    best = case.search.best(losses)
    assert best is not None
    return lost(best), case.search.at_edge(losses)


def false_claims(repetitions: int) -> list[list[str]]:
    """Rows of the first table: curvature, then the share of false claims by null and tuning."""
    return [
        [
            f"{curvature:g}",
            *(
                f"{share_of_claims(Case(search, 8, curvature, lead=lead), repetitions):.3f}"
                for lead in (0.0, FAR)
                for search in (ONE_SEED, USUAL)
            ),
        ]
        for curvature in CURVATURES
    ]


def power(repetitions: int) -> list[list[str]]:
    """Rows of the second table: seeds, then the share of right claims at every gain."""
    cases = {n: [Case(USUAL, n, 1.0, gain, lead=gain) for gain in GAINS] for n in SEEDS}
    return [
        [str(n), *(f"{share_of_claims(case, repetitions):.2f}" for case in of)]
        for n, of in cases.items()
    ]


def as_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Write a table in Markdown."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


FALSE_HEAD = (
    "curvature",
    "all equal: one tuning seed, fixed grid",
    "all equal: as usual",
    "controls far worse: one tuning seed, fixed grid",
    "controls far worse: as usual",
)
POWER_HEAD = ("seeds", *(f"gain of {gain:g} SD" for gain in GAINS))


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description="How often a claim is made, falsely and rightly.")
    parser.add_argument("--repetitions", type=int, default=1_000, help="comparisons a false case")
    repetitions = parser.parse_args().repetitions
    print(as_table(FALSE_HEAD, false_claims(repetitions)), end="\n\n", flush=True)
    print(as_table(POWER_HEAD, power(max(1, repetitions // 3))))


if __name__ == "__main__":
    main()
