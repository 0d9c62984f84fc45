"""Token numbers and labels, with the tiny word-level tokenizer (<pad> <s> </s> <unk> 0–9 w0 …)."""

from typing import Any

import pytest
from support.tiny import tiny_examples, tiny_tokenizer

from paraknow_core.data import Example, TokenisedExample, tokenise, tokenise_all
from paraknow_core.errors import DataError, TokenizerError

BOS, EOS = 1, 2
TEXT = Example("x", "3 4", " 7 8")  # tokens 7 8 | 11 12


def test_prompt_answer_and_end() -> None:
    assert tokenise(TEXT, tiny_tokenizer(), cutoff=100) == TokenisedExample(
        (BOS, 7, 8, 11, 12, EOS), (-100, -100, -100, 11, 12, EOS)
    )
    without_bos = tokenise(TEXT, tiny_tokenizer(bos=False), cutoff=100)
    assert without_bos.input_ids == (7, 8, 11, 12, EOS)
    assert without_bos.answer_tokens == 3


def test_labels_are_tokens_or_no_loss_and_only_at_the_end() -> None:
    tokenizer = tiny_tokenizer()
    for number, (prompt, answer) in enumerate(tiny_examples(30)):
        row = tokenise(Example(str(number), prompt, answer), tokenizer, cutoff=100)
        n = row.answer_tokens
        assert row.labels == (-100,) * (len(row.labels) - n) + row.input_ids[-n:]
        assert tokenizer.decode(row.input_ids[-n:-1]).split() == answer.split()


def test_nothing_is_lost_where_prompt_and_answer_would_be_one_token() -> None:
    tokenizer = tiny_tokenizer()
    assert "w12" in tokenizer.get_vocab()
    row = tokenise(Example("x", "w1", "2 3"), tokenizer, cutoff=100)
    assert tokenizer.convert_ids_to_tokens(row.input_ids) == ["<s>", "w1", "2", "3", "</s>"]
    assert row.answer_tokens == 3


@pytest.mark.parametrize(("cutoff", "kept"), [(6, 3), (5, 2), (4, 1)])
def test_the_cut_off_takes_from_the_end(cutoff: int, kept: int) -> None:
    row = tokenise(TEXT, tiny_tokenizer(), cutoff=cutoff)
    assert len(row.input_ids) == len(row.labels) == cutoff
    assert row.answer_tokens == kept


def test_nothing_left_of_the_answer() -> None:
    with pytest.raises(DataError, match="'x': the prompt takes 3 tokens, so a cut-off of 3"):
        tokenise(TEXT, tiny_tokenizer(), cutoff=3)


def test_all_counts_what_the_cut_off_did() -> None:
    longer = Example("y", "1 2 3 4 5", " 6")
    split = tokenise_all([TEXT, longer], tiny_tokenizer(), cutoff=5)
    assert (len(split.examples), split.truncated, split.dropped) == (1, 1, 1)
    whole = tokenise_all([TEXT, longer], tiny_tokenizer(), cutoff=50)
    assert (len(whole.examples), whole.truncated, whole.dropped) == (2, 0, 0)
    with pytest.raises(DataError, match=r"cut-off of 2 tokens leaves nothing .* any of the 2 rows"):
        tokenise_all([TEXT, longer], tiny_tokenizer(), cutoff=2)


def test_tokenised_rows_pass_through_and_must_fit_the_vocabulary() -> None:
    row = Example("t", input_ids=(5, 6, 63), labels=(-100, 6, 63))
    assert tokenise(row, tiny_tokenizer(), cutoff=9).input_ids == (5, 6, 63)
    assert tokenise(row, tiny_tokenizer(), cutoff=2).labels == (-100, 6)
    with pytest.raises(DataError, match=r"'t' holds token 63.*only 32"):
        tokenise(row, tiny_tokenizer(32), cutoff=9)


def test_tokenizers_that_cannot_be_used() -> None:
    no_end: Any = tiny_tokenizer()
    no_end.eos_token = None
    with pytest.raises(TokenizerError, match="no EOS token"):
        tokenise(TEXT, no_end, cutoff=9)
    appending: Any = tiny_tokenizer()
    appending.backend_tokenizer.post_processor = _appending_eos()
    with pytest.raises(TokenizerError, match="appends '</s>' to every text"):
        tokenise(TEXT, appending, cutoff=9)


def _appending_eos() -> Any:
    from tokenizers import processors

    return processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", EOS)])


def test_a_prompt_without_tokens_is_refused() -> None:
    with pytest.raises(DataError, match="the prompt gives no tokens"):
        tokenise(Example("x", " ", "5"), tiny_tokenizer(bos=False), cutoff=9)
