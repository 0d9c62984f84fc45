"""Samples that go through the model together: each one's own gradient, whatever is beside it."""

import pytest
import torch
from support.tiny import FAMILIES, tiny_model
from support.tiny import tiny_samples as samples
from torch import nn

from paraknow_core.data.examples import TokenisedExample
from paraknow_core.extraction.window import best_window
from paraknow_core.models import logit_chunks
from paraknow_core.models.load import load_model
from paraknow_core.sensitivity.accumulate import accumulate
from paraknow_core.sensitivity.batches import Batch
from paraknow_core.sensitivity.grouping import MOST_TOGETHER, batches, used_tokens
from paraknow_core.sensitivity.losses import answer_loss, answer_losses


def together(model, examples, tokens=1000, **options):
    """The maps, and how many samples were in each forward pass."""
    sizes = []
    handle = model.get_input_embeddings().register_forward_hook(
        lambda _module, inputs, _output: sizes.append(len(inputs[0]))
    )
    try:
        return accumulate(model, examples, batch_tokens=tokens, **options), sizes
    finally:
        handle.remove()


def assert_close(maps, expected, tolerance):
    assert maps.keys() == expected.keys()
    for name, scores in expected.items():
        error = (maps[name].double() - scores.double()).norm() / scores.double().norm()
        assert error < tolerance, (name, float(error))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_is_that_of_each_sample_alone(tmp_path, family, tied):
    """With windows shorter than samples, biases, in float64 beyond any doubt; no window moves."""
    slides = {} if family in ("gpt2", "gpt_neox", "llama", "olmo2") else {"sliding_window": 4}
    folder = tiny_model(tmp_path, family, tied=tied, attention_bias=True, **slides)
    alone = accumulate(load_model(folder).double(), samples(), batch_tokens=0)
    maps, sizes = together(load_model(folder).double(), samples())
    assert sizes == [5]
    assert_close(maps, alone, 2e-7)  # sums are in float32
    found, sizes = together(load_model(folder), samples(), tokens=16)
    assert sizes == [2, 1, 1, 1]
    assert_close(found, alone, 1e-5)
    for name, scores in alone.items():
        if scores.dim() == 2:
            rows, cols = scores.shape[0] // 2, scores.shape[1] // 2
            first, second = (best_window(m, rows=rows, cols=cols) for m in (scores, found[name]))
            assert (first.row, first.col) == (second.row, second.col), name


@pytest.mark.parametrize("attention", ["eager", "sdpa"])
def test_whatever_computes_the_attention(tmp_path, attention):
    folder = tiny_model(tmp_path, "mistral", sliding_window=4)
    maps = []
    for tokens in (0, 1000):
        model = load_model(folder)
        model.set_attn_implementation(attention)
        maps.append(accumulate(model, samples(), batch_tokens=tokens))
    assert_close(maps[1], maps[0], 1e-5)


def test_losses_are_those_of_each_sample(tmp_path):
    model = load_model(tiny_model(tmp_path, "gpt2"))
    gap = TokenisedExample((1, 20, 21, 22, 23, 24), (-100, 20, -100, 22, 23, -100))
    examples = [*samples(), gap]
    losses = answer_losses(model, Batch.of(examples, "cpu"))
    expected = torch.stack([answer_loss(model, each) for each in examples])
    assert torch.allclose(losses, expected, rtol=1e-5)


def test_padding_has_no_part_in_it(tmp_path):
    """No sample uses token 0, which stands where a sample has none."""
    used = [
        TokenisedExample(tuple(max(i, 1) for i in s.input_ids), tuple(s.labels)) for s in samples()
    ]
    maps, _ = together(load_model(tiny_model(tmp_path)), used)
    assert not maps["model.embed_tokens.weight"][0].any()
    assert maps["model.embed_tokens.weight"][1].all()


@pytest.mark.parametrize("tied", [False, True])
def test_logits_in_chunks(tmp_path, tied, monkeypatch):
    folder = tiny_model(tmp_path, "gemma2", tied=tied, final_logit_softcapping=0.5)
    expected = accumulate(load_model(folder), samples(), batch_tokens=0)
    monkeypatch.setattr(logit_chunks, "CHUNK_ELEMENTS", 64 * 3)
    assert_close(together(load_model(folder), samples())[0], expected, 1e-5)


@pytest.mark.parametrize("tied", [False, True])
def test_in_bfloat16(tmp_path, tied):
    folder = tiny_model(tmp_path, tied=tied)
    expected = accumulate(load_model(folder), samples(), batch_tokens=0)
    maps, _ = together(load_model(folder, dtype=torch.bfloat16), samples())
    assert {m.dtype for m in maps.values()} == {torch.float32}
    assert_close(maps, expected, 0.05)


def test_long_samples_go_alone_and_are_recomputed(tmp_path):
    folder = tiny_model(tmp_path)
    maps, sizes = together(load_model(folder), samples(), recompute_from=14)
    assert sizes == [2, 1, 1, 1]  # at most 13 tokens together
    assert_close(maps, accumulate(load_model(folder), samples(), batch_tokens=0), 1e-5)


class Scaled(nn.Module):
    """A parameter whose gradient comes from autograd alone: for all samples together."""

    def __init__(self, inner):
        super().__init__()
        self.inner, self.scale = inner, nn.Parameter(torch.tensor([1.5]))

    def forward(self, hidden):
        return self.inner(hidden) * self.scale


def test_a_parameter_of_another_kind_lets_samples_go_one_by_one(tmp_path):
    def model():
        found = load_model(tiny_model(tmp_path))
        found.model.layers[1].mlp = Scaled(found.model.layers[1].mlp)
        return found

    maps, sizes = together(model(), samples())
    assert sizes == [1] * 5
    each = [accumulate(model(), [s])["model.layers.1.mlp.scale"] for s in samples()]
    assert torch.allclose(maps["model.layers.1.mlp.scale"], sum(each), rtol=1e-5)


def test_samples_of_like_length_are_together():
    examples = samples(40)
    sizes = [used_tokens(each) for each in examples]
    found = batches(examples, tokens=40)
    flat = [number for batch in found for number in batch]
    assert sorted(flat) == list(range(40))
    assert [sizes[n] for n in flat] == sorted(sizes)
    for batch, after in zip(found, [*found[1:], []], strict=True):
        assert len(batch) * max(sizes[n] for n in batch) <= 40
        assert len(batch) <= MOST_TOGETHER
        if after and len(batch) < MOST_TOGETHER:  # no more would fit
            assert (len(batch) + 1) * sizes[after[0]] > 40
    assert batches(examples, tokens=0) == [[n] for n in range(40)]
