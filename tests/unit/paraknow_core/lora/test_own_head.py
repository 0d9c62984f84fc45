"""A tied student whose head has an adapter of its own: weights stay tied, the adapter is not."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from support.adapters_in_store import moved
from support.starts import token_examples, transfer_start
from support.tiny import tiny_model
from transformers import AutoModelForCausalLM

from paraknow_core.data.batches import collate
from paraknow_core.lora.adapter import Adapter, write_adapter
from paraknow_core.lora.anchored_model import (
    merge_into,
    quiet_peft,
    read_trained,
    trainable_model,
)
from paraknow_core.lora.combine import combine
from paraknow_core.lora.merge import merged_bytes, write_merged
from paraknow_core.models.describe import describe
from paraknow_core.models.load import load_model

HEAD = "lm_head"
FAMILIES = {"qwen2": "model.embed_tokens", "gpt2": "transformer.wte"}
BATCH = collate(token_examples(4))


@pytest.fixture(scope="module", params=FAMILIES)
def family(request: Any) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def student(family: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(
        tmp_path_factory.mktemp("tied"), family, tied=True, layers=1, dtype=torch.bfloat16
    )


@pytest.fixture
def start(family: str, student: Path, tmp_path: Path) -> Adapter:
    """A start of every matrix, the embedding's on the head alone."""
    shared = transfer_start(student, tmp_path / "shared")
    factors = dict(shared.factors)
    factors[HEAD] = factors.pop(FAMILIES[family])
    return replace(shared, factors=factors, embeddings=frozenset(), tied_head=None)


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(**BATCH).logits
    return found


def test_training_starts_at_the_student_and_changes_the_head_apart(
    student: Path, start: Adapter, family: str
) -> None:
    model = trainable_model(load_model(student), start, dropout=0.0)
    torch.testing.assert_close(logits(model), logits(load_model(student)), rtol=0, atol=1e-5)
    model(**BATCH).loss.backward()
    trained = {n: p for n, p in model.named_parameters() if p.requires_grad}
    assert sum(HEAD in name for name in trained) == 2
    assert not [name for name in trained if FAMILIES[family] in name]
    assert all(bool(p.grad.any()) for n, p in trained.items() if HEAD in n)
    assert set(read_trained(model, start).factors) == set(start.factors)


def test_plain_peft_computes_the_embedding_as_it_was_and_the_head_with_its_change(
    student: Path, start: Adapter, tmp_path: Path
) -> None:
    """Of the head's change alone: the dense reference is h (W + ΔW)ᵀ in float64."""
    delivered = combine(start, moved(start))
    only = replace(delivered, factors={HEAD: delivered.factors[HEAD]})
    write_adapter(tmp_path / "out", only)
    base: Any = AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32)
    hidden = base.eval()(**BATCH, output_hidden_states=True).hidden_states[-1].double()
    weight = base.lm_head.weight.double() + only.delta(HEAD).double()
    with quiet_peft():
        loaded = PeftModel.from_pretrained(base, tmp_path / "out")
    expected = (hidden @ weight.T).float()
    torch.testing.assert_close(logits(loaded), expected.detach(), rtol=1e-5, atol=1e-5)
    assert base.lm_head.weight is base.get_input_embeddings().weight


def test_a_merged_checkpoint_is_no_longer_tied_and_computes_the_same(
    student: Path, start: Adapter, family: str, tmp_path: Path
) -> None:
    delivered = combine(start, moved(start))
    write_adapter(tmp_path / "out", delivered)
    base = AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32)
    with quiet_peft():
        expected = logits(PeftModel.from_pretrained(base, tmp_path / "out"))
    merged: Any = load_model(student)
    merge_into(merged, delivered)
    torch.testing.assert_close(logits(merged), expected, rtol=1e-5, atol=1e-5)

    (tmp_path / "merged").mkdir()
    assert write_merged(student, delivered, tmp_path / "merged") == ("BF16",)
    before, after = describe(student), describe(tmp_path / "merged")
    assert (before.tied, after.tied) == (True, False)
    assert {tensor.dtype for tensor in after.tensors} == {"BF16"}
    assert after.weight_bytes == merged_bytes(before, delivered) > before.weight_bytes
    again: Any = AutoModelForCausalLM.from_pretrained(tmp_path / "merged", dtype=torch.float32)
    stored: Any = load_model(student)
    table = FAMILIES[family]
    assert torch.equal(again.get_submodule(table).weight, stored.get_submodule(table).weight)
    assert (logits(again) - expected).abs().max() < 0.05 * expected.abs().max()


def test_a_merged_student_stays_tied_where_its_table_is_not_changed(
    student: Path, start: Adapter, family: str
) -> None:
    body = {module: pair for module, pair in start.factors.items() if module != HEAD}
    adapter = replace(start, factors=body)
    merged: Any = load_model(student)
    merge_into(merged, adapter)
    assert merged.lm_head.weight is merged.get_submodule(FAMILIES[family]).weight
    assert merged_bytes(describe(student), adapter) == describe(student).weight_bytes
