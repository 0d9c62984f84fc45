"""The start from novel tokens, and the controls of that."""

from functools import partial

from paraknow_core.method import Method
from paraknow_core.method_tables.controls import control
from paraknow_core.method_tables.names import NOVEL_TOKENS, OWN, PLAIN

_TOKEN_ROLES = ("embed", "head")
"""Roles whose rows are tokens."""

_NOVEL = "after SeeKing's question (arXiv 2310.11451): which of the teacher is worth taking"


NOVEL_START = Method(
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
    needs=("vocabulary roles", "something novel"),
    baseline=PLAIN,
    rivals=("pissa", "milora"),
    controls=("novel-random", "novel-shuffled"),
    covers=_TOKEN_ROLES,
)

novel_control = partial(control, NOVEL_START, NOVEL_TOKENS)
"""Takes one thing away from the start from novel token directions."""


NOVEL_RANDOM = novel_control(
    "tokens",
    label="the control with random token directions",
    start="novel-tokens with random directions of the same sizes",
    beaten="the teacher's directions matter, beyond the size of the start point",
    replacement="random",
)

NOVEL_TOP = novel_control(
    "tokens",
    label="the control with the other model's leading token directions",
    start="novel-tokens with the teacher's leading directions in place of the novel ones",
    beaten="it matters that the student cannot express the directions",
    replacement="top",
)

NOVEL_SHUFFLED = novel_control(
    "tokens",
    label="the control with shuffled token rows",
    start="novel-tokens from a teacher whose rows belong to other tokens",
    beaten="which token a row belongs to matters",
    replacement="shuffled",
)

NOVEL_UNTRAINED = novel_control(
    "teacher",
    label="the novel tokens of an untrained model",
    start="novel-tokens from a model of the teacher's sizes that was never trained, "
    "another for each seed",
    beaten="what the teacher learnt matters",
    replacement="untrained",
)

NOVEL_OTHER = novel_control(
    "teacher",
    label="the novel tokens of another model of the same shape",
    start="novel-tokens from another trained teacher of the same shape",
    beaten="what this teacher learnt matters, beyond what any teacher of its shape has",
    replacement="other",
    needs=("other teacher",),
    keeps_knowledge=True,
)

NOVEL_OWN = novel_control(
    "teacher",
    label="the novel tokens of the student itself",
    start="novel-tokens from the student to itself: nothing, so it is refused",
    beaten="a teacher gives more than the student's own weights do",
    replacement=OWN,
)
