"""What a page shows, as plain frozen dataclasses that are JSON both ways.

``None`` stands for a number that does not exist (nothing measured, NaN, infinity). Every text may
be hostile: it is escaped where it is shown, never here.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Self

from paraknow_core.errors import DataError
from paraknow_core.report.benchmarks import BenchmarkRow
from paraknow_core.report.page.diagnosis import (
    Arrived,
    Cka,
    ModuleFact,
    NovelMatrix,
    Sensitivity,
    ShownWindow,
    Spectrum,
)
from paraknow_core.report.page.outcome import Curve, Measure, Prediction, Score, Trial
from paraknow_core.report.page.proof import PairOrder, Untrained
from paraknow_core.statistics.contrast import Contrast
from paraknow_core.strict_model import Part

VERSION = 2
"""Of the JSON form; raised when a field is renamed, removed, or means something else."""

KINDS = ("baseline", "method", "control")


@dataclass(frozen=True, kw_only=True)
class ShownMethod(Part):
    """A way to start the adapter.

    Attributes:
        name: as everywhere else in the data.
        kind: ``baseline`` (what has to be beaten), ``method``, or ``control``.
        about: what it is, in one sentence.
        uses: what of the teacher it uses, in words; empty: nothing, or unknown.
    """

    name: str
    kind: str = "method"
    about: str = ""
    uses: str = ""


@dataclass(frozen=True, kw_only=True)
class Cost(Part):
    """What one step of a pair cost.

    Attributes:
        step: its name, such as ``finetune``.
        seconds: computing time of all its runs, each counted once however often it was reused.
        runs: different results of this step.
        reused: how many of them were in the store already.
    """

    step: str
    seconds: float
    runs: int = 1
    reused: int = 0


@dataclass(frozen=True, kw_only=True)
class Origin(Part):
    """Where one number came from: a stored result.

    Attributes:
        label: what the result is to this pair, such as ``finetune PiSSA, seed 3``.
        step: name of the step.
        key: its step key, in full.
        digest: digest of its content, in full.
        seconds: computing time.
        finished: ISO time, or empty.
        facts: further small facts, name → text.
    """

    label: str
    step: str
    key: str
    digest: str = ""
    seconds: float | None = None
    finished: str = ""
    facts: dict[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class Failure(Part):
    """A cell of the comparison that gave no number.

    Attributes:
        cell: which one, such as ``PiSSA, seed 3, learning rate 0.004``.
        reason: the error's own words.
        method: whose, by a method's name; empty: of the pair as a whole.
        seed: the seed of the test that has no result; None: no single seed.
        whole: whether for this no seed of the method was run.
        diverged: whether that is what its training did, and no fault.
    """

    cell: str
    reason: str
    method: str = ""
    seed: int | None = None
    whole: bool = False
    diverged: bool = False


@dataclass(frozen=True, kw_only=True)
class Pair(Part):
    """One teacher, one student, one task.

    Attributes:
        name: how the pair is called.
        teacher: name and size, for people.
        student: the same.
        task: name of the task.
        metric: what scores, contrasts and the verdict are about.
        beside: other metrics, in the order in which they are shown.
        verdict: the one sentence that the numbers allow.
        teacher_matters: whether the controls are beaten (None: not tested).
        scores: each method's result on test.
        contrasts: paired differences, in the order of the forest plot.
        curves: learning curves.
        trials: the learning-rate sweep on validation.
        sensitivity: of the teacher's parameters on the seed samples.
        windows: what is taken from the teacher's matrices.
        spectra: singular values of what is taken.
        modules: size and direction of each start point.
        untrained: what each start point scores without training.
        benchmarks: of lm-evaluation-harness, a metric of a task each.
        novelty: what the teacher's tokens differ by and the untouched student's cannot.
        arrived: how much of that each method's student has after training.
        cka: likeness of the layers of the teacher and the student.
        predictions: test rows with each method's answer.
        costs: computing time by step.
        origins: the stored results behind the numbers.
        failures: what gave no number.
        notes: sentences that belong under the verdict, such as of contamination.
    """

    name: str
    teacher: str
    student: str
    task: str = ""
    metric: Measure = field(default_factory=Measure.usual)
    beside: tuple[Measure, ...] = ()
    verdict: str = ""
    teacher_matters: bool | None = None
    scores: tuple[Score, ...] = ()
    contrasts: tuple[Contrast, ...] = ()
    curves: tuple[Curve, ...] = ()
    trials: tuple[Trial, ...] = ()
    sensitivity: Sensitivity | None = None
    windows: tuple[ShownWindow, ...] = ()
    spectra: tuple[Spectrum, ...] = ()
    modules: tuple[ModuleFact, ...] = ()
    untrained: tuple[Untrained, ...] = ()
    benchmarks: tuple[BenchmarkRow, ...] = ()
    novelty: tuple[NovelMatrix, ...] = ()
    arrived: tuple[Arrived, ...] = ()
    cka: Cka | None = None
    predictions: tuple[Prediction, ...] = ()
    costs: tuple[Cost, ...] = ()
    origins: tuple[Origin, ...] = ()
    failures: tuple[Failure, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def has_compute(self) -> bool:
        """Whether it is known of any method what its training took."""
        return any(score.flops or score.seconds for score in self.scores)

    @property
    def starts_by_loss(self) -> tuple[tuple[str, ...], tuple[tuple[str, tuple[str, ...]], ...]]:
        """Start points × losses, of the start points that were trained on more than one.

        Returns:
            The losses; and for each start point one text a loss: means with their methods' names.
            Both are empty where all were trained on the same.
        """
        met: dict[str, set[str]] = {}
        for score in self.scores:
            met.setdefault(score.start, set()).add(score.loss)
        starts = [start for start, losses in met.items() if len(losses) > 1]
        losses = dict.fromkeys(score.loss for score in self.scores if score.start in starts)
        return tuple(losses), tuple(
            (start, tuple(self._means_of(start, loss) for loss in losses)) for start in starts
        )

    def _means_of(self, start: str, loss: str) -> str:
        found = [score for score in self.scores if (score.start, score.loss) == (start, loss)]
        return "; ".join(
            f"{'–' if s.mean is None else format(s.mean, f'.{self.metric.digits}f')} ({s.method})"
            for s in found
        )

    def missing_seeds(self, *methods: str) -> str:
        """Say how many seeds of these methods have no result, and why; nothing if all have one."""
        mine = [f for f in self.failures if f.method in methods]
        for failure in mine:
            if failure.whole:
                return "all diverged" if failure.diverged else "all failed"
        lost = [f for f in mine if f.seed is not None]
        diverged = len({f.seed for f in lost if f.diverged})
        failed = len({f.seed for f in lost if not f.diverged})
        told = ((diverged, "diverged"), (failed, "failed"))
        return ", ".join(f"{count} {what}" for count, what in told if count)


@dataclass(frozen=True, kw_only=True)
class Comparison(Part):
    """A whole comparison.

    Attributes:
        title: of the page.
        created: ISO time, or empty.
        summary: the comparison in one or two sentences.
        design: name → text: seeds, learning rates, trials, items, what it can see at least.
        methods: in the order in which they are listed and coloured.
        pairs: in the order in which they are shown.
        orders: pairs that differ in their teacher alone, put in order.
        environment: name → text: versions, hardware.
        caveats: what the numbers do not show.
        version: of this form.
    """

    title: str
    methods: tuple[ShownMethod, ...]
    pairs: tuple[Pair, ...]
    orders: tuple[PairOrder, ...] = ()
    created: str = ""
    summary: str = ""
    design: dict[str, str] | None = None
    environment: dict[str, str] | None = None
    caveats: tuple[str, ...] = ()
    version: int = VERSION

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; NaN and infinity become null."""
        plain: dict[str, Any] = _plain(asdict(self))
        return plain

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> Self:
        """Rebuild from ``to_json``'s values.

        Raises:
            DataError: if it is of another version, or a field is missing, unknown or of another
                type; names the place.
        """
        from pydantic import TypeAdapter, ValidationError

        if fields.get("version") != VERSION:
            raise DataError(
                f"Comparison data of version {fields.get('version')!r}; this program reads "
                f"{VERSION}. Write the page with the program that wrote the data."
            )
        try:
            # Through JSON text, where a list may stand for a tuple even under strict rules.
            found = TypeAdapter(cls).validate_json(json.dumps(fields), strict=True)
        except (ValidationError, TypeError, ValueError) as error:
            raise DataError(f"Not the data of a comparison: {error}") from error
        return found

    @property
    def measures(self) -> tuple[Measure, ...]:
        """What the pairs' verdicts are about, each once."""
        return tuple(dict.fromkeys(pair.metric for pair in self.pairs))

    @property
    def about_differences(self) -> str:
        """What a paired difference is in, and on which side of zero the method is better."""
        said = " or ".join(measure.title for measure in self.measures)
        sides = {measure.better for measure in self.measures}
        if len(sides) == 1:
            return f"{said}; {sides.pop()} zero the method is better"
        told = (f"in {measure.title} {measure.better} zero" for measure in self.measures)
        return f"{said}; the method is better {', '.join(told)}"

    def method(self, name: str) -> ShownMethod:
        """The method of a name; one that is not declared is shown as a plain method."""
        return next((m for m in self.methods if m.name == name), ShownMethod(name=name))


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _plain(item) for name, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
