"""Tokens of two tokenizers are matched by the text they stand for."""

import pytest

from paraknow_core.alignment.tokens import _alphabet, check_share, match_tokens
from paraknow_core.errors import TokenizerError


def test_byte_level_and_sentencepiece_spellings_meet() -> None:
    byte_level = {letter: row for row, letter in enumerate(_alphabet())}
    byte_level |= {"Ġthe": 300, "Ã©": 301, "the": 302, "<|end|>": 303}
    pieces = {"▁the": 0, "é": 1, "the": 2, "<0x0A>": 3, "</s>": 4, "▁": 5}
    found = match_tokens(byte_level, pieces, teacher_rows=310, student_rows=8)
    expected = (300, 301, 302, byte_level["Ċ"], -1, byte_level["Ġ"], -1, -1)
    assert found.rows == expected
    assert (found.matched, found.tokens, found.share) == (5, 6, 5 / 6)
    back = match_tokens(pieces, byte_level, teacher_rows=6, student_rows=304)
    assert [back.rows[row] for row in (300, 301, 302, 303)] == [0, 1, 2, -1]


def test_gpt2s_alphabet_is_the_published_one() -> None:
    alphabet = _alphabet()
    assert len(alphabet) == len(set(alphabet.values())) == 256
    assert (alphabet["Ġ"], alphabet["Ċ"], alphabet["A"]) == (0x20, 0x0A, 0x41)


def test_an_equal_string_goes_before_equal_bytes_and_text_before_spelt_bytes() -> None:
    teacher = {"<0x41>": 0, "A": 1, "▁b": 2, " b": 3}
    found = match_tokens(
        teacher, {"A": 0, "<0x41>": 1, " b": 2, "▁b": 3}, teacher_rows=4, student_rows=4
    )
    assert found.rows == (1, 0, 3, 2)


def test_tokens_beyond_the_rows_have_no_partner() -> None:
    found = match_tokens({"a": 0, "b": 9}, {"b": 0, "a": 1, "c": 7}, teacher_rows=5, student_rows=3)
    assert (found.rows, found.tokens) == ((-1, 0, -1), 2)


def test_too_small_a_share_is_refused_and_none_at_all_always() -> None:
    found = match_tokens({"a": 0}, {"a": 0, "b": 1, "c": 2}, teacher_rows=1, student_rows=3)
    check_share(found, least=0.3)
    with pytest.raises(TokenizerError, match=r"student's 3 tokens 1 \(33\.3%\).*50%"):
        check_share(found, least=0.5)
    none = match_tokens({"x": 0}, {"a": 0}, teacher_rows=1, student_rows=1)
    with pytest.raises(TokenizerError, match=r"0 \(0\.0%\)"):
        check_share(none, least=0.0)
