"""Seeds, train, validation and test without overlap, and the check of splits that were given.

Rows are ordered by a hash of seed and content. So the splits do not depend on the order of the
file, a row more or less moves only its neighbours, and a larger training split leaves the test
split as it was (splits are filled in the order of `FILL_ORDER`).
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, groupby
from typing import Literal

from paraknow_core.data.examples import Example
from paraknow_core.errors import DataError

SPLITS = ("seeds", "train", "validation", "test")
FILL_ORDER = ("test", "validation", "seeds", "train")
ALL: Literal["all"] = "all"
"""A size: all rows that the other splits leave."""


@dataclass(frozen=True)
class DealtSizes:
    """Number of rows of each split; one of them may be ``ALL``."""

    seeds: int | Literal["all"] = 32
    train: int | Literal["all"] = 1000
    validation: int | Literal["all"] = 200
    test: int | Literal["all"] = 500

    def of(self, name: str) -> int | None:
        """Return a split's size; None for ``ALL``."""
        size: int | Literal["all"] = getattr(self, name)
        return None if size == "all" else size


@dataclass(frozen=True)
class SplitSizes(DealtSizes):
    """Number of rows of each split; the defaults for seeds and train are SeeKing's (§4)."""

    seeds: int = 32
    train: int = 1000
    validation: int = 200
    test: int = 500


@dataclass(frozen=True)
class Overlap:
    """A row that stands in two splits: ``kind`` is "prompt and answer" or "prompt"."""

    kind: str
    first_split: str
    first_id: str
    second_split: str
    second_id: str


def split_examples(
    examples: Sequence[Example], *, sizes: DealtSizes, seed: int
) -> dict[str, list[Example]]:
    """Deal rows out to disjoint splits.

    Repeated rows (same normalised prompt and answer) are used once. Rows that share a prompt
    never land in two splits; rows of such a group that do not fit into a split are left out.

    Args:
        examples: in any order; the order makes no difference.
        sizes: rows a split; zero is allowed, and ``ALL`` for one of them.
        seed: another seed, another deal.

    Returns:
        Split name to rows, for all of `SPLITS`.

    Raises:
        DataError: for a negative size, two splits that are to have all rows, or where there are
            too few distinct rows.
    """
    for name in SPLITS:
        if (sizes.of(name) or 0) < 0:
            raise DataError(f"split {name!r} cannot have {sizes.of(name)} rows; use 0 or more")
    unlimited = [name for name in SPLITS if sizes.of(name) is None]
    if len(unlimited) > 1:
        raise DataError(
            f"{' and '.join(unlimited)} cannot both have all rows of one source; give one of them "
            "a number, or a source of its own"
        )
    groups = _shuffled_groups(examples, seed)
    order = sorted(FILL_ORDER, key=lambda name: name in unlimited)
    splits = {name: _take(groups, sizes.of(name)) for name in order}
    # At least one row, where all are asked for.
    least = {name: 1 if (size := sizes.of(name)) is None else size for name in SPLITS}
    if any(len(splits[name]) < least[name] for name in SPLITS):
        raise DataError(_too_few(examples, splits, sizes, sum(least.values())))
    return {name: splits[name] for name in SPLITS}


def _shuffled_groups(examples: Sequence[Example], seed: int) -> Iterator[list[Example]]:
    """Yield distinct rows grouped by prompt, in an order that only seed and contents decide."""
    rows = [
        (_digest(seed, example.prompt_key), example.content_key, _spelling(example), example)
        for example in examples
    ]
    rows.sort(key=lambda row: row[:3])
    for _, same_prompt in groupby(rows, key=lambda row: row[0]):
        contents = groupby(same_prompt, key=lambda row: row[1])
        yield [next(same_content)[3] for _, same_content in contents]


def _digest(seed: int, text: str) -> bytes:
    return hashlib.blake2b(f"{seed}\n{text}".encode(), digest_size=16).digest()


def _spelling(example: Example) -> tuple[str, str, str]:
    """Order equal rows, so that the same one is kept whatever the order of the file."""
    return example.prompt, example.answer, example.id


def _take(groups: Iterator[list[Example]], size: int | None) -> list[Example]:
    taken: list[Example] = []
    while size is None or len(taken) < size:
        group = next(groups, None)
        if group is None:
            break
        taken += group if size is None else group[: size - len(taken)]
    return taken


def _too_few(
    examples: Sequence[Example],
    splits: Mapping[str, Sequence[Example]],
    sizes: DealtSizes,
    total: int,
) -> str:
    wanted = ", ".join(f"{name} {getattr(sizes, name)}" for name in SPLITS)
    got = ", ".join(f"{name} {len(splits[name])}" for name in SPLITS)
    distinct = len({example.content_key for example in examples})
    return (
        f"too few rows: {total} wanted ({wanted}), but the {len(examples)} rows given hold "
        f"{distinct} distinct ones, which fill {got}; ask for fewer or give more data"
    )


def check_overlap(
    splits: Mapping[str, Sequence[Example]], *, allow: Collection[tuple[str, str]] = ()
) -> None:
    """Refuse splits that share rows.

    Args:
        splits: name to rows.
        allow: pairs that may share rows, such as ``("seeds", "train")``: SeeKing's own seeds are
            training rows.

    Raises:
        DataError: naming the first shared row on both sides, and how many there are; see
            `find_overlaps` for what counts.
    """
    allowed = {frozenset(pair) for pair in allow}
    overlaps = [
        overlap
        for overlap in find_overlaps(splits)
        if frozenset((overlap.first_split, overlap.second_split)) not in allowed
    ]
    if not overlaps:
        return
    first = overlaps[0]
    raise DataError(
        f"{first.first_split} overlap the {first.second_split} split: row {first.first_id!r} of "
        f"{first.first_split} and row {first.second_id!r} of {first.second_split} have the same "
        f"{first.kind}; {len(overlaps)} such pair(s) over all splits. Remove them from one side, "
        f"or allow the pair (data.may_share: [{first.first_split}-{first.second_split}])"
    )


def find_overlaps(splits: Mapping[str, Sequence[Example]]) -> list[Overlap]:
    """List rows that stand in two splits, up to case, Unicode width and white space.

    Between two splits the same prompt and answer count; against ``test`` the same prompt alone
    counts, whatever its answer.
    """
    found: list[Overlap] = []
    for first, second in combinations(sorted(splits, key=split_order), 2):
        by_prompt = second == "test"
        kind = "prompt" if by_prompt else "prompt and answer"
        known = {_key(example, by_prompt): example.id for example in reversed(splits[first])}
        for example in splits[second]:
            match = known.get(_key(example, by_prompt))
            if match is not None:
                found.append(Overlap(kind, first, match, second, example.id))
    return found


def split_order(name: str) -> int:
    """The usual order, so that ``test`` comes last; other names before it."""
    return SPLITS.index(name) if name in SPLITS else -1


def _key(example: Example, by_prompt: bool) -> str | tuple[str, str]:
    return example.prompt_key if by_prompt else example.content_key
