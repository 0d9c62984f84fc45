"""The tokens of a pair, where its tokenizers differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from paraknow_core.alignment.matrices import VOCABULARY_ROLES
from paraknow_core.alignment.tokens import TokenMatch, match_tokens
from tasks.acquire_model import load_architecture
from tasks.engine.json_files import read_json


def differ(known: Mapping[str, Path], *, roles: Sequence[str]) -> bool:
    """Whether rows of embedding or head are to move between two different tokenizers."""
    moves = any(role in roles for role in VOCABULARY_ROLES)
    told = [read_json(known[who] / "tokenizer.json") for who in ("teacher", "student")]
    return moves and told[0]["vocabulary"] != told[1]["vocabulary"]


def match_vocabularies(
    known: Mapping[str, Path], locations: Mapping[str, Path], *, roles: Sequence[str]
) -> TokenMatch | None:
    """Match the student's tokens with the teacher's, if rows are to move and tokenizers differ.

    Args:
        known: folders of the acquired ``teacher`` and ``student``.
        locations: where the two models lie.
        roles: roles to be moved.

    Raises:
        TokenizerError: if a tokenizer cannot be loaded.
    """
    if not differ(known, roles=roles):
        return None
    from paraknow_core.models.load import load_tokenizer

    found = {who: load_tokenizer(locations[who]).get_vocab() for who in ("teacher", "student")}
    return match_tokens(
        found["teacher"],
        found["student"],
        teacher_rows=load_architecture(known["teacher"]).vocab_size,
        student_rows=load_architecture(known["student"]).vocab_size,
    )
