"""Every method that an arm can have, from one place: transfers, start points, controls.

Plain data, for flows, reports, documentation and ``--help``; needs no torch. No code compares the
names of methods: what is done with a method follows from the fields of its entry.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, get_args

from paraknow_core.registry import Registry

Kind = Literal["plain", "transfer", "student-start"]
Change = Literal["", "factors", "layers", "teacher", "seeds"]
Use = Literal["parameters", "activations", "outputs", "labels"]

TRANSFER, PLAIN = "transfer", "plain"

VANILLA = "vanilla"
"""The arm that is no method: the untouched student."""

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
        uses: which of the teacher's things it looks at.
        of: the method that a control takes one thing away from; empty for what is no control.
        changes: what of that method a control replaces; empty for none.
        replacement: what it puts there, by the name that the wiring knows.
        draws: whether another seed gives another start point.
        uses_samples: whether a start point without a teacher looks at the seed samples.
        directions: how many directions of each matrix it takes for one of the rank.
        learning_rates: its grid, where a comparison gives none.
        needs: what the settings must have for it: keys of ``NEEDS`` (``flows/config/needs.py``).
        baseline: of a transfer: what a gain is a gain over.
        rivals: of a transfer: what else every verdict compares it with.
        controls: of a transfer: what has to be beaten before a gain is called the teacher's.
        missed: what a report of one run says where this control is not among its arms.
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
        return ", ".join(use for use in get_args(Use) if use in self.uses)

    @property
    def is_factor_control(self) -> bool:
        """Whether it is a control that changes factors, after they were cut and decomposed."""
        return self.changes == "factors"

    def is_needed_by(self, method: str) -> bool:
        """Whether a claim that a method moved the teacher's knowledge has to beat it."""
        return self.of == method and self.changes in ("factors", "teacher")


_SEEKING = "SeeKing (arXiv 2310.11451)"
_CRITICISM = "after LaTen's criticism of SeeKing (arXiv 2505.14436)"


_CUTS: frozenset[Use] = frozenset({"parameters", "labels"})
"""Of the teacher, as the cuts of SeeKing take it: sensitivity needs the seed samples' answers."""


def _control(
    changes: Change,
    *,
    label: str,
    start: str,
    beaten: str,
    replacement: str = "",
    draws: bool = True,
    needs: tuple[str, ...] = (),
    missed: str = "",
) -> Method:
    """Take one thing away from the transfer."""
    return Method(
        kind="transfer",
        label=label,
        start=start,
        tells=f"If the transfer beats it, {beaten}; if not, its gain is not owed to that.",
        source=_CRITICISM,
        builder="cuts",
        uses=_CUTS,
        of=TRANSFER,
        changes=changes,
        replacement=replacement,
        draws=draws,
        needs=needs,
        missed=missed,
    )


def _student_start(
    label: str,
    start: str,
    source: str,
    *,
    draws: bool = False,
    uses_samples: bool = False,
    directions: int = 1,
) -> Method:
    """Make the start point of the student alone."""
    return Method(
        kind="student-start",
        label=label,
        start=start,
        tells="If the transfer does not beat it, the student needs no teacher for the same gain.",
        source=source,
        builder="student-start",
        draws=draws,
        uses_samples=uses_samples,
        directions=directions,
    )


METHODS: Registry[Method] = Registry(
    "method",
    {
        "plain": Method(
            kind="plain",
            label="tuned plain LoRA",
            title="plain LoRA",
            start="A drawn by Kaiming's rule, B = 0",
            tells="If the transfer does not beat it, the start point gains nothing.",
            source="LoRA (arXiv 2106.09685, §4.1)",
            builder="plain",
            draws=True,
        ),
        "transfer": Method(
            kind="transfer",
            label="the transfer",
            start="singular vectors of the teacher's most sensitive parts",
            tells="It is what the other arms are compared with.",
            source=f"{_SEEKING}, §3",
            builder="cuts",
            uses=_CUTS,
            baseline=PLAIN,
            rivals=("pissa",),
            controls=("same-spectrum", "shuffled-vocabulary"),
        ),
        "pissa": _student_start(
            "PiSSA", "the student's principal components", "PiSSA (arXiv 2404.02948)"
        ),
        "milora": _student_start(
            "MiLoRA", "the student's minor components", "MiLoRA (arXiv 2406.09044)"
        ),
        "olora": _student_start(
            "OLoRA", "an orthogonal basis of the student's weights", "OLoRA (arXiv 2406.01775)"
        ),
        "eva": _student_start(
            "EVA",
            "directions in which the student's inputs vary most",
            "EVA (arXiv 2410.07170)",
            draws=True,
            uses_samples=True,
        ),
        "corda": _student_start(
            "CorDA",
            "the student's components as seen by the covariance of its inputs",
            "CorDA (arXiv 2406.05223)",
            uses_samples=True,
        ),
        "lora-ga": _student_start(
            "LoRA-GA",
            "directions of the student's first gradient",
            "LoRA-GA (arXiv 2407.05000)",
            draws=True,
            uses_samples=True,
            directions=2,
        ),
        "same-spectrum": _control(
            "factors",
            label="the same-spectrum control",
            start="random orthonormal vectors with the transfer's singular values",
            beaten="the teacher's directions matter, beyond the size of the start point",
            missed="A transfer that beats plain LoRA does not show that the teacher's knowledge "
            "moved: a start point with the same singular values and random vectors has to be "
            "beaten too, and this run has no such control.",
        ),
        "shuffled-teacher": _control(
            "factors",
            label="the control with permuted matrices",
            start="the transfer with the rows and columns of every matrix permuted",
            beaten="the place of the teacher's values matters, beyond their distribution",
        ),
        "shuffled-vocabulary": _control(
            "factors",
            label="the shuffled-vocabulary control",
            start="the transfer with the rows of embedding and head permuted",
            beaten="which token a row belongs to matters",
            needs=("vocabulary roles",),
        ),
        "random-layers": _control(
            "layers",
            label="the transfer from random layers",
            start="the transfer from teacher layers drawn at random",
            beaten="the choice of layers by sensitivity matters",
            replacement="random",
        ),
        "random-teacher": _control(
            "teacher",
            label="the transfer from an untrained model",
            start="the transfer from a teacher of the same sizes that was never trained",
            beaten="what the teacher learnt matters",
            replacement="untrained",
        ),
        "own-teacher": _control(
            "teacher",
            label="the transfer from the student to itself",
            start="the transfer from the student to itself",
            beaten="a larger teacher gives more than the student's own weights do",
            replacement="student",
            draws=False,
        ),
        "other-seeds": _control(
            "seeds",
            label="the transfer with another task's seed samples",
            start="the transfer with sensitivity measured on seed samples of another task",
            beaten="the task of the seed samples matters",
            replacement="other task",
            draws=False,
            needs=("other data",),
        ),
    },
)
"""Every method by name, in the order of reports."""


def every_arm() -> tuple[str, ...]:
    """Every arm that a run can have, in the order of reports; the untouched student comes first."""
    return (VANILLA, *METHODS)


def arms_among(names: Iterable[str]) -> tuple[str, ...]:
    """Those of ``names`` that are arms, in the order of reports; looks up no other method."""
    found = set(names)
    return (*((VANILLA,) if VANILLA in found else ()), *METHODS.among(found))


def transfer_among(names: Iterable[str]) -> str:
    """The first of ``names`` that is a transfer and no control, as reports order them; or ""."""
    return next((name for name in METHODS.among(names) if METHODS[name].is_transfer), "")
