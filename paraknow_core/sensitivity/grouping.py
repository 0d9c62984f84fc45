"""Which samples go through the model together: those of like length. Needs no torch."""

from collections.abc import Sequence

from paraknow_core.data.examples import NO_LOSS, TokenisedExample

MOST_TOGETHER = 8
"""Samples of a batch at most: beyond that nothing gets faster."""


def used_tokens(sample: TokenisedExample) -> int:
    """How many tokens of a sample its loss depends on: up to the last place that predicts one."""
    labels = sample.labels
    return max(place for place in range(1, len(labels)) if labels[place] != NO_LOSS)


def batches(samples: Sequence[TokenisedExample], *, tokens: int) -> list[list[int]]:
    """Put samples of like length together.

    Args:
        samples: with at least one answer token each.
        tokens: of a batch at most, padding included; a longer sample is alone. 0: all are.

    Returns:
        The samples' numbers, batch by batch, shortest first; those of one length in their order,
        and so are all that go alone. It depends on the samples and ``tokens`` only.
    """
    if not tokens:
        return [[number] for number in range(len(samples))]
    sizes = [used_tokens(sample) for sample in samples]
    found: list[list[int]] = []
    for number in sorted(range(len(samples)), key=sizes.__getitem__):
        mine = found[-1] if found else []
        if mine and len(mine) < MOST_TOGETHER and (len(mine) + 1) * sizes[number] <= tokens:
            mine.append(number)
        else:
            found.append([number])
    return found
