"""What a method is: an entry of the table in ``methods``."""

from collections.abc import Collection
from dataclasses import dataclass
from typing import Literal, get_args

Kind = Literal["plain", "transfer", "student-start"]
Change = Literal["", "factors", "tokens", "layers", "teacher", "seeds", "update"]
Use = Literal["parameters", "activations", "outputs", "labels"]

USUAL_RATES = (1e-4, 3e-4, 1e-3)


@dataclass(frozen=True, kw_only=True)
class Method:
    """What an arm starts from, and what a comparison with it can and cannot show.

    Attributes:
        kind: ``plain`` LoRA; ``transfer``: made of some teacher; ``student-start``: made of the
            student alone.
        label: how a verdict's sentence calls it; without the word "teacher".
        title: how the table of one run calls it; empty: by its name.
        start: what the start point is, in a few words.
        tells: what it means whether the transfer beats it.
        source: where it comes from.
        builder: which wiring makes its start point: a key of ``BUILDERS``
            (``flows/graph/start_points.py``).
        uses: what it needs from the teacher.
        of: the method that a control takes one thing away from; empty for what is no control.
        changes: the part of that method that a control replaces; empty for none.
        replacement: what it puts there, by the name that the wiring knows.
        draws: whether another seed gives another start point.
        uses_samples: whether a start point without a teacher looks at the seed samples.
        directions: how many directions of each matrix it takes for one of the rank.
        learning_rates: its grid, where a comparison gives none.
        needs: what the settings must contain for it: keys of ``NEEDS`` (``flows/config/needs.py``).
        baseline: of a transfer: the method that a gain is measured against.
        rivals: of a transfer: what else every verdict compares it with.
        controls: of a transfer: what has to be beaten before a gain is called the teacher's.
        missed: what the report of a run without this control says.
        keeps_knowledge: of a control: whether it still starts from what some teacher learnt, so
            that a claim that the teacher's knowledge moved need not beat it.
        covers: the roles that it has a start point for; empty for all. Others start as plain LoRA.
        cuts: whether it cuts the student's shapes out of the teacher, which must then be as large.
    """

    kind: Kind
    label: str
    start: str
    tells: str
    source: str
    builder: str
    title: str = ""
    uses: frozenset[Use] = frozenset()
    of: str = ""
    changes: Change = ""
    replacement: str = ""
    draws: bool = False
    uses_samples: bool = False
    directions: int = 1
    learning_rates: tuple[float, ...] = USUAL_RATES
    needs: tuple[str, ...] = ()
    baseline: str = ""
    rivals: tuple[str, ...] = ()
    controls: tuple[str, ...] = ()
    missed: str = ""
    keeps_knowledge: bool = False
    covers: tuple[str, ...] = ()
    cuts: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it is plain LoRA, which others are measured by."""
        return self.kind == "plain"

    @property
    def is_transfer(self) -> bool:
        """Whether it starts from the teacher as it is meant to: what a verdict is about."""
        return self.kind == "transfer" and not self.is_control

    @property
    def is_student_start(self) -> bool:
        """Whether it is made of the student alone."""
        return self.kind == "student-start"

    @property
    def is_control(self) -> bool:
        """Whether it is a method with one thing replaced: what a difference is owed to."""
        return bool(self.of)

    @property
    def used(self) -> str:
        """What of the teacher it looks at, in words; "" if nothing."""
        return in_words(self.uses)

    @property
    def is_factor_control(self) -> bool:
        """Whether it is a control that changes factors, after they were cut and decomposed."""
        return self.changes == "factors"

    def is_needed_by(self, method: str) -> bool:
        """Whether a claim that a method moved the teacher's knowledge has to beat it."""
        takes_it = self.changes in ("factors", "tokens", "teacher", "update")
        return self.of == method and takes_it and not self.keeps_knowledge


def in_words(uses: Collection[str]) -> str:
    """Name what of a teacher is used, always in the same order; "" if nothing."""
    return ", ".join(use for use in get_args(Use) if use in uses)
