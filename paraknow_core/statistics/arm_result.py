"""What a comparison knows of one method, and whether two methods can be compared."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from paraknow_core.evaluation.items import Item
from paraknow_core.evaluation.metric import Metric
from paraknow_core.methods import METHODS, Method
from paraknow_core.statistics.answers import Spoilt
from paraknow_core.statistics.design import LEAST_SEEDS, count_seeds, shortfall
from paraknow_core.statistics.paired_seeds import SeedComparison, compare_seeds

Loss = Literal["answers", "distillation"]


@dataclass(frozen=True)
class ArmResult:
    """One method's results on test.

    Attributes:
        name: as it is shown.
        start: a key of ``METHODS``.
        items: seed → items, the same rows for every seed and method.
        at_edge: whether its learning rate is the least or greatest that was tried.
        is_tuned: whether its learning rate was chosen by trials; otherwise it was given.
        diverged: seeds whose training diverged; they have no items here.
        failed: seeds that gave an error instead of a result.
        lost: in a few words why no seed was run, such as that every learning rate diverged.
        loss: what was trained on: the answers of the data alone, or a teacher's outputs as well.
        epochs: passes over the training rows; 0: not known.
        asked: seed → items of the benchmark that the primary metric is of, if it is one's.
    """

    name: str
    start: str
    items: Mapping[int, Sequence[Item]]
    at_edge: bool = False
    is_tuned: bool = True
    diverged: Collection[int] = ()
    failed: Collection[int] = ()
    lost: str = ""
    loss: Loss = "answers"
    epochs: int = 0
    asked: Mapping[int, Sequence[Item]] = field(default_factory=dict)

    @property
    def method(self) -> Method:
        """What it starts from."""
        return METHODS[self.start]

    @property
    def is_variant(self) -> bool:
        """Whether it has settings of its own: a variant of a method is not that method."""
        return self.name != self.start

    @property
    def label(self) -> str:
        """Its name in sentences."""
        if self.is_variant:
            return self.name
        distilled = " with distillation" if self.loss == "distillation" else ""
        return f"{self.method.label}{distilled}"

    @property
    def is_usable(self) -> bool:
        """Whether it can be compared with anything."""
        return len(self.items) >= LEAST_SEEDS

    def items_of(self, metric: Metric) -> Mapping[int, Sequence[Item]]:
        """Seed → the items that a metric is measured on."""
        return self.asked if metric.source else self.items

    def values(self, metric: Metric) -> dict[int, float]:
        """Seed → value of a metric."""
        return {seed: metric.pooled(items) for seed, items in self.items_of(metric).items()}

    def shortfall(self) -> str:
        """Say which seeds have no result, and why; nothing if all have one."""
        return shortfall(len(self.items), self.diverged, self.failed, self.lost)


def gaps_of(arms: Sequence[ArmResult]) -> tuple[str, ...]:
    """One sentence for each method without all of its seeds."""
    return tuple(f"{arm.name}: {told}." for arm in arms if (told := arm.shortfall()))


def lack_of(arm: ArmResult) -> str:
    """Say why a method with too few seeds has no more of them."""
    return arm.shortfall() or f"it has {count_seeds(len(arm.items))}"


def obstacle(arm: ArmResult, other: ArmResult) -> str:
    """Say why two methods cannot be compared; nothing if they can."""
    shared = len(arm.items.keys() & other.items.keys())
    if shared >= LEAST_SEEDS:
        return ""
    lacking = next((a for a in (other, arm) if not a.is_usable), None)
    if lacking is not None:
        return f"{lacking.name}: {lack_of(lacking)}"
    return f"they share {count_seeds(shared)} with a result, and at least {LEAST_SEEDS} are needed"


def spoilt_of(arm: ArmResult, other: ArmResult) -> Spoilt:
    """Seeds in which one side alone diverged, so that leaving them out favours it."""
    return Spoilt(
        first=tuple(sorted(set(arm.diverged) & other.items.keys())),
        other=tuple(sorted(set(other.diverged) & arm.items.keys())),
    )


def compare(arm: ArmResult, other: ArmResult, metric: Metric) -> SeedComparison:
    """Compare two methods over the seeds that both have: the first minus the other."""
    return compare_seeds(
        arm.values(metric), other.values(metric), higher_is_better=metric.higher_is_better
    )
