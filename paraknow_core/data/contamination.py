r"""Overlap of seeds, train, validation and test: exact rows, and runs of 13 words.

Exact overlap is `splits.find_overlaps`: one rule for what is the same row. Beyond that, a row
overlaps another one if at least half of the words of its question stand in runs of 13 words that
the other row has too (runs of GPT-3's length, Brown et al. 2020, appendix C; a share of the words
as in Touvron et al. 2023, arXiv 2307.09288, appendix A.6), case, width, white space and punctuation
aside. A run may go on from the question into the answer. Where a row keeps its own question beside
a longer prompt (`Example.own`), only that counts. A row of fewer than 13 words is compared as a
whole, with other such rows. Rows that came as token numbers are compared by runs of 13 tokens
(never with text). Words are ``\w+``: text that is written without spaces is one word up to its
punctuation, so there the rule sees little.

What many rows have in common is no overlap:

- a run that stands in more than ``GENERIC`` rows of one split (GPT-3's rule), or in more than half
  of its rows and three at least, is part of an instruction, an example or a template; such words
  are left out on both sides;
- two rows share an instruction or a passage, and not a question, if both questions end with words
  that stand in no common run, or have ``OWN_WORDS`` such words in a row or more.

So two questions about one passage do not count, and neither do two rows of one template with other
names and numbers; a question with a few words added, left out or replaced does.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import TYPE_CHECKING, Literal

from paraknow_core.data.examples import Example
from paraknow_core.data.row_grams import RowGrams, generic_hashes
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
GENERIC = 10
LEAST_SHARE = 0.5
OWN_WORDS = 4
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
        examples: of each such row (id in first, id in second, what they share).
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
        shown = [f"{a!r} and {b!r} share {text!r}" for a, b, text in self.examples[:_SHOWN]]
        more = len(self.examples) - len(shown)
        told = "; ".join(shown) + (f"; and {more} more" if more else "")
        return f"{line}: {told}" if shown else line


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
    grams = {name: RowGrams(rows, n, vocabulary) for name, rows in splits.items()}
    generic = generic_hashes(grams.values(), most=GENERIC)
    exact, ngrams = _pairs(allow_exact), _pairs(allow_ngrams)
    table: list[SharedRows] = []
    for first, second in combinations(sorted(splits, key=split_order), 2):
        pair = frozenset((first, second))
        table.append(_exact(splits, first, second, pair in exact))
        table.append(
            _shared(splits, (grams[first], grams[second], generic), first, second, pair in ngrams)
        )
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
    shown = tuple((o.first_id, o.second_id, f"the same {o.kind}") for o in found)
    return SharedRows(first, second, "exact", len(found), len(splits[second]), shown, allowed)


def _shared(
    splits: Mapping[str, Sequence[Example]],
    grams: "tuple[RowGrams, RowGrams, NDArray[np.uint64]]",
    first: str,
    second: str,
    allowed: bool,
) -> SharedRows:
    """For each row of the second split the row of the first that has most of its question."""
    a, b, generic = grams
    found = []
    for row, places in b.common(a, without=generic).items():
        best, share = None, 0.0
        for other, shared in a.holders(b.hashes[places]).items():
            mine, theirs = b.cover(row, shared, generic), a.cover(other, shared, generic)
            go_on = min(mine.longest_own, theirs.longest_own) >= OWN_WORDS
            if go_on or (mine.ends_own and theirs.ends_own):
                continue  # they share what stands before two questions
            if mine.share >= LEAST_SHARE and mine.share > share:
                best, share = (other, shared), mine.share
        if best is not None:
            place = next(p for p in places if int(b.hashes[p]) in best[1])
            ids = splits[first][best[0]].id, splits[second][row].id
            found.append((*ids, b.text(place)[:_LONGEST]))
    return SharedRows(
        first, second, "n-gram", len(found), len(splits[second]), tuple(found), allowed
    )
