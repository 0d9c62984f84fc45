"""What benchmarks of lm-evaluation-harness found, as rows of a table: a metric of a task each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from paraknow_core.methods import VANILLA
from paraknow_core.report.markdown import inline
from paraknow_core.strict_model import Part

ABOUT = (
    "By lm-evaluation-harness {version}, with its own filters and metrics. ± is the harness's "
    "standard error over questions{spread}. Intervals are of paired differences over questions "
    "(95 %), not over other trainings."
)
UNTOUCHED = "untouched student"
SPREAD = ", or with several seeds the standard deviation of the seeds' scores"


@dataclass(frozen=True, kw_only=True)
class BenchmarkMean(Part):
    """One method's score on a benchmark.

    Attributes:
        method: a method's name, or the untouched student's.
        mean: over seeds; None: no finite number.
        values: of each seed.
        spread: standard deviation over seeds; of one seed the harness's standard error. None: none.
    """

    method: str
    mean: float | None
    values: tuple[float | None, ...] = ()
    spread: float | None = None


@dataclass(frozen=True, kw_only=True)
class BenchmarkDifference(Part):
    """A method minus another, question by question, each question's mean over the seeds.

    Attributes:
        method: a method's name.
        against: what it is compared with.
        mean: of the differences.
        low: lower end of the 95 % interval over questions.
        high: its upper end.
        p: McNemar's exact test for one seed and right or wrong, else flips of signs.
        n: questions.
        visible: whether interval and test both exclude that there is no difference.
    """

    method: str
    against: str
    mean: float
    low: float
    high: float
    p: float
    n: int
    visible: bool


@dataclass(frozen=True, kw_only=True)
class BenchmarkRow(Part):
    """One metric under one filter, of a task or group.

    Attributes:
        benchmark: as it was asked for.
        task: name in the harness; of a group the group's.
        metric: name in the harness.
        filter: ``none`` where nothing is filtered.
        items: questions.
        shots: examples before each; None: different ones in a group's tasks.
        version: of the definition.
        harness: version of lm-evaluation-harness.
        higher_is_better: None where the definition does not say.
        is_root: whether it is what was asked for, and no part of a group.
        scores: of each method.
        differences: of the transfer to what it has to beat.
    """

    benchmark: str
    task: str
    metric: str
    filter: str = "none"
    items: int = 0
    shots: int | None = None
    version: str = ""
    harness: str = ""
    higher_is_better: bool | None = True
    is_root: bool = True
    scores: tuple[BenchmarkMean, ...] = ()
    differences: tuple[BenchmarkDifference, ...] = field(default=())

    @property
    def name(self) -> str:
        """The metric, with its filter if there is one."""
        return self.metric if self.filter == "none" else f"{self.metric}, {self.filter}"

    @property
    def title(self) -> str:
        """The benchmark, with the task where that is only a part of it."""
        return (
            self.benchmark if self.is_root and self._is_named else f"{self.benchmark}: {self.task}"
        )

    @property
    def _is_named(self) -> bool:
        return self.benchmark.split(" ")[0] == self.task

    def cell(self, method: str) -> str:
        """Write a method's score with its spread."""
        score = next((one for one in self.scores if one.method == method), None)
        if score is None:
            return "–"
        if score.mean is None:
            return "not finite"
        spread = "" if score.spread is None else f" ± {score.spread:.4f}"
        return f"{score.mean:.4f}{spread}"

    def contrast(self, pair: tuple[str, str]) -> str:
        """Write a difference with its interval, p and number of questions."""
        found = next((d for d in self.differences if (d.method, d.against) == pair), None)
        if found is None:
            return "–"
        interval = f"{found.mean:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
        return f"{interval}, p = {found.p:.2g}, n = {found.n}"

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return asdict(self)

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> "BenchmarkRow":
        """Take what ``to_json`` gave, or what JSON made of it."""
        scores = tuple(
            BenchmarkMean(**{**one, "values": tuple(one["values"])}) for one in fields["scores"]
        )
        differences = tuple(BenchmarkDifference(**one) for one in fields["differences"])
        return cls(**{**fields, "scores": scores, "differences": differences})


def about(rows: Sequence[BenchmarkRow]) -> str:
    """Say in a sentence what the numbers of some rows are."""
    versions = ", ".join(sorted({row.harness for row in rows if row.harness}))
    several = any(len(score.values) > 1 for row in rows for score in row.scores)
    return ABOUT.format(version=versions, spread=SPREAD if several else "")


def shown(rows: Sequence[BenchmarkRow]) -> list[BenchmarkRow]:
    """Return the rows of what was asked for, without the parts of groups."""
    return [row for row in rows if row.is_root]


def names_of(rows: Sequence[BenchmarkRow]) -> dict[str, str]:
    """Return how each method of some rows is called: all but the untouched student by its name."""
    found = dict.fromkeys(score.method for row in rows for score in row.scores)
    return {name: UNTOUCHED if name == VANILLA else name for name in found}


def contrasts_of(rows: Sequence[BenchmarkRow]) -> list[tuple[str, str]]:
    """Return what is compared with what in any of some rows."""
    return list(dict.fromkeys((d.method, d.against) for row in rows for d in row.differences))


def as_table(rows: Sequence[BenchmarkRow], names: Mapping[str, str]) -> str:
    """Write benchmarks as Markdown: a heading, a table, and what the numbers are.

    Args:
        rows: of one pair.
        names: method → how it is called, in the order of the columns.
    """
    return "\n".join(_lines(shown(rows), names)) if shown(rows) else ""


def _lines(rows: Sequence[BenchmarkRow], names: Mapping[str, str]) -> Iterator[str]:
    contrasts = contrasts_of(rows)
    minus = [f"{names.get(a, a)} − {names.get(b, b)}" for a, b in contrasts]
    heads = ["benchmark", "metric", "shots", "questions", *names.values(), *minus]
    yield from ("", "**Benchmarks**", "")
    yield f"| {' | '.join(inline(head) for head in heads)} |"
    yield f"|---|---|{'---:|' * (len(heads) - 2)}"
    for row in rows:
        cells: list[object] = [row.title, row.name, row.shots, row.items]
        cells[2] = "mixed" if row.shots is None else row.shots
        cells += [row.cell(name) for name in names]
        cells += [row.contrast(pair) for pair in contrasts]
        yield f"| {' | '.join(inline(one) for one in cells)} |"
    yield from ("", about(rows), "")
