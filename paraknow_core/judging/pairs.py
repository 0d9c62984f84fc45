"""Pairs of answers judged in both positions: which is preferred, and how sure that is.

A judge favours the output that it sees first, or the second (Wang et al. 2023, arXiv 2305.17926).
So each pair is asked twice, as (a, b) and as (b, a), and the two preferences are averaged.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from paraknow_core.errors import DataError
from paraknow_core.evaluation.items import Item
from paraknow_core.judging.annotator import Annotator
from paraknow_core.judging.values import FLIPPED, LENGTH, OTHER_LENGTH, UNREAD, WIN

Body = Mapping[str, Any]
Choice = Mapping[str, Any]


@dataclass(frozen=True)
class AnswerPair:
    """Two answers to one instruction; ``answer`` is the one whose win rate is measured."""

    id: str
    instruction: str
    answer: str
    other: str


@dataclass(frozen=True)
class Judged:
    """What a judge says of one pair.

    Attributes:
        pair: the two answers.
        first: preference with ``answer`` first: from 1 (the first output) to 2. None: not readable.
        second: the same with ``answer`` second.
        said: what the judge wrote, in both positions.
    """

    pair: AnswerPair
    first: float | None
    second: float | None
    said: tuple[str, str] = ("", "")

    @property
    def same(self) -> bool:
        """Whether the answers are the same text, so that nothing was asked."""
        return self.pair.answer == self.pair.other

    @property
    def win(self) -> float:
        """1 where ``answer`` is preferred, 0 where the other is; the mean of both positions.

        A tie is .5, and so is a position without a readable answer.
        """
        first = 0.5 if self.first is None else 2 - self.first
        second = 0.5 if self.second is None else self.second - 1
        return (first + second) / 2

    @property
    def flipped(self) -> bool:
        """Whether the same place was preferred both times, whatever stood in it."""
        if self.first is None or self.second is None:
            return False
        return (self.first - 1.5) * (self.second - 1.5) > 0

    @property
    def measured(self) -> dict[str, float]:
        """The values that an item of ``answer`` gets."""
        return {
            WIN: self.win,
            UNREAD: float((self.first is None) + (self.second is None)) * (not self.same),
            FLIPPED: float(self.flipped),
            LENGTH: float(len(self.pair.answer)),
            OTHER_LENGTH: float(len(self.pair.other)),
        }


def pairs_of(
    items: Sequence[Item], others: Sequence[Item] | None, instructions: Mapping[str, str]
) -> list[AnswerPair]:
    """Put two models' answers to the same rows side by side.

    Args:
        items: of the one whose win rate is measured.
        others: of the other, the same rows in the same order; None: the rows' own answers.
        instructions: id of a row → what was asked; by default the prompt.

    Raises:
        DataError: if the items are not pairs, or a row without an answer is compared with it.
    """
    if others is not None and [i.id for i in items] != [i.id for i in others]:
        raise DataError(
            f"answers to other rows cannot be judged against each other ({len(items)} and "
            f"{len(others)} items); evaluate both on the same test split"
        )
    if others is None and (lacking := [item.id for item in items if not item.answer]):
        raise DataError(
            f"{len(lacking)} test rows have no answer to judge against, the first is "
            f"{lacking[0]!r}; judge against vanilla or plain (judge.against)"
        )
    texts = [item.answer for item in items] if others is None else [o.generated for o in others]
    return [
        AnswerPair(item.id, instructions.get(item.id) or item.prompt, item.generated, other)
        for item, other in zip(items, texts, strict=True)
    ]


def questions_of(pair: AnswerPair, annotator: Annotator, model: str) -> tuple[Body, ...]:
    """Return the requests about a pair, in both positions; none where the answers are the same."""
    if pair.answer == pair.other:
        return ()
    both = (pair.answer, pair.other), (pair.other, pair.answer)
    return tuple(
        annotator.body(model, instruction=pair.instruction, first=first, second=second)
        for first, second in both
    )


def measured_items(items: Sequence[Item], judged: Sequence[Judged]) -> list[Item]:
    """Return the items with what the judge says of them among their measured values."""
    return [
        replace(item, measured={**item.measured, **one.measured})
        for item, one in zip(items, judged, strict=True)
    ]
