r"""Runs of n words of the rows of a split, as hashes, and how much of a row some of them cover.

Shapes: W = words of all rows of a split, one after another; G = runs of n words within a row.
"""

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence, Set
from dataclasses import dataclass
from typing import TYPE_CHECKING

from paraknow_core.data.examples import Example, normalise

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class Cover:
    """How much of a row's question some runs cover, generic words aside.

    Attributes:
        share: of its words; 0 where all of them are generic.
        longest_own: the most words in a row that none covers.
        ends_own: whether the last word is one of those.
    """

    share: float
    longest_own: int
    ends_own: bool


class RowGrams:
    """Hashes of all runs of n words of a split, in order, and the row that each starts in.

    Args:
        rows: of the split.
        n: words of a run; a shorter row is one run of its own.
        vocabulary: word → number, shared with the splits that are compared with; new words are
            added.

    Attributes:
        rows: G int64, the number of the row.
        hashes: G uint64.
        count: how many rows the split has.
    """

    def __init__(self, rows: Sequence[Example], n: int, vocabulary: dict[str, int]) -> None:
        import numpy as np

        numbers: list[int] = []
        bounds: dict[int, tuple[int, int, int]] = {}
        for place, example in enumerate(rows):
            words, asked = _words(example)
            if words:
                start = len(numbers)
                numbers += [vocabulary.setdefault(word, len(vocabulary) + 1) for word in words]
                bounds[place] = start, start + asked, len(numbers)
                numbers += [0] * (n - len(words))  # a short row is one gram of its own
        self._n, self._numbers, self._vocabulary = n, np.array(numbers, dtype=np.int64), vocabulary
        self._bounds, self.count = bounds, len(rows)
        starts = np.array([start for start, _, _ in bounds.values()], dtype=np.int64)
        ends = np.append(starts, len(numbers))[1:]
        lengths = ends - starts
        row_of_word = np.repeat(np.array(list(bounds), dtype=np.int64), lengths)
        left = np.repeat(ends, lengths) - np.arange(len(numbers))
        self._starts = (left >= n).nonzero()[0]
        self.rows = row_of_word[self._starts]
        self.hashes = _hashes(self._numbers, n)[self._starts] if numbers else np.zeros(0, np.uint64)
        self._sorted = np.argsort(self.hashes, kind="stable")
        self._first = np.searchsorted(self.rows, np.arange(len(rows) + 1))

    def common(self, other: "RowGrams", *, without: "NDArray[np.uint64]") -> dict[int, list[int]]:
        """Return row → places of its runs that another split has too, generic ones left out."""
        import numpy as np

        shared = np.isin(self.hashes, other.hashes) & ~np.isin(self.hashes, without)
        found: dict[int, list[int]] = defaultdict(list)
        for place in shared.nonzero()[0].tolist():
            found[int(self.rows[place])].append(place)
        return found

    def holders(self, hashes: "NDArray[np.uint64]") -> dict[int, set[int]]:
        """Return row → which of some runs it has, for all rows that have any."""
        import numpy as np

        known = self.hashes[self._sorted]
        found: dict[int, set[int]] = defaultdict(set)
        left = np.searchsorted(known, hashes, side="left").tolist()
        right = np.searchsorted(known, hashes, side="right").tolist()
        for value, start, end in zip(hashes.tolist(), left, right, strict=True):
            for place in self._sorted[start:end].tolist():
                found[int(self.rows[place])].add(value)
        return found

    def cover(self, row: int, shared: Set[int], generic: "NDArray[np.uint64]") -> Cover:
        """Tell how much of a row's question some runs cover.

        Args:
            row: its number.
            shared: hashes of the runs.
            generic: hashes, sorted, whose words are left out.
        """
        import numpy as np

        start, asked, end = self._bounds[row]
        covered, common = np.zeros(end - start, bool), np.zeros(end - start, bool)
        places = range(int(self._first[row]), int(self._first[row + 1]))
        for place in places:
            at = int(self._starts[place]) - start
            value = self.hashes[place]
            if int(value) in shared:
                covered[at : at + self._n] = True
            elif _is_in(value, generic):
                common[at : at + self._n] = True
        covered, common = covered[: asked - start], common[: asked - start]
        own = ~covered & ~common
        counted = own[covered | own]
        share = float(1 - counted.mean()) if len(counted) else 0.0
        return Cover(share, _longest_run(own.tolist()), bool(counted[-1:].any()))

    def text(self, place: int) -> str:
        """Return the words of one run, for people."""
        start = int(self._starts[place])
        spelling = list(self._vocabulary)
        numbers = self._numbers[start : start + self._n].tolist()
        return " ".join(spelling[number - 1] for number in numbers if number)


def generic_hashes(splits: Iterable[RowGrams], *, most: int) -> "NDArray[np.uint64]":
    """Return the runs that many rows of one split have, sorted.

    Args:
        splits: all that are compared.
        most: rows; a run that more have is generic, and one that more than half of a split's rows
            have, if these are three at least.
    """
    import numpy as np

    found = [np.zeros(0, np.uint64)]
    for split in splits:
        order = np.lexsort((split.rows, split.hashes))
        hashes, rows = split.hashes[order], split.rows[order]
        is_new = np.ones(len(hashes), bool)  # the first of equal runs of one row
        is_new[1:] = (hashes[1:] != hashes[:-1]) | (rows[1:] != rows[:-1])
        values, counts = np.unique(hashes[is_new], return_counts=True)
        found.append(values[(counts > most) | ((counts > split.count / 2) & (counts >= 3))])
    return np.unique(np.concatenate(found))


def _is_in(value: "np.uint64", ordered: "NDArray[np.uint64]") -> bool:
    place = int(ordered.searchsorted(value))
    return place < len(ordered) and bool(ordered[place] == value)


def _longest_run(flags: Collection[bool]) -> int:
    longest = run = 0
    for flag in flags:
        run = run + 1 if flag else 0
        longest = max(longest, run)
    return longest


def _words(example: Example) -> tuple[list[str], int]:
    """The words of a row, and how many of them are the question's; all where it has no question.

    Token numbers get a "#", which no word has, so the two never match.
    """
    if example.input_ids is not None and example.labels is not None:
        words = [f"#{number}" for number in example.input_ids]
        asked = next((n for n, label in enumerate(example.labels) if label >= 0), len(words))
    else:
        question = _WORD.findall(normalise(example.own or example.prompt))
        words, asked = [*question, *_WORD.findall(normalise(example.answer))], len(question)
    return words, asked or len(words)


def _hashes(numbers: "NDArray[np.int64]", n: int) -> "NDArray[np.uint64]":
    """Σ_j c_j · r(word_{i+j}) mod 2**64 for every i; words beyond the end add nothing."""
    import numpy as np

    random = np.random.default_rng(13)
    factors = random.integers(0, 2**63, n, dtype=np.uint64) * np.uint64(2) + np.uint64(1)
    words = random.integers(0, 2**64, int(numbers.max()) + 1, dtype=np.uint64)[numbers]
    hashes = np.zeros(len(numbers), dtype=np.uint64)
    for offset, factor in enumerate(factors):
        hashes[: len(hashes) - offset] += factor * words[offset:]
    return hashes
