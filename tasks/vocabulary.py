"""The tokens of a pair, where its tokenizers differ."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from paraknow_core.alignment.matrices import VOCABULARY_ROLES
from paraknow_core.alignment.tokens import TokenMatch, match_tokens
from paraknow_core.models.describe import Architecture
from tasks.acquire_model import FORESEEN_TOKENS, load_architecture
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
    return match_tokens(
        _tokens(known, locations, "teacher"),
        _tokens(known, locations, "student"),
        teacher_rows=load_architecture(known["teacher"]).vocab_size,
        student_rows=load_architecture(known["student"]).vocab_size,
    )


def match_tokenizers(
    locations: Mapping[str, Path], teacher: Architecture, student: Architecture
) -> tuple[TokenMatch, dict[int, str]]:
    """Match the student's tokens with the teacher's, whether their tokenizers differ or not.

    Args:
        locations: where ``teacher`` and ``student`` lie.
        teacher: the teacher's sizes.
        student: the student's.

    Returns:
        The match; rows that are padding of the vocabulary have no partner. And the student's
        tokens by their rows.

    Raises:
        TokenizerError: if a tokenizer cannot be loaded.
    """
    from paraknow_core.models.load import load_tokenizer

    theirs, ours = (load_tokenizer(locations[who]).get_vocab() for who in ("teacher", "student"))
    match = match_tokens(
        theirs, ours, teacher_rows=teacher.vocab_size, student_rows=student.vocab_size
    )
    return match, {row: token for token, row in ours.items()}


def _tokens(
    known: Mapping[str, Path], locations: Mapping[str, Path], who: str
) -> Mapping[str, int]:
    """Token → number, from where the model lies, or from the plan of one that does not yet."""
    if who not in locations:
        tokens: dict[str, int] = read_json(known[who] / FORESEEN_TOKENS)
        return tokens
    from paraknow_core.models.load import load_tokenizer

    return load_tokenizer(locations[who]).get_vocab()
