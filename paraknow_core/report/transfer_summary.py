"""The arms of one run compared, in numbers and in sentences that claim no more than they show."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from paraknow_core.divergence import RULE
from paraknow_core.errors import DivergedError
from paraknow_core.evaluation.items import Item
from paraknow_core.evaluation.metric import Metric
from paraknow_core.evaluation.metrics import (
    LOSS,
    REPORTED,
    EvaluationResult,
    check_not_diverged,
    metrics_of,
)
from paraknow_core.methods import METHODS, TRANSFER, VANILLA, arms_among, transfer_among
from paraknow_core.report.benchmarks import BenchmarkRow, as_table
from paraknow_core.statistics.paired_items import (
    PairedDifference,
    describe_difference,
    paired_difference,
)

ONE_RUN = (
    "One training run of each arm: the intervals cover the test items, not other seeds. A "
    "difference between two trainings of different seeds can be as large."
)


def arm_name(arm: str) -> str:
    """How an arm is called in a report."""
    if arm not in METHODS:
        return f"{arm} student"
    method = METHODS[arm]
    return f"control: {arm}" if method.is_control else method.title or arm


def compare_arms(
    arms: Mapping[str, Sequence[Item]],
    diverged: Mapping[str, str] | None = None,
    *,
    primary: str | Metric = LOSS,
    metrics: Sequence[str] = REPORTED,
    asked: Mapping[str, Sequence[Item]] | None = None,
) -> dict[str, Any]:
    """Compare the transfer with the other arms of one run, item by item.

    An arm whose training diverged is listed with its reason, and compared with nothing.

    Args:
        arms: of ``every_arm``, on the same items; the untouched student among them.
        diverged: arm → by which rule its training diverged, as far as the caller knows; one whose
            training ended without an adapter has no items.
        primary: the metric that the verdict is about, or its name.
        metrics: names of those that are told.
        asked: arm → questions of the benchmark that the primary metric is of, if it is one's.

    Returns:
        ``metrics`` of each arm; ``differences`` of the transfer to each other arm, with 95 %
        intervals (paired over items) and p-values; ``verdict`` and ``caveats`` in words; and where
        there are any, ``diverged``: arm → reason; ``primary`` where it is another than usual.
    """
    reported = metrics_of(metrics, primary)
    values = {
        name: EvaluationResult(tuple(items), tuple(m.name for m in reported)).metrics
        for name, items in arms.items()
    }
    first, questions = reported[0], asked or {}
    for name, items in questions.items():
        values[name][first.name] = first.pooled(items)
    lost = {**_diverged(values), **(diverged or {})}
    sound = [name for name in arms if name not in lost]
    of_arms = {name: (arms[name], questions.get(name, ())) for name in sound}
    transfer = transfer_among({*arms, *lost}) or TRANSFER
    others = [name for name in (*METHODS.among(sound), VANILLA) if name in sound]
    found = {
        other: _differences(of_arms[transfer], of_arms[other], reported)
        for other in others
        if other != transfer and transfer in sound
    }
    lacking = [name for name in METHODS[transfer].controls if name not in {*arms, *lost}]
    caveats = [ONE_RUN, *(said for name in lacking if (said := METHODS[name].missed))]
    summary: dict[str, Any] = {
        "metrics": values,
        "differences": {
            name: {metric: asdict(difference) for metric, difference in pair.items()}
            for name, pair in found.items()
        },
        "verdict": " ".join(_verdict(transfer, found, lost, reported)),
        "caveats": [*caveats, RULE] if lost else caveats,
    }
    named = {"primary": first.name} if first.name != LOSS else {}
    return summary | named | ({"diverged": lost} if lost else {})


def _diverged(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Arm → why its numbers say that its training diverged."""
    found = {}
    for name in metrics:
        try:
            if name != VANILLA:
                check_not_diverged(metrics[name], untouched=metrics.get(VANILLA))
        except DivergedError as error:
            found[name] = str(error)
    return found


def _differences(
    a: tuple[Sequence[Item], Sequence[Item]],
    b: tuple[Sequence[Item], Sequence[Item]],
    reported: Sequence[Metric],
) -> dict[str, PairedDifference]:
    """Compare two arms in each metric; of each, the items of the test split and a benchmark's."""
    on = {m: (a[1], b[1]) if m.source else (a[0], b[0]) for m in reported if m.transform is None}
    return {m.name: paired_difference(*items, m, seed=0) for m, items in on.items()}


def _verdict(
    transfer: str,
    found: Mapping[str, Mapping[str, PairedDifference]],
    lost: Mapping[str, str],
    reported: Sequence[Metric],
) -> list[str]:
    """Sentences about plain LoRA, then about all other arms, then about the teacher."""
    primary, by_name = reported[0], {metric.name: metric for metric in reported}
    told = [f"{_capital(arm_name(name))} {reason.rstrip('.')}." for name, reason in lost.items()]
    baseline = METHODS[transfer].baseline
    if transfer in lost:
        return [*told, "Without a transfer that can be measured there is nothing to compare."]
    if baseline in lost:
        sentences = [f"So the transfer is not compared with {arm_name(baseline)}."]
    elif baseline not in found:
        sentences = [f"Nothing to compare with: {arm_name(baseline)} was switched off."]
    else:
        names = (transfer, arm_name(baseline))
        sentences = [
            describe_difference(*names, difference, by_name[metric])
            for metric, difference in found[baseline].items()
        ]
    rest = {name: found[name][primary.name] for name in _but_plain(found)}
    beaten = [name for name, difference in rest.items() if _is_beaten(difference, primary)]
    return [*told, *sentences, *_others(rest, primary), *_knowledge(transfer, rest, lost, beaten)]


def _but_plain(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are methods, without plain LoRA."""
    return [name for name in METHODS.among(names) if not METHODS[name].is_plain]


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


def _others(differences: Mapping[str, PairedDifference], metric: Metric) -> list[str]:
    """One sentence for each outcome of the transfer against start points and controls."""
    outcomes: dict[str, list[str]] = {
        "visibly better than": [],
        "visibly worse than": [],
        "not told apart from": [],
    }
    for name, difference in differences.items():
        is_better = metric.is_better(difference.mean)
        kind = "visibly better than" if is_better else "visibly worse than"
        outcomes[kind if difference.visible else "not told apart from"].append(arm_name(name))
    return [
        f"In {metric.label} the transfer is {outcome} {', '.join(names)}."
        for outcome, names in outcomes.items()
        if names
    ]


def _knowledge(
    transfer: str, names: Iterable[str], lost: Mapping[str, str], beaten: Collection[str]
) -> list[str]:
    """Say plainly whether the controls were beaten that a claim about the teacher has to beat."""
    untold = [name for name in lost if METHODS[name].is_needed_by(transfer)]
    if untold:
        return [
            f"As {', '.join(untold)} diverged, this run does not show that the teacher's knowledge "
            "moved."
        ]
    needed = [name for name in names if METHODS[name].is_needed_by(transfer)]
    unbeaten = [name for name in needed if name not in beaten]
    if unbeaten:
        return [
            f"As {', '.join(unbeaten)} {'is' if len(unbeaten) == 1 else 'are'} not beaten, this "
            "run does not show that the teacher's knowledge moved."
        ]
    if needed:
        return [f"It beats each control here that a claim about the teacher needs: {len(needed)}."]
    return []


def _is_beaten(difference: PairedDifference, metric: Metric) -> bool:
    return difference.visible and metric.is_better(difference.mean)


def as_markdown(summary: Mapping[str, Any]) -> str:
    """Write a comparison as a Markdown table with its verdict."""
    measured = {name: None for values in summary["metrics"].values() for name in values}
    reported = metrics_of(measured or REPORTED, summary.get("primary", LOSS))
    lines = [
        f"| | {' | '.join(metric.title for metric in reported)} | items |",
        f"|---|{'---:|' * len(reported)}---:|",
    ]
    for name in arms_among((*summary["metrics"], *summary.get("diverged", {}))):
        if name in summary["metrics"]:
            m = summary["metrics"][name]
            values = " | ".join(
                _number(m[metric.name], metric.digits) if metric.name in m else "–"
                for metric in reported
            )
            lines.append(f"| {arm_name(name)} | {values} | {m['items']} |")
        elif name in summary.get("diverged", {}):
            lines.append(f"| {arm_name(name)} | diverged |{' – |' * len(reported)}")
    caveats = [f"- {caveat}" for caveat in summary["caveats"]]
    told = _told(summary["differences"], reported[0])
    text = "\n".join([*lines, "", summary["verdict"], "", *told, *caveats, ""])
    return text + as_table(*_benchmarks(summary))


def _benchmarks(summary: Mapping[str, Any]) -> tuple[list[BenchmarkRow], dict[str, str]]:
    """Rows of benchmarks, and how their arms are called."""
    rows = [BenchmarkRow.of(fields) for fields in summary.get("benchmarks", ())]
    arms = dict.fromkeys(score.method for row in rows for score in row.scores)
    return rows, {arm: arm_name(arm) for arm in arms}


def _number(value: float | None, digits: int) -> str:
    """A metric; None is how JSON keeps one that is not finite."""
    return "not finite" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _told(differences: Mapping[str, Any], metric: Metric) -> list[str]:
    """A second table where there are start points without a teacher, or controls."""
    names = _but_plain(differences)
    lines = [
        f"| transfer minus | {metric.label}, 95 % interval | p | what it tells |",
        "|---|---:|---:|---|",
    ]
    for name in names:
        d = differences[name][metric.name]
        mean, low, high = (f"{d[end]:+.{metric.digits}f}" for end in ("mean", "low", "high"))
        lines.append(
            f"| {arm_name(name)} | {mean} ({low} to {high}) | {d['p_value']:.2g} | "
            f"{METHODS[name].tells} |"
        )
    return [*lines, ""] if names else []
