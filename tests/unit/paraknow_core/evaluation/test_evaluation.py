"""Evaluation against a direct forward pass and greedy loop, and models made to know the answer."""

import contextlib
import socket
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny import tiny_config, tiny_examples, tiny_tokenizer

from paraknow_core.data import Example, tokenise
from paraknow_core.errors import DataError
from paraknow_core.evaluation.evaluate import evaluate
from paraknow_core.evaluation.items import Item, read_items, write_items
from paraknow_core.evaluation.match import get_match, last_number
from paraknow_core.evaluation.metrics import EvaluationResult

EXAMPLES = [Example(f"r{i}", *pair) for i, pair in enumerate(tiny_examples(9))]


def tiny(seed: int = 0, **changes: Any) -> Any:
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return AutoModelForCausalLM.from_config(tiny_config("llama", **changes)).eval()


def direct_nll(model: Any, example: Example) -> tuple[float, int]:
    """Slow and obvious: one row, one forward pass, float64 log-probabilities."""
    row = tokenise(example, tiny_tokenizer(), cutoff=10**6)
    ids, labels = row.input_ids[:-1], row.labels[:-1]  # without end-of-sequence
    with torch.no_grad():
        logits_LV = model(torch.tensor([ids])).logits[0].double()
    picked = [
        -logits_LV[place - 1].log_softmax(-1)[label].item()
        for place, label in enumerate(labels)
        if label != -100
    ]
    return sum(picked), len(picked)


def direct_greedy(model: Any, example: Example, steps: int) -> str:
    tokenizer = tiny_tokenizer()
    ids = tokenizer(example.prompt)["input_ids"]
    new: list[int] = []
    while len(new) < steps:
        with torch.no_grad():
            token = int(model(torch.tensor([ids + new])).logits[0, -1].argmax())
        if token == tokenizer.eos_token_id:
            break
        new.append(token)
    return str(tokenizer.decode(new, skip_special_tokens=True))


def test_nll_tokens_and_greedy_text_equal_a_direct_computation() -> None:
    model = tiny()
    result = evaluate(model, tiny_tokenizer(), EXAMPLES, max_new_tokens=4, batch_size=4)
    references = [direct_nll(model, example) for example in EXAMPLES]
    for item, example, (nll, tokens) in zip(result.items, EXAMPLES, references, strict=True):
        assert item.id == example.id
        assert item.nll == pytest.approx(nll, abs=1e-5)
        assert item.tokens == tokens
        assert item.generated == direct_greedy(model, example, 4)
    total = sum(nll for nll, _ in references) / sum(tokens for _, tokens in references)
    assert result.metrics["answer_nll"] == pytest.approx(total, abs=1e-5)
    assert result.metrics["perplexity"] == pytest.approx(2.718281828459045**total, rel=1e-5)
    assert result.metrics["items"] == len(EXAMPLES)


def test_the_batch_size_changes_nothing_and_a_repeat_is_identical() -> None:
    model = tiny()
    one, four, again = (
        evaluate(model, tiny_tokenizer(), EXAMPLES, max_new_tokens=4, batch_size=size)
        for size in (1, 4, 4)
    )
    assert four == again
    for a, b in zip(one.items, four.items, strict=True):
        assert a.nll == pytest.approx(b.nll, abs=1e-5)
        assert replace(a, nll=0.0) == replace(b, nll=0.0)


def counting_model() -> Any:
    """Answers the token after the last one, with certainty: embeddings and head do it alone.

    Attention and feed-forward are zero; the head's row t + 1 is token t's embedding.
    """
    model = tiny(hidden_size=64, num_hidden_layers=1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "o_proj" in name or "down_proj" in name:
                parameter.zero_()
        model.model.embed_tokens.weight.copy_(torch.eye(64))
        model.lm_head.weight.copy_(10 * torch.eye(64).roll(1, dims=0))
    return model


def test_exact_match_of_a_model_that_counts() -> None:
    examples = [
        Example("right", "0 1 2", " 3 4 5"),
        Example("also right", "5", " 6 7 8"),
        Example("wrong", "0 1 2", " 3 4 6"),
    ]
    result = evaluate(counting_model(), tiny_tokenizer(), examples, max_new_tokens=3)
    assert [item.correct for item in result.items] == [True, True, False]
    assert result.metrics["exact_match"] == pytest.approx(2 / 3)
    assert result.items[2].generated == "3 4 5"
    assert result.items[0].nll < 1e-6 < 1 < result.items[2].nll


def test_last_number_looks_only_at_the_last_number() -> None:
    example = Example("x", "5", " the answer is 8")
    model = counting_model()
    exact = evaluate(model, tiny_tokenizer(), [example], max_new_tokens=3)
    number = evaluate(model, tiny_tokenizer(), [example], match="last_number", max_new_tokens=3)
    assert (exact.items[0].correct, number.items[0].correct) == (False, True)
    assert (number.items[0].extracted, number.items[0].expected) == ("8", "8")


def test_generation_ends_at_a_stop_text() -> None:
    example = Example("x", "1 2", " 3")
    result = evaluate(counting_model(), tiny_tokenizer(), [example], max_new_tokens=6, until=["5"])
    assert result.items[0].extracted == "3 4"


def test_numbers_are_compared_by_value() -> None:
    assert last_number("so 3 + 4 makes $1,234.50.") == "1234.5"
    assert last_number("#### -7") == "-7"
    assert last_number("100") == "100"
    assert last_number("-0.0") == "0"
    assert last_number(".5 kg") == "0.5"
    assert last_number("10-3") == "3"
    assert last_number("(-3)") == "-3"
    assert last_number("none") == ""


def test_unknown_match_names_the_nearest() -> None:
    with pytest.raises(DataError, match="did you mean 'last_number'"):
        get_match("last-number")


def test_an_adapter_on_a_tied_model_is_measured_and_left_as_it_was() -> None:
    peft = pytest.importorskip("peft")
    base = tiny(tie_word_embeddings=True)
    config = peft.LoraConfig(
        r=2, target_modules=["q_proj", "embed_tokens", "lm_head"], ensure_weight_tying=True
    )
    with _peft_reads_a_renamed_attribute():
        model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(0.1 * torch.randn(parameter.shape, generator=_generator()))
    model.train()
    settings, state = model.generation_config, {k: v.clone() for k, v in model.state_dict().items()}
    result = evaluate(model, tiny_tokenizer(), EXAMPLES, max_new_tokens=2, batch_size=4)
    assert model.training
    assert model.generation_config is settings
    assert all(torch.equal(state[name], value) for name, value in model.state_dict().items())
    model.eval()
    for item, example in zip(result.items, EXAMPLES, strict=True):
        assert item.nll == pytest.approx(direct_nll(model, example)[0], abs=1e-5)


def _generator() -> torch.Generator:
    return torch.Generator().manual_seed(0)


@contextlib.contextmanager
def _peft_reads_a_renamed_attribute() -> Iterator[None]:
    import warnings

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=".*is_gradient_checkpointing.*")
        yield


def test_the_checkpoints_own_generation_settings_do_not_count() -> None:
    from transformers import GenerationConfig

    plain, set_otherwise = tiny(), tiny()
    set_otherwise.generation_config = GenerationConfig(
        do_sample=True, temperature=0.6, repetition_penalty=5.0, max_new_tokens=1, eos_token_id=9
    )
    results = [
        evaluate(model, tiny_tokenizer(), EXAMPLES, max_new_tokens=8)
        for model in (plain, set_otherwise)
    ]
    assert results[0] == results[1]


def test_tokenizer_without_padding_token_is_left_alone() -> None:
    tokenizer = tiny_tokenizer()
    tokenizer.pad_token = None
    with_padding = evaluate(tiny(), tiny_tokenizer(), EXAMPLES, max_new_tokens=4)
    assert evaluate(tiny(), tokenizer, EXAMPLES, max_new_tokens=4) == with_padding
    assert tokenizer.pad_token is None


def test_tokenised_rows_are_measured_as_their_text() -> None:
    tokenizer = tiny_tokenizer()
    rows = [tokenise(example, tokenizer, cutoff=100) for example in EXAMPLES]
    tokenised = [
        Example(example.id, input_ids=row.input_ids, labels=row.labels)
        for example, row in zip(EXAMPLES, rows, strict=True)
    ]
    texts = evaluate(tiny(), tokenizer, EXAMPLES, max_new_tokens=2)
    tokens = evaluate(tiny(), tokenizer, tokenised, max_new_tokens=2)
    assert [(item.nll, item.tokens) for item in tokens.items] == [
        (item.nll, item.tokens) for item in texts.items
    ]


@pytest.mark.parametrize(
    ("ids", "labels", "words"),
    [
        ((7, 8, 9), (-100, -100, 9), "'x'.*do not come back.*give its text"),  # no <s> before
        ((1, 7, 8, 9), (-100, 7, -100, 9), "'x'.*stand inside the answer"),
        ((1, 7, 2), (-100, -100, 2), "'x'.*do not come back"),  # nothing but end-of-sequence
    ],
)
def test_tokenised_rows_without_an_exact_text_are_refused(
    ids: tuple[int, ...], labels: tuple[int, ...], words: str
) -> None:
    with pytest.raises(DataError, match=words):
        evaluate(tiny(), tiny_tokenizer(), [Example("x", input_ids=ids, labels=labels)])


def test_progress_counts_every_row_of_both_tasks(capfd: pytest.CaptureFixture[str]) -> None:
    seen: list[tuple[int, int]] = []
    repeated = [*EXAMPLES, replace(EXAMPLES[0], id="again")]
    evaluate(
        tiny(),
        tiny_tokenizer(),
        repeated,
        max_new_tokens=2,
        batch_size=4,
        progress=lambda done, total, _: seen.append((done, total)),
    )
    assert [done for done, _ in seen] == [4, 8, 10, 14, 18, 20]
    assert {total for _, total in seen} == {20}
    assert capfd.readouterr() == ("", "")  # neither bars nor advice of the harness


def test_no_network_is_touched(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: Any, **__: Any) -> None:
        raise AssertionError("a connection was attempted")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    assert evaluate(tiny(), tiny_tokenizer(), EXAMPLES[:2], max_new_tokens=1).metrics["items"] == 2


@pytest.mark.parametrize(
    ("examples", "settings", "words"),
    [
        ([], {}, "holds no rows"),
        (EXAMPLES, {"match": "exakt"}, "unknown match 'exakt'.*did you mean 'exact'"),
        (EXAMPLES, {"batch_size": 0}, r"batch_size \(0\)"),
        ([Example("n", "5", "none")], {"match": "last_number"}, "'n'.*nothing to compare.*'none'"),
        (EXAMPLES, {"max_new_tokens": 255}, "row 'r0' needs .* the model takes 256"),
        ([Example("long", "5 " * 300, " 6")], {}, "row 'long' needs 301 prompt tokens"),
    ],
)
def test_bad_requests(examples: Sequence[Example], settings: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        evaluate(tiny(), tiny_tokenizer(), examples, **{"max_new_tokens": 4} | settings)


def test_a_model_that_overflows_is_measured_and_the_items_to_blame_are_counted(
    tmp_path: Path,
) -> None:
    model = tiny()
    with torch.no_grad():
        model.lm_head.weight.fill_(float("nan"))
    result = evaluate(model, tiny_tokenizer(), EXAMPLES, max_new_tokens=1)
    assert result.not_finite == len(EXAMPLES)
    assert result.metrics["answer_nll"] == result.metrics["perplexity"] == float("inf")
    assert result.metrics["exact_match"] == 0
    write_items(tmp_path / "items.parquet", result.items)
    again = EvaluationResult(tuple(read_items(tmp_path / "items.parquet")))
    assert again.not_finite == len(EXAMPLES)


def test_items_come_back_from_parquet_with_the_same_bytes(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    items = [
        Item("a", "p", "q", 1.25, 3, "g", "g", "q", False),
        Item("b", "<script>", "é\n", 0.1, 1, "", "", "é", True),
    ]
    write_items(tmp_path / "one.parquet", items)
    write_items(tmp_path / "two.parquet", items)
    assert read_items(tmp_path / "one.parquet") == items
    assert (tmp_path / "one.parquet").read_bytes() == (tmp_path / "two.parquet").read_bytes()
    names = pq.read_schema(tmp_path / "one.parquet").names
    assert names[:5] == ["id", "prompt", "answer", "nll", "tokens"]
    (tmp_path / "bad.parquet").write_bytes(b"no")
    with pytest.raises(DataError, match=r"bad\.parquet cannot be read"):
        read_items(tmp_path / "bad.parquet")


def test_metrics_weigh_by_tokens_and_survive_a_hopeless_model() -> None:
    def item(nll: float, tokens: int) -> Item:
        return Item("", "", "", nll, tokens, "", "", "", correct=False)

    assert EvaluationResult((item(1.0, 1), item(8.0, 2))).metrics["answer_nll"] == 3.0
    assert EvaluationResult((item(2000.0, 1),)).metrics["perplexity"] == float("inf")
