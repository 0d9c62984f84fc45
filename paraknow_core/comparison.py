"""What one run's arms show beside each other, in numbers and in words that the numbers carry."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from paraknow_core.evaluation import EvaluationResult, Item
from paraknow_core.statistics import (
    accuracy_difference,
    describe_difference,
    paired_difference,
)

NAMES = {"vanilla": "vanilla student", "plain": "plain LoRA", "transfer": "transfer"}

ONE_RUN = (
    "One training run of each arm: the intervals cover the test items, not other seeds. A "
    "difference between two trainings of different seeds can be as large."
)
NO_CONTROLS = (
    "A transfer that beats plain LoRA does not show that the teacher's knowledge moved: a start "
    "point with the same singular values and random vectors has to be beaten too, and this run "
    "has no such control."
)


def compare_arms(arms: Mapping[str, Sequence[Item]]) -> dict[str, Any]:
    """Compare the arms of one run, item by item.

    Args:
        arms: ``vanilla``, ``plain`` (may be missing) and ``transfer``, on the same items.

    Returns:
        ``metrics`` of each arm; ``differences`` of the transfer to each other arm, with 95 %
        intervals (paired over items) and p-values; ``verdict`` and ``caveats`` in words.
    """
    metrics = {name: EvaluationResult(tuple(items)).metrics for name, items in arms.items()}
    differences, sentences = {}, []
    for other in ("plain", "vanilla"):
        if other not in arms:
            continue
        pair = (arms["transfer"], arms[other])
        nll = paired_difference(*pair, seed=0)
        accuracy = accuracy_difference(*pair, seed=0)
        differences[other] = {"answer_nll": asdict(nll), "exact_match": asdict(accuracy)}
        if other == "plain":
            sentences.append(describe_difference(NAMES["transfer"], NAMES["plain"], nll))
            sentences.append(
                describe_difference(
                    NAMES["transfer"],
                    NAMES["plain"],
                    accuracy,
                    higher_is_better=True,
                    metric="exact match",
                )
            )
    return {
        "metrics": metrics,
        "differences": differences,
        "verdict": " ".join(sentences) or "Nothing to compare with: plain LoRA was switched off.",
        "caveats": [ONE_RUN, NO_CONTROLS],
    }


def as_markdown(summary: Mapping[str, Any]) -> str:
    """Write a comparison as a Markdown table with its verdict."""
    lines = [
        "| | answer NLL (nats a token) | perplexity | exact match | items |",
        "|---|---:|---:|---:|---:|",
    ]
    for name, label in NAMES.items():
        if name in summary["metrics"]:
            m = summary["metrics"][name]
            lines.append(
                f"| {label} | {m['answer_nll']:.4f} | {m['perplexity']:.3f} | "
                f"{m['exact_match']:.3f} | {m['items']} |"
            )
    caveats = [f"- {caveat}" for caveat in summary["caveats"]]
    return "\n".join([*lines, "", summary["verdict"], "", *caveats, ""])
