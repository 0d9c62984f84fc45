"""What a judge says of a model's answers, in one sentence with its interval and its caveats."""

from collections.abc import Sequence
from dataclasses import replace
from statistics import fmean

from paraknow_core.evaluation.items import Item
from paraknow_core.evaluation.metrics import METRICS
from paraknow_core.judging.values import FLIPPED, LENGTH, OTHER_LENGTH, UNREAD, WIN
from paraknow_core.statistics.paired_items import paired_difference


def judged_sentence(name: str, seeds: Sequence[Sequence[Item]]) -> str:
    """Say how often an arm's answers are preferred, what was no decision, and how long they are.

    Items of several seeds are the same rows: a row's value is its mean over them.

    Args:
        name: of the arm.
        seeds: the items of each seed; those of a seed are all judged or none is.

    Returns:
        Two sentences; nothing where nothing was judged.
    """
    judged = [item for items in seeds for item in items]
    if not judged or any(WIN not in item.measured for item in judged):
        return ""
    ties = sum(item.measured[WIN] == 0.5 for item in judged)
    flipped, unread = (int(sum(i.measured[n] for i in judged)) for n in (FLIPPED, UNREAD))
    own, other = (fmean(item.measured[n] for item in judged) for n in (LENGTH, OTHER_LENGTH))
    longer = [
        (item.measured[WIN] > 0.5) == (item.measured[LENGTH] > item.measured[OTHER_LENGTH])
        for item in judged
        if item.measured[WIN] != 0.5 and item.measured[LENGTH] != item.measured[OTHER_LENGTH]
    ]
    won = f"; of {len(longer)} decided pairs the longer answer won {sum(longer)}" if longer else ""
    return (
        f"{name}: win rate {_rate(seeds)}; of {len(judged)} pairs {ties} tied, in {flipped} the "
        f"judge preferred the same position both times, and {unread} of its answers were not "
        f"readable, which count as ties. The answers have {own:.0f} characters, those that they "
        f"are compared with {other:.0f}{won}."
    )


def _rate(seeds: Sequence[Sequence[Item]]) -> str:
    means = [fmean(item.measured[WIN] for item in same) for same in zip(*seeds, strict=True)]
    if len(means) < 2:
        return f"{fmean(means):.3f}"
    rows = [replace(item, measured={WIN: v}) for item, v in zip(seeds[0], means, strict=True)]
    ties = [replace(item, measured={WIN: 0.5}) for item in rows]
    found = paired_difference(rows, ties, METRICS[WIN], seed=0)
    low, high = found.low + 0.5, found.high + 0.5
    return f"{found.mean + 0.5:.3f} (95 % interval over {len(rows)} items {low:.3f} to {high:.3f})"
