"""From what was read to the four splits: each from rows of its own or from common ones."""

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import Literal

from paraknow_core.data.drafts import Draft, to_example
from paraknow_core.data.examples import Example, normalise
from paraknow_core.data.splits import SPLITS, DealtSizes, check_overlap, split_examples
from paraknow_core.data.templates import get_template
from paraknow_core.data.wording import Fewshot, Wording
from paraknow_core.errors import DataError

COMMON, SHOTS = "rows", "fewshot"
"""The roles of the rows that several splits are dealt from, and of few-shot examples."""


def pair_name(first: str, second: str) -> str:
    """Name two splits as settings do, whichever comes first."""
    return "-".join(sorted((first, second), key=SPLITS.index))


PAIR_NAMES = tuple(pair_name(*pair) for pair in combinations(SPLITS, 2))
"""Every two splits, as settings name them."""


@dataclass(frozen=True)
class DealRules:
    """How rows are dealt out and put into words.

    Attributes:
        sizes: rows of each split.
        seed: of the deal.
        template: name in `paraknow_core.data.templates.TEMPLATES`.
        wording: of rows from each role; what is not named has ``wordings[COMMON]``.
        fewshot: examples before the questions.
        seeds_from: "train", where the seeds are to be the training rows that are dealt first.
        may_share: names of pairs of splits that may share rows.
    """

    sizes: DealtSizes
    seed: int
    template: str
    wordings: Mapping[str, Wording]
    fewshot: Fewshot = field(default_factory=Fewshot)
    seeds_from: Literal["rows", "train"] = "rows"
    may_share: Collection[str] = ()

    def wording(self, role: str) -> Wording:
        """The wording of rows that come from a role."""
        return self.wordings.get(role, self.wordings[COMMON])


def deal(sources: Mapping[str, Sequence[Draft]], rules: DealRules) -> dict[str, list[Example]]:
    """Deal rows out to the four splits, and put few-shot examples before those that get them.

    Rows are compared across splits by their own questions, without the examples.

    Args:
        sources: split → rows of its own; ``COMMON`` → rows for the splits without; ``SHOTS`` →
            few-shot examples, in their order.
        rules: sizes, seed and words.

    Returns:
        Split name to rows, for all of `SPLITS`.

    Raises:
        DataError: for too few rows, rows that stand in two splits, rows without an answer outside
            of test, or few-shot examples that are too few or stand among the questions.
    """
    drafts: dict[Example, Draft] = {}
    worded = {role: _worded(rows, role, rules, drafts) for role, rows in sources.items()}
    splits = _dealt(worded, rules)
    allowed = [tuple(name.split("-")) for name in rules.may_share]
    if rules.seeds_from == "train":
        allowed.append(("seeds", "train"))
    check_overlap(splits, allow=[(first, second) for first, second in allowed])
    for name in SPLITS[:-1]:
        for example in splits[name]:
            if example.input_ids is None and not example.answer:
                raise DataError(
                    f"{drafts[example].where}: row {example.id!r} of the split {name} has no "
                    "answer; only rows of test may lack one"
                )
    if not rules.fewshot.count:
        return splits
    shots = _shots(sources, splits, rules, drafts)
    return {
        name: _with_shots(rows, name, shots, rules, drafts)
        if name in rules.fewshot.splits
        else rows
        for name, rows in splits.items()
    }


def _worded(
    rows: Sequence[Draft], role: str, rules: DealRules, drafts: dict[Example, Draft]
) -> list[Example]:
    """Put rows into words, without examples; equal rows may stand for each other."""
    template, wording = get_template(rules.template), rules.wording(role)
    found = []
    for draft in rows:
        example = to_example(draft, template=template, wording=wording)
        drafts.setdefault(example, draft)
        found.append(example)
    return found


def _dealt(worded: Mapping[str, Sequence[Example]], rules: DealRules) -> dict[str, list[Example]]:
    sizes = {name: getattr(rules.sizes, name) for name in SPLITS}
    late = {"seeds"} if rules.seeds_from == "train" else set()
    common = {n: 0 if n in worded or n in late else size for n, size in sizes.items()}
    splits: dict[str, list[Example]] = {name: [] for name in SPLITS}
    if any(common.values()):
        splits |= split_examples(
            worded.get(COMMON, ()), sizes=DealtSizes(**common), seed=rules.seed
        )
    for name in SPLITS:
        if name in late:
            continue
        if name in worded and sizes[name]:
            alone = DealtSizes(**{n: sizes[n] if n == name else 0 for n in SPLITS})
            try:
                splits[name] = split_examples(worded[name], sizes=alone, seed=rules.seed)[name]
            except DataError as error:
                raise DataError(f"the rows of data.{name}: {error}") from None
    if late:
        alone = DealtSizes(seeds=sizes["seeds"], train=0, validation=0, test=0)
        found = split_examples(splits["train"], sizes=alone, seed=rules.seed)
        splits["seeds"] = found["seeds"]
    return splits


def _shots(
    sources: Mapping[str, Sequence[Draft]],
    splits: Mapping[str, Sequence[Example]],
    rules: DealRules,
    drafts: Mapping[Example, Draft],
) -> dict[str, list[Draft]]:
    """Group → its first examples, from rows of their own or the training rows as dealt."""
    if SHOTS in sources:
        pool, place = list(sources[SHOTS]), "data.fewshot.rows"
    else:
        pool, place = [drafts[example] for example in splits["train"]], "the training rows"
    groups: dict[str, list[Draft]] = defaultdict(list)
    for draft in pool:
        if len(groups[draft.group]) < rules.fewshot.count:
            groups[draft.group].append(draft)
    used = {normalise(shot.question): shot for shots in groups.values() for shot in shots}
    for name in rules.fewshot.splits:
        for example in splits[name]:
            shot = used.get(normalise(drafts[example].question))
            if shot is not None:
                raise DataError(
                    f"the few-shot example {shot.id!r} ({shot.where}) stands in {name} too, as row "
                    f"{example.id!r}: its answer would be shown. Take examples from other rows"
                )
            group = drafts[example].group
            if len(groups.get(group, ())) < rules.fewshot.count:
                of = f" whose {rules.fewshot.group} is {group!r}" if group else ""
                raise DataError(
                    f"row {example.id!r} of {name} is to have {rules.fewshot.count} few-shot "
                    f"examples{of}, but {place} have {len(groups.get(group, ()))}; ask for fewer "
                    "(data.fewshot.count) or give more (data.fewshot.rows)"
                )
    return groups


def _with_shots(
    rows: Sequence[Example],
    name: str,
    shots: Mapping[str, Sequence[Draft]],
    rules: DealRules,
    drafts: Mapping[Example, Draft],
) -> list[Example]:
    template = get_template(rules.template)
    return [
        to_example(
            draft := drafts[example],
            template=template,
            wording=rules.wording(name),
            fewshot=rules.fewshot,
            shots=shots[draft.group],
        )
        for example in rows
    ]
