"""Every method that an arm can have, from one place: transfers, start points, controls.

Plain data, for flows, reports, documentation and ``--help``; needs no torch. No code compares the
names of methods: what is done with a method follows from the fields of its entry.
"""

from collections.abc import Iterable

from paraknow_core.method import Change, Use
from paraknow_core.method import Method as Method  # noqa: PLC0414 - re-exported
from paraknow_core.registry import Registry

TRANSFER, PLAIN, NOVEL_TOKENS = "transfer", "plain", "novel-tokens"

_TOKEN_ROLES = ("embed", "head")
"""Roles whose rows are tokens."""

VANILLA = "vanilla"
"""The arm that is no method: the untouched student."""

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
        cuts=True,
    )


_NOVEL = "after SeeKing's question (arXiv 2310.11451): which of the teacher is worth taking"


def _novel_control(
    changes: Change, *, label: str, start: str, beaten: str, replacement: str
) -> Method:
    """Take one thing away from the start from novel token directions."""
    return Method(
        kind="transfer",
        label=label,
        start=start,
        tells=f"If novel-tokens beats it, {beaten}; if not, its gain is not owed to that.",
        source=_CRITICISM,
        builder="novel-tokens",
        uses=frozenset({"parameters"}),
        of=NOVEL_TOKENS,
        changes=changes,
        replacement=replacement,
        draws=True,
        needs=("vocabulary roles",),
        covers=_TOKEN_ROLES,
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
            cuts=True,
        ),
        "novel-tokens": Method(
            kind="transfer",
            label="the start from novel tokens",
            title="novel tokens",
            start="in embedding and head, what the teacher's tokens differ by and the student's "
            "cannot; plain LoRA elsewhere",
            tells="It is what the other arms are compared with.",
            source=_NOVEL,
            builder="novel-tokens",
            uses=frozenset({"parameters"}),
            draws=True,
            needs=("vocabulary roles",),
            baseline=PLAIN,
            rivals=("pissa", "milora"),
            controls=("novel-random", "novel-shuffled"),
            covers=_TOKEN_ROLES,
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
        "novel-random": _novel_control(
            "tokens",
            label="the control with random token directions",
            start="novel-tokens with random directions of the same sizes",
            beaten="the teacher's directions matter, beyond the size of the start point",
            replacement="random",
        ),
        "novel-top": _novel_control(
            "tokens",
            label="the control with the other model's leading token directions",
            start="novel-tokens with the teacher's leading directions in place of the novel ones",
            beaten="it matters that the student cannot express the directions",
            replacement="top",
        ),
        "novel-shuffled": _novel_control(
            "tokens",
            label="the control with shuffled token rows",
            start="novel-tokens from a teacher whose rows belong to other tokens",
            beaten="which token a row belongs to matters",
            replacement="shuffled",
        ),
        "novel-untrained": _novel_control(
            "teacher",
            label="the novel tokens of an untrained model",
            start="novel-tokens from a model of the teacher's sizes that was never trained, "
            "another for each seed",
            beaten="what the teacher learnt matters",
            replacement="untrained",
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
