"""Logits in chunks of places and of tokens: the sensitivity is that of whole ones."""

import pytest
import torch
from support.naive_sensitivity import assert_close, naive
from support.tiny import FAMILIES, tiny_model
from support.tiny import tiny_samples as samples

from paraknow_core.models import logit_chunks
from paraknow_core.models.load import load_model
from paraknow_core.sensitivity.accumulate import accumulate
from paraknow_core.sensitivity.gradient_sums import GradientSums
from paraknow_core.sensitivity.streamed.stream import stream

FEW = 64 * 3
"""Of a vocabulary of 64: three places at a time, and so many tokens that chunks end unevenly."""


@pytest.fixture(autouse=True)
def rows_taken(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Chunks are small, and how many rows of a head each brought is noted."""
    taken: list[int] = []
    add_rows = GradientSums.add_rows

    def noted(self, module, first, dy_TM, x_TN):
        assert dy_TM.numel() <= FEW
        taken.append(dy_TM.shape[1])
        add_rows(self, module, first, dy_TM, x_TN)

    monkeypatch.setattr(GradientSums, "add_rows", noted)
    monkeypatch.setattr(logit_chunks, "CHUNK_ELEMENTS", FEW)
    return taken


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_method_written_out(tmp_path, family, tied, rows_taken):
    folder = tiny_model(tmp_path / "model", family, tied=tied)
    model, found = load_model(folder), {}
    maps = accumulate(model, samples(), recompute_from=10)
    whole, rest = divmod(sum(rows_taken), 64)  # every row of the vocabulary once for each sample
    assert rest == 0
    assert len(rows_taken) > whole > 1
    assert_close(maps, naive(load_model(folder), samples()), 2e-5)
    assert type(model.get_output_embeddings()) is torch.nn.Linear
    assert "forward" not in vars(model.base_model)
    rows_taken.clear()
    stream(
        folder,
        samples(),
        take=lambda each, _facts: found.update({n: m.clone() for n, m in each.items()}) or [],
        out=tmp_path,
        scratch=tmp_path,
    )
    assert rows_taken
    assert_close(found, maps, 1e-6)


@pytest.mark.parametrize("family", ["llama", "gemma2"])
def test_in_bfloat16_as_with_whole_logits(tmp_path, family, monkeypatch, rows_taken):
    folder = tiny_model(tmp_path, family, tied=True, dtype=torch.bfloat16)
    maps = accumulate(load_model(folder, dtype=torch.bfloat16), samples())
    assert rows_taken
    monkeypatch.setattr(logit_chunks, "CHUNK_ELEMENTS", 2**24)
    whole = accumulate(load_model(folder, dtype=torch.bfloat16), samples())
    assert_close(maps, whole, 5e-3)


def test_a_cap_on_logits_that_bites_is_in_the_gradient(tmp_path):
    folder = tiny_model(tmp_path, "gemma2", final_logit_softcapping=0.05)
    maps = accumulate(load_model(folder), samples())
    assert_close(maps, naive(load_model(folder), samples()), 2e-5)


def test_few_logits_are_whole(tmp_path, monkeypatch, rows_taken):
    monkeypatch.setattr(logit_chunks, "CHUNK_ELEMENTS", 64 * 20)
    accumulate(load_model(tiny_model(tmp_path)), samples(), batch_tokens=0)
    assert not rows_taken
