"""What one run's arms show beside each other, in numbers and in words that the numbers carry."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from paraknow_core.divergence import RULE, check_loss
from paraknow_core.errors import DivergedError
from paraknow_core.evaluation.items import EvaluationResult, Item
from paraknow_core.methods import METHODS, TRANSFER, VANILLA, arms_among, transfer_among
from paraknow_core.statistics.paired_items import (
    PairedDifference,
    accuracy_difference,
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
    arms: Mapping[str, Sequence[Item]], diverged: Mapping[str, str] | None = None
) -> dict[str, Any]:
    """Compare the transfer with the other arms of one run, item by item.

    An arm whose training diverged is told with its reason, and compared with nothing.

    Args:
        arms: of ``every_arm``, on the same items; the untouched student among them.
        diverged: arm → by which rule its training diverged, as far as the caller knows; one whose
            training ended without an adapter has no items.

    Returns:
        ``metrics`` of each arm; ``differences`` of the transfer to each other arm, with 95 %
        intervals (paired over items) and p-values; ``verdict`` and ``caveats`` in words; and where
        there are any, ``diverged``: arm → reason.
    """
    metrics = {name: EvaluationResult(tuple(items)).metrics for name, items in arms.items()}
    lost = {**_diverged(metrics), **(diverged or {})}
    sound = [name for name in arms if name not in lost]
    transfer = transfer_among({*arms, *lost}) or TRANSFER
    others = [name for name in (*METHODS.among(sound), VANILLA) if name in sound]
    found = {
        other: _differences(arms[transfer], arms[other])
        for other in others
        if other != transfer and transfer in sound
    }
    lacking = [name for name in METHODS[transfer].controls if name not in {*arms, *lost}]
    caveats = [ONE_RUN, *(said for name in lacking if (said := METHODS[name].missed))]
    summary: dict[str, Any] = {
        "metrics": metrics,
        "differences": {
            name: {metric: asdict(difference) for metric, difference in pair.items()}
            for name, pair in found.items()
        },
        "verdict": " ".join(_verdict(transfer, found, lost)),
        "caveats": [*caveats, RULE] if lost else caveats,
    }
    return summary | ({"diverged": lost} if lost else {})


def _diverged(metrics: Mapping[str, Mapping[str, float]]) -> dict[str, str]:
    """Arm → why its numbers say that its training diverged."""
    untouched = metrics[VANILLA]["answer_nll"] if VANILLA in metrics else None
    found = {}
    for name in metrics:
        try:
            if name != VANILLA:
                loss = metrics[name]["answer_nll"]
                check_loss(loss, untouched=untouched, what="answer NLL on test")
        except DivergedError as error:
            found[name] = str(error)
    return found


def _differences(a: Sequence[Item], b: Sequence[Item]) -> dict[str, PairedDifference]:
    return {
        "answer_nll": paired_difference(a, b, seed=0),
        "exact_match": accuracy_difference(a, b, seed=0),
    }


def _verdict(
    transfer: str,
    found: Mapping[str, Mapping[str, PairedDifference]],
    lost: Mapping[str, str],
) -> list[str]:
    """Sentences about plain LoRA, then about all other arms, then about the teacher."""
    told = [f"{_capital(arm_name(name))} {reason.rstrip('.')}." for name, reason in lost.items()]
    baseline = METHODS[transfer].baseline
    if transfer in lost:
        return [*told, "Without a transfer that can be measured there is nothing to compare."]
    if baseline in lost:
        sentences = [f"So the transfer is not compared with {arm_name(baseline)}."]
    elif baseline not in found:
        sentences = [f"Nothing to compare with: {arm_name(baseline)} was switched off."]
    else:
        plain = found[baseline]
        names = (transfer, arm_name(baseline))
        sentences = [
            describe_difference(*names, plain["answer_nll"]),
            describe_difference(
                *names, plain["exact_match"], higher_is_better=True, metric="exact match"
            ),
        ]
    nll = {name: found[name]["answer_nll"] for name in _but_plain(found)}
    return [*told, *sentences, *_others(nll), *_knowledge(transfer, nll, lost)]


def _but_plain(names: Iterable[str]) -> list[str]:
    """Those of ``names`` that are methods, without plain LoRA."""
    return [name for name in METHODS.among(names) if not METHODS[name].is_plain]


def _capital(name: str) -> str:
    return name[0].upper() + name[1:]


def _others(nll: Mapping[str, PairedDifference]) -> list[str]:
    """One sentence for each outcome of the transfer against start points and controls."""
    outcomes: dict[str, list[str]] = {
        "visibly better than": [],
        "visibly worse than": [],
        "not told apart from": [],
    }
    for name, difference in nll.items():
        kind = "visibly better than" if difference.mean < 0 else "visibly worse than"
        outcomes[kind if difference.visible else "not told apart from"].append(arm_name(name))
    return [
        f"In answer NLL the transfer is {outcome} {', '.join(names)}."
        for outcome, names in outcomes.items()
        if names
    ]


def _knowledge(
    transfer: str, nll: Mapping[str, PairedDifference], lost: Mapping[str, str]
) -> list[str]:
    """Say plainly whether the controls were beaten that a claim about the teacher has to beat."""
    untold = [name for name in lost if METHODS[name].is_needed_by(transfer)]
    if untold:
        return [
            f"As {', '.join(untold)} diverged, this run does not show that the teacher's knowledge "
            "moved."
        ]
    needed = [name for name in nll if METHODS[name].is_needed_by(transfer)]
    unbeaten = [name for name in needed if not _is_better(nll[name])]
    if unbeaten:
        return [
            f"As {', '.join(unbeaten)} {'is' if len(unbeaten) == 1 else 'are'} not beaten, this "
            "run does not show that the teacher's knowledge moved."
        ]
    if needed:
        return [f"It beats each control here that a claim about the teacher needs: {len(needed)}."]
    return []


def _is_better(nll: PairedDifference) -> bool:
    return nll.visible and nll.mean < 0


def as_markdown(summary: Mapping[str, Any]) -> str:
    """Write a comparison as a Markdown table with its verdict."""
    lines = [
        "| | answer NLL (nats a token) | perplexity | exact match | items |",
        "|---|---:|---:|---:|---:|",
    ]
    for name in arms_among((*summary["metrics"], *summary.get("diverged", {}))):
        if name in summary["metrics"]:
            m = summary["metrics"][name]
            lines.append(
                f"| {arm_name(name)} | {_number(m['answer_nll'], 4)} | "
                f"{_number(m['perplexity'], 3)} | {m['exact_match']:.3f} | {m['items']} |"
            )
        elif name in summary.get("diverged", {}):
            lines.append(f"| {arm_name(name)} | diverged | – | – | – |")
    caveats = [f"- {caveat}" for caveat in summary["caveats"]]
    told = _told(summary["differences"])
    return "\n".join([*lines, "", summary["verdict"], "", *told, *caveats, ""])


def _number(value: float | None, digits: int) -> str:
    """A metric; None is how JSON keeps one that is not finite."""
    return "not finite" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"


def _told(differences: Mapping[str, Any]) -> list[str]:
    """A second table where there are start points without a teacher, or controls."""
    names = _but_plain(differences)
    lines = [
        "| transfer minus | answer NLL, 95 % interval | p | what it tells |",
        "|---|---:|---:|---|",
    ]
    for name in names:
        d = differences[name]["answer_nll"]
        lines.append(
            f"| {arm_name(name)} | {d['mean']:+.4f} ({d['low']:+.4f} to {d['high']:+.4f}) | "
            f"{d['p_value']:.2g} | {METHODS[name].tells} |"
        )
    return [*lines, ""] if names else []
