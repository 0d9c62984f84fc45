"""SeeKing: what is cut out of the teacher, and the controls of that."""

from functools import partial

from paraknow_core.method import Method, Use
from paraknow_core.method_tables.controls import control
from paraknow_core.method_tables.names import OWN, PLAIN, TRANSFER

_PAPER = "SeeKing (arXiv 2310.11451)"

_TAKEN: frozenset[Use] = frozenset({"parameters", "labels"})
"""Of the teacher, as the cuts of SeeKing take it: sensitivity needs the seed samples' answers."""


SEEKING = Method(
    kind="transfer",
    label="the transfer",
    start="singular vectors of the teacher's most sensitive parts",
    tells="It is what the other arms are compared with.",
    source=f"{_PAPER}, §3",
    builder="cuts",
    uses=_TAKEN,
    baseline=PLAIN,
    rivals=("pissa",),
    controls=("same-spectrum", "shuffled-vocabulary"),
    cuts=True,
)

cuts_control = partial(control, SEEKING, TRANSFER, called="the transfer")
"""Takes one thing away from the transfer."""


SAME_SPECTRUM = cuts_control(
    "factors",
    label="the same-spectrum control",
    start="random orthonormal vectors with the transfer's singular values",
    beaten="the teacher's directions matter, beyond the size of the start point",
    missed="A transfer that beats plain LoRA does not show that the teacher's knowledge "
    "moved: a start point with the same singular values and random vectors has to be "
    "beaten too, and this run has no such control.",
)

SHUFFLED_TEACHER = cuts_control(
    "factors",
    label="the control with permuted matrices",
    start="the transfer with the rows and columns of every matrix permuted",
    beaten="the place of the teacher's values matters, beyond their distribution",
)

SHUFFLED_VOCABULARY = cuts_control(
    "factors",
    label="the shuffled-vocabulary control",
    start="the transfer with the rows of embedding and head permuted",
    beaten="which token a row belongs to matters",
    needs=("vocabulary roles",),
)

RANDOM_LAYERS = cuts_control(
    "layers",
    label="the transfer from random layers",
    start="the transfer from teacher layers drawn at random",
    beaten="the choice of layers by sensitivity matters",
    replacement="random",
)

RANDOM_TEACHER = cuts_control(
    "teacher",
    label="the transfer from an untrained model",
    start="the transfer from a teacher of the same sizes that was never trained",
    beaten="what the teacher learnt matters",
    replacement="untrained",
)

OWN_TEACHER = cuts_control(
    "teacher",
    label="the transfer from the student to itself",
    start="the transfer from the student to itself",
    beaten="a larger teacher gives more than the student's own weights do",
    replacement=OWN,
    draws=False,
)

OTHER_TEACHER = cuts_control(
    "teacher",
    label="the transfer from another model of the same shape",
    start="the transfer from another trained teacher of the same shape",
    beaten="what this teacher learnt matters, beyond what any teacher of its shape has",
    replacement="other",
    draws=False,
    needs=("other teacher",),
    keeps_knowledge=True,
)

OTHER_SEEDS = cuts_control(
    "seeds",
    label="the transfer with another task's seed samples",
    start="the transfer with sensitivity measured on seed samples of another task",
    beaten="the task of the seed samples matters",
    replacement="other task",
    draws=False,
    needs=("other data",),
)
