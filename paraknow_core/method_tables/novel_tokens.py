"""The start from novel tokens, and the controls of that."""

from paraknow_core.method import Change, Method
from paraknow_core.method_tables.names import CRITICISM, NOVEL_TOKENS, PLAIN

_TOKEN_ROLES = ("embed", "head")
"""Roles whose rows are tokens."""

_NOVEL = "after SeeKing's question (arXiv 2310.11451): which of the teacher is worth taking"


def novel_control(
    changes: Change, *, label: str, start: str, beaten: str, replacement: str
) -> Method:
    """Take one thing away from the start from novel token directions."""
    return Method(
        kind="transfer",
        label=label,
        start=start,
        tells=f"If novel-tokens beats it, {beaten}; if not, its gain is not owed to that.",
        source=CRITICISM,
        builder="novel-tokens",
        uses=frozenset({"parameters"}),
        of=NOVEL_TOKENS,
        changes=changes,
        replacement=replacement,
        draws=True,
        needs=("vocabulary roles",),
        covers=_TOKEN_ROLES,
    )


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
    needs=("vocabulary roles",),
    baseline=PLAIN,
    rivals=("pissa", "milora"),
    controls=("novel-random", "novel-shuffled"),
    covers=_TOKEN_ROLES,
)


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
