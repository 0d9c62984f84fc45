"""Which token of the teacher corresponds to each token of the student, if tokenizers differ.

Needs no torch.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from paraknow_core.errors import TokenizerError

_BYTE_TOKEN = re.compile(r"<0x([0-9A-Fa-f]{2})>")
_WORD_START = "▁"


@dataclass(frozen=True)
class TokenMatch:
    """The teacher's row for each row of the student's embedding; −1 where there is none.

    Attributes:
        tokens: tokens of the student's tokenizer; rows beyond them are padding.
    """

    rows: tuple[int, ...]
    tokens: int

    @property
    def matched(self) -> int:
        """Rows with a partner."""
        return sum(row >= 0 for row in self.rows)

    @property
    def share(self) -> float:
        """Share of the student's tokens that have a partner."""
        return self.matched / max(self.tokens, 1)


def match_tokens(
    teacher: Mapping[str, int],
    student: Mapping[str, int],
    *,
    teacher_rows: int,
    student_rows: int,
) -> TokenMatch:
    """Match tokens that stand for the same bytes of text.

    Byte-level vocabularies (GPT-2's alphabet, "Ġthe") are decoded to bytes, SentencePiece ones
    have "▁" for a space and "<0x0A>" for a byte; any other token stands for its UTF-8. Where
    several tokens stand for the same bytes, an equal string goes first, then the lowest number.
    Special tokens are matched by their strings like all others, never by their use: "</s>" and
    "<|endoftext|>" do not mean the same to two models.

    Args:
        teacher: token → number, as the tokenizer's ``get_vocab`` gives it.
        student: token → number of the student's tokenizer.
        teacher_rows: rows of the teacher's embedding; tokens beyond them are ignored.
        student_rows: rows of the student's embedding.
    """
    text_of_teachers = _reader(teacher)
    theirs: dict[bytes, int] = {}
    # Byte tokens such as <0x41> come last: they stand for the same text as the plain token "A", but
    # the model seldom meets them.
    for token, row in sorted(teacher.items(), key=lambda item: (_is_byte(item[0]), item[1])):
        if row < teacher_rows:
            theirs.setdefault(text_of_teachers(token), row)
    text_of = _reader(student)
    rows = [-1] * student_rows
    known = {token: row for token, row in student.items() if row < student_rows}
    for token, row in known.items():
        text, same = text_of(token), teacher.get(token, teacher_rows)
        is_same = same < teacher_rows and text_of_teachers(token) == text
        rows[row] = same if is_same else theirs.get(text, -1)
    return TokenMatch(tuple(rows), len(known))


def check_share(match: TokenMatch, *, least: float) -> None:
    """Refuse tokenizers that have too little in common.

    Raises:
        TokenizerError: if the share is below ``least``, or nothing matches; states both.
    """
    if match.matched and match.share >= least:
        return
    raise TokenizerError(
        f"The tokenizers differ: of the student's {match.tokens} tokens {match.matched} "
        f"({match.share:.1%}) are tokens of the teacher's too, and at least {least:.0%} are asked "
        "for. Leave embed and head out of extract.roles, or lower extract.min_vocabulary_share; "
        "rows without a partner stay as they are in the student."
    )


def _is_byte(token: str) -> bool:
    return _BYTE_TOKEN.fullmatch(token) is not None


def _reader(vocabulary: Mapping[str, int]) -> Callable[[str], bytes]:
    """Return what turns a token into bytes: GPT-2's alphabet if every letter of it is a token."""
    alphabet = _alphabet()
    if alphabet.keys() <= vocabulary.keys():
        return lambda token: _decoded(token, alphabet)
    return _plain


def _decoded(token: str, alphabet: Mapping[str, int]) -> bytes:
    if all(letter in alphabet for letter in token):
        return bytes(alphabet[letter] for letter in token)
    return token.encode()  # a special token with a letter outside the alphabet


def _plain(token: str) -> bytes:
    byte = _BYTE_TOKEN.fullmatch(token)
    if byte:
        return bytes([int(byte[1], 16)])
    return token.replace(_WORD_START, " ").encode(errors="surrogatepass")


def _alphabet() -> dict[str, int]:
    """GPT-2's letter for each byte: itself where it can be printed, else one from 256 on."""
    printed = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printed]
    letters = {chr(byte): byte for byte in printed}
    return letters | {chr(256 + place): byte for place, byte in enumerate(others)}
