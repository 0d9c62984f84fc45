"""What a comparison reports on: pairs, methods, seeds, and the roles of their results."""

from pydantic import Field

from paraknow_core.distillation.recipe import DistillationRecipe, loss_name
from paraknow_core.evaluation.metrics import LOSS, REPORTED
from paraknow_core.settings import Settings, execution, later
from paraknow_core.statistics.arm_result import Loss
from tasks.comparison_parts.proof_config import ProofConfig

ALL = "all"
"""Stands for the method itself where otherwise a trial or seed is named."""

TUNED = (
    "Each method's learning rate was chosen on the validation split alone; the test split was not "
    "looked at for it."
)
FIXED = (
    "Each method's learning rate was fixed in the settings, not tuned in this comparison; at other "
    "rates the order of the methods may be another."
)
CAVEATS = (
    "Intervals over seeds cover other training seeds of these very models and data, not other "
    "models or data.",
    TUNED,
    "Only the comparisons of a verdict are corrected for their number (Holm), each pair's and "
    "task's for itself and those of the sentence about all cells for all; the others are "
    "exploratory.",
)


class ArmReport(Settings):
    """What one method of a cell did, in addition to what its steps stored."""

    name: str
    start: str
    rate: float | None = None
    trials: tuple[tuple[float, float | None], ...] = ()
    """Learning rate, mean validation loss; None where it failed."""
    at_edge: bool = False
    seeds: tuple[int, ...] = ()
    """Those with a result."""
    failures: dict[str, str] = Field({})
    """Which trial or seed → why it has none."""
    diverged: dict[str, str] = later({})
    """Which trial or seed → by which rule its training diverged."""
    distillation: DistillationRecipe | None = later(None)
    """How it learned from the teacher's outputs, if it did."""
    epochs: int = later(0)
    """Passes over the training rows; 0: not told."""
    by_role: tuple[str, ...] = later(())
    """Further methods that parts of its start point come from."""
    adapters: tuple[str, ...] = execution(())
    """Keys of its seeds' trainings: their records say what they took."""

    @property
    def loss(self) -> Loss:
        """What it was trained on."""
        return "answers" if self.distillation is None else "distillation"

    @property
    def trained_on(self) -> str:
        """What its loss was made of, in words."""
        return loss_name(self.distillation)

    @property
    def has_fixed_rate(self) -> bool:
        """Whether its learning rate was given, where others are chosen by trials."""
        return self.rate is not None and not self.trials


class CellReport(Settings):
    """One pair on one task."""

    pair: str
    task: str
    arms: tuple[ArmReport, ...] = ()
    failure: str = ""
    """Why none of its methods began."""
    primary: str = later(LOSS)
    """Name of the metric that the verdict is about."""
    metrics: tuple[str, ...] = later(REPORTED)
    """Names of those that were measured."""
    margin: float | None = later(None)
    """The least gain that matters; None: the primary metric's own."""
    benchmarks: tuple[str, ...] = later(())
    """Titles of those of lm-evaluation-harness that were measured."""
    judging: str = later("")
    """Why no judge says anything of the answers, if one was to: a sentence."""
    results: tuple[tuple[str, str, bool], ...] = execution(())
    """Label, key, whether it was there already: of every step, in the run that drew the page."""


class ComparisonConfig(Settings):
    """What the report is about; its numbers are read from its inputs."""

    name: str
    cells: tuple[CellReport, ...]
    wanted_seeds: tuple[int, ...]
    words: int = later(1)
    """Of which version the sentences are. 2: something is missing, of which 1 said what was not
    true. 3: items are drawn as well as seeds, a gain is excluded by its margin or not shown, and a
    design that can show nothing says so. 4: what of the teacher each method uses, what it was
    trained on, and what that took. 5: a student that gets worse along an order of pairs. All have
    the same numbers."""
    proof: ProofConfig = later(ProofConfig())
    """What besides the verdicts is to show that the teacher matters."""
    created: str = execution("")
    """When the page was drawn, ISO time."""

    @property
    def has_fixed_rates(self) -> bool:
        """Whether any method's learning rate was given instead of chosen."""
        return any(arm.has_fixed_rate for cell in self.cells for arm in cell.arms)

    @property
    def caveats(self) -> tuple[str, ...]:
        """What a reader of the report has to know, whatever it found."""
        if not self.has_fixed_rates:
            return CAVEATS
        return tuple(FIXED if caveat == TUNED else caveat for caveat in CAVEATS)


def cell_role(cell: int, what: str) -> str:
    """Name an input that belongs to a cell, such as its ``scores``."""
    return f"c{cell}-{what}"


def arm_role(cell: int, arm: int, what: str, seed: int | None = None) -> str:
    """Name the input of one method, or of one of its seeds."""
    return f"c{cell}-a{arm}-{what}" + ("" if seed is None else f"-s{seed}")


def seed_name(seed: int) -> str:
    """Name one seed among what gave no number."""
    return f"seed {seed}"
