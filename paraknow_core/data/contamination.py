r"""Overlap of seeds, train, validation and test: exact rows, and runs of 13 words.

Exact overlap is `splits.find_overlaps`: one rule for what is the same row. The 13-gram rule is
GPT-3's (Brown et al. 2020, appendix C): two rows overlap if any 13 consecutive words of prompt
and answer together are the same, case, width, white space and punctuation aside. A row of fewer
than 13 words is compared as a whole, with other such rows. Rows that came as token numbers are
compared by runs of 13 tokens (never with text). Words are ``\w+``: text that is written without
spaces is one word up to its punctuation, so there the rule sees little.

Rows of one template (word problems) share 13-grams without sharing an answer: a config may allow
that, pair by pair; the table shows it all the same.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from paraknow_core.data.examples import Example, normalise
from paraknow_core.data.splits import SPLITS, find_overlaps, split_order
from paraknow_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

OverlapKind = Literal["exact", "n-gram"]
SplitPair = tuple[str, str]

ALL_PAIRS: tuple[SplitPair, ...] = tuple(combinations(SPLITS, 2))
"""For ``allow_ngrams`` where all splits come from the same templates."""

NGRAM = 13
_WORD = re.compile(r"\w+")
_SHOWN = 3
_LONGEST = 200


@dataclass(frozen=True)
class SharedRows:
    """One row of the table.

    Attributes:
        first: a split.
        second: the split whose rows are counted.
        kind: "exact" or "n-gram".
        hits: rows of ``second`` that overlap at least one row of ``first``.
        rows: rows of ``second``.
        examples: up to 3 of (id in first, id in second, what they share).
        allowed: whether the config allows it.
    """

    first: str
    second: str
    kind: OverlapKind
    hits: int
    rows: int
    examples: tuple[tuple[str, str, str], ...]
    allowed: bool = False

    def describe(self) -> str:
        """One line for a report or an error."""
        line = f"{self.hits} of {self.rows} rows of {self.second} ({self.kind}) stand in "
        line += self.first + (" (allowed)" if self.allowed and self.hits else "")
        shown = [f"{a!r} and {b!r} share {text!r}" for a, b, text in self.examples]
        return f"{line}: {'; '.join(shown)}" if shown else line


def contamination(
    splits: Mapping[str, Sequence[Example]],
    *,
    n: int = NGRAM,
    allow_exact: Collection[SplitPair] = (),
    allow_ngrams: Collection[SplitPair] = (),
) -> tuple[SharedRows, ...]:
    """Compare every two splits, exactly and by n-grams.

    n-grams are compared by a random 64-bit hash of their words (multilinear, Dietzfelbinger
    1996): for 10 million on each side the chance of any false hit is 1e-5. A row of 60 words takes
    about 0.1 ms.

    Args:
        splits: name to rows.
        n: words (or tokens) in a row that count as an overlap.
        allow_exact: pairs of splits that may share rows; the order of a pair makes no difference.
        allow_ngrams: pairs that may share n-grams; see `ALL_PAIRS`.

    Returns:
        For each two splits, in the order of `SPLITS`, one entry a kind; with no hits too.

    Raises:
        ConfigError: for an n below 1.
    """
    if n < 1:
        raise ConfigError(f"n-grams need n of 1 or more, got {n}; {NGRAM} is usual")
    vocabulary: dict[str, int] = {}
    grams = {name: _Grams(rows, n, vocabulary) for name, rows in splits.items()}
    exact, ngrams = _pairs(allow_exact), _pairs(allow_ngrams)
    table: list[SharedRows] = []
    for first, second in combinations(sorted(splits, key=split_order), 2):
        pair = frozenset((first, second))
        table.append(_exact(splits, first, second, pair in exact))
        table.append(_shared(splits, grams, first, second, pair in ngrams))
    return tuple(table)


def refuse_contamination(table: Sequence[SharedRows]) -> None:
    """Fail where splits share what is not allowed.

    Raises:
        DataError: with the counts and examples of all such pairs.
    """
    wrong = [entry for entry in table if entry.hits and not entry.allowed]
    if wrong:
        lines = "\n".join(f"  {entry.describe()}" for entry in wrong)
        raise DataError(
            f"splits overlap:\n{lines}\nRemove these rows from one side, or allow the pair (for "
            "example where all rows come from one template); the report will say so"
        )


def _pairs(allowed: Collection[SplitPair]) -> set[frozenset[str]]:
    return {frozenset(pair) for pair in allowed}


def _exact(
    splits: Mapping[str, Sequence[Example]], first: str, second: str, allowed: bool
) -> SharedRows:
    found = find_overlaps({first: splits[first], second: splits[second]})
    shown = tuple((o.first_id, o.second_id, f"the same {o.kind}") for o in found[:_SHOWN])
    return SharedRows(first, second, "exact", len(found), len(splits[second]), shown, allowed)


def _shared(
    splits: Mapping[str, Sequence[Example]],
    grams: "Mapping[str, _Grams]",
    first: str,
    second: str,
    allowed: bool,
) -> SharedRows:
    import numpy as np

    a, b = grams[first], grams[second]
    place_of_gram = np.isin(b.hashes, a.hashes).nonzero()[0]
    rows, where = np.unique(b.rows[place_of_gram], return_index=True)
    examples = []
    for row, place in zip(rows[:_SHOWN], place_of_gram[where[:_SHOWN]], strict=True):
        partner = a.rows[(a.hashes == b.hashes[place]).nonzero()[0][0]]
        text = b.text(int(place))
        examples.append((splits[first][partner].id, splits[second][row].id, text))
    return SharedRows(
        first, second, "n-gram", len(rows), len(splits[second]), tuple(examples), allowed
    )


class _Grams:
    """Hashes of all n-grams of a split, in order, and the row that each starts in."""

    def __init__(self, rows: Sequence[Example], n: int, vocabulary: dict[str, int]) -> None:
        import numpy as np

        numbers: list[int] = []
        ends: list[int] = []
        kept: list[int] = []
        for place, example in enumerate(rows):
            words = _words(example)
            if words:
                numbers += [vocabulary.setdefault(word, len(vocabulary) + 1) for word in words]
                numbers += [0] * (n - len(words))  # a short row is one gram of its own
                ends.append(len(numbers))
                kept.append(place)
        self._n, self._numbers, self._vocabulary = n, np.array(numbers, dtype=np.int64), vocabulary
        bounds = np.array([0, *ends], dtype=np.int64)
        lengths = bounds[1:] - bounds[:-1]
        row_of_word = np.repeat(np.array(kept, dtype=np.int64), lengths)
        left = np.repeat(np.array(ends, dtype=np.int64), lengths) - np.arange(len(numbers))
        self._starts = (left >= n).nonzero()[0]
        self.rows = row_of_word[self._starts]
        self.hashes = _hashes(self._numbers, n)[self._starts] if numbers else np.zeros(0, np.uint64)

    def text(self, place: int) -> str:
        """The words of one gram, for people; cut at 200 characters."""
        start = int(self._starts[place])
        spelling = list(self._vocabulary)
        numbers = self._numbers[start : start + self._n].tolist()
        return " ".join(spelling[number - 1] for number in numbers if number)[:_LONGEST]


def _words(example: Example) -> list[str]:
    """The words of a row; token numbers get a "#", which no word has, so the two never match."""
    if example.input_ids is not None:
        return [f"#{number}" for number in example.input_ids]
    return _WORD.findall(normalise(f"{example.prompt} {example.answer}"))


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
