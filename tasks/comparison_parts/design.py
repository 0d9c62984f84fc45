"""What a page says of a comparison as a whole: its methods, and how it was made."""

from paraknow_core.evaluation.metrics import METRICS
from paraknow_core.methods import used_by
from paraknow_core.report.page.data import ShownMethod
from paraknow_core.statistics.judge import about
from tasks.comparison_parts.config import ArmReport, ComparisonConfig


def methods_of(config: ComparisonConfig) -> tuple[ShownMethod, ...]:
    """List the methods that any cell has, in their order."""
    found = {arm.name: arm for cell in config.cells for arm in cell.arms}
    return tuple(_shown(arm) for arm in found.values())


def _shown(arm: ArmReport) -> ShownMethod:
    kind, text = about(arm.start, arm.by_role, loss=arm.trained_on)
    used = used_by(arm.start, *arm.by_role, outputs=arm.loss == "distillation")
    return ShownMethod(name=arm.name, kind=kind, about=text, uses=used)


def design_of(config: ComparisonConfig) -> dict[str, str]:
    """Say in words how the comparison was made."""
    return {
        "seeds": f"{len(config.wanted_seeds)}, paired: the same data order for every method",
        "learning rates": _fixed_rates(config) if config.has_fixed_rates else _tried_rates(config),
        "metric": f"{_primaries(config)}, mean over seeds",
    }


def _tried_rates(config: ComparisonConfig) -> str:
    rates = sorted({rate for cell in config.cells for arm in cell.arms for rate, _ in arm.trials})
    tried = ", ".join(f"{rate:g}" for rate in rates)
    return f"{tried}; each method's own, by least validation loss"


def _fixed_rates(config: ComparisonConfig) -> str:
    given = {a.name: a.rate for c in config.cells for a in c.arms if a.rate is not None}
    rates = ", ".join(f"{name} {rate:g}" for name, rate in given.items())
    return f"{rates}; fixed in the settings, not tuned"


def _primaries(config: ComparisonConfig) -> str:
    """What the verdicts are about, and on what it is measured; with the task where they differ."""
    metrics = {cell.task: METRICS.choose(cell.primary) for cell in config.cells}
    titles = {metric.title for metric in metrics.values()}
    each = ", ".join(f"{metric.title} ({task})" for task, metric in metrics.items())
    told = titles.pop() if len(titles) == 1 else each
    places = {"benchmark's questions" if m.source else "test split" for m in metrics.values()}
    return f"{told} on the {' or '.join(sorted(places, reverse=True))}"
