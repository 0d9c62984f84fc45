"""Every method that an arm can have, from one place: transfers, start points, controls.

Plain data, for flows, reports, documentation and ``--help``; needs no torch.
"""

from dataclasses import dataclass
from typing import Literal

from paraknow_core.registry import Registry

Kind = Literal["plain", "transfer", "student-start"]
Change = Literal["", "factors", "layers", "teacher", "seeds"]


@dataclass(frozen=True)
class Method:
    """What an arm starts from, and what a comparison with it can and cannot show.

    Attributes:
        kind: ``plain`` LoRA; ``transfer``: cut out of some teacher; ``student-start``: made of the
            student alone.
        start: what the start point is, in a few words.
        tells: what it means whether the transfer beats it.
        source: where it comes from.
        changes: what of the transfer a control replaces; empty for none.
        draws: whether another seed gives another start point.
        uses_samples: whether a start point without a teacher looks at the seed samples.
    """

    kind: Kind
    start: str
    tells: str
    source: str
    changes: Change = ""
    draws: bool = False
    uses_samples: bool = False

    @property
    def is_control(self) -> bool:
        """Whether it is the transfer with one thing replaced: what a difference is owed to."""
        return bool(self.changes)

    @property
    def is_needed(self) -> bool:
        """Whether a claim that the teacher's knowledge moved has to beat it."""
        return self.changes in ("factors", "teacher")


TRANSFER, PLAIN = "transfer", "plain"

_SEEKING = "SeeKing (arXiv 2310.11451)"
_CRITICISM = "after LaTen's criticism of SeeKing (arXiv 2505.14436)"


def _control(changes: Change, start: str, beaten: str, *, draws: bool = True) -> Method:
    return Method(
        kind="transfer",
        start=start,
        tells=f"If the transfer beats it, {beaten}; if not, its gain is not owed to that.",
        source=_CRITICISM,
        changes=changes,
        draws=draws,
    )


def _start(start: str, source: str, *, draws: bool = False, uses_samples: bool = False) -> Method:
    return Method(
        kind="student-start",
        start=start,
        tells="If the transfer does not beat it, the student needs no teacher for the same gain.",
        source=source,
        draws=draws,
        uses_samples=uses_samples,
    )


METHODS: Registry[Method] = Registry(
    "method",
    {
        "plain": Method(
            kind="plain",
            start="A drawn by Kaiming's rule, B = 0",
            tells="If the transfer does not beat it, the start point gains nothing.",
            source="LoRA (arXiv 2106.09685, §4.1)",
            draws=True,
        ),
        "transfer": Method(
            kind="transfer",
            start="singular vectors of the teacher's most sensitive parts",
            tells="It is what the other arms are compared with.",
            source=f"{_SEEKING}, §3",
        ),
        "pissa": _start("the student's principal components", "PiSSA (arXiv 2404.02948)"),
        "milora": _start("the student's minor components", "MiLoRA (arXiv 2406.09044)"),
        "olora": _start("an orthogonal basis of the student's weights", "OLoRA (arXiv 2406.01775)"),
        "eva": _start(
            "directions in which the student's inputs vary most",
            "EVA (arXiv 2410.07170)",
            draws=True,
            uses_samples=True,
        ),
        "corda": _start(
            "the student's components as seen by the covariance of its inputs",
            "CorDA (arXiv 2406.05223)",
            uses_samples=True,
        ),
        "lora-ga": _start(
            "directions of the student's first gradient",
            "LoRA-GA (arXiv 2407.05000)",
            draws=True,
            uses_samples=True,
        ),
        "same-spectrum": _control(
            "factors",
            "random orthonormal vectors with the transfer's singular values",
            "the teacher's directions matter, beyond the size of the start point",
        ),
        "shuffled-teacher": _control(
            "factors",
            "the transfer with the rows and columns of every matrix permuted",
            "the place of the teacher's values matters, beyond their distribution",
        ),
        "shuffled-vocabulary": _control(
            "factors",
            "the transfer with the rows of embedding and head permuted",
            "which token a row belongs to matters",
        ),
        "random-layers": _control(
            "layers",
            "the transfer from teacher layers drawn at random",
            "the choice of layers by sensitivity matters",
        ),
        "random-teacher": _control(
            "teacher",
            "the transfer from a teacher of the same sizes that was never trained",
            "what the teacher learnt matters",
        ),
        "own-teacher": _control(
            "teacher",
            "the transfer from the student to itself",
            "a larger teacher gives more than the student's own weights do",
            draws=False,
        ),
        "other-seeds": _control(
            "seeds",
            "the transfer with sensitivity measured on seed samples of another task",
            "the task of the seed samples matters",
            draws=False,
        ),
    },
)
"""Every method by name, in the order of reports."""

VANILLA = "vanilla"
ARMS: tuple[str, ...] = (VANILLA, *METHODS)
"""Every arm that a run can have, in the order of reports; the first is the untouched student."""

CONTROLS: tuple[str, ...] = tuple(name for name, m in METHODS.items() if m.is_control)
STUDENT_STARTS: tuple[str, ...] = tuple(n for n, m in METHODS.items() if m.kind == "student-start")
