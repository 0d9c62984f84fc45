from pathlib import Path
from typing import Any

import pytest
import torch
from support.starts import token_examples, transfer_start
from support.tiny import tiny_model
from torch.func import functional_call

from paraknow_core.data.batches import collate
from paraknow_core.errors import ShapeError
from paraknow_core.lora.adapter import Adapter, write_adapter
from paraknow_core.lora.anchored_model import (
    merge_into,
    quiet_peft,
    read_trained,
    recompute_activations,
    trainable_model,
)
from paraknow_core.lora.combine import combine
from paraknow_core.lora.start_point import plain_start
from paraknow_core.models.describe import MATRIX_ROLES
from paraknow_core.models.load import load_model

STUDENTS: dict[str, dict[str, Any]] = {
    "llama-gqa": {"family": "llama"},
    "llama-bf16-on-disk": {"family": "llama", "dtype": torch.bfloat16},
    "mistral": {"family": "mistral", "kv_heads": 1},
    "qwen2-tied": {"family": "qwen2", "tied": True},
    "qwen3": {"family": "qwen3", "kv_heads": 4},
}


@pytest.fixture(scope="module", params=STUDENTS)
def student(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("student"), layers=1, **STUDENTS[request.param])


@pytest.fixture(scope="module")
def tied_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tied"), "qwen2", tied=True, layers=2)


@pytest.fixture(scope="module")
def batch() -> dict[str, torch.Tensor]:
    return collate(token_examples(5))


def logits(model: Any, batch: dict[str, torch.Tensor]) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model(**batch).logits
    return found


def moved(model: Any, start: Adapter, seed: int = 5) -> Adapter:
    """Change every trained factor at random, and say what they became."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1 * torch.randn(parameter.shape, generator=generator))
    return read_trained(model, start)


@pytest.mark.parametrize("training", [False, True])
def test_step_zero_is_the_untouched_student(
    training: bool, student: Path, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    start = transfer_start(student, tmp_path)
    model = trainable_model(load_model(student), start, dropout=0.0).train(training)
    vanilla = logits(load_model(student), batch)
    assert (logits(model, batch) - vanilla).abs().max() < 1e-5
    # The start product itself is not small: without the anchor, this would be another model.
    merged = load_model(student)
    merge_into(merged, start)
    assert (logits(merged, batch) - vanilla).abs().max() > 0.1


def test_the_trained_model_is_the_formula_on_its_weights(
    student: Path, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    start = transfer_start(student, tmp_path)
    model = trainable_model(load_model(student), start, dropout=0.0)
    trained = moved(model, start)
    reference = load_model(student)
    with torch.no_grad():
        for module in start.factors:
            weight = reference.get_submodule(module).weight
            weight.copy_(weight - start.delta(module) + trained.delta(module))
    torch.testing.assert_close(logits(model, batch), logits(reference, batch), rtol=1e-5, atol=1e-5)


def test_gradients_are_those_of_the_formula(
    student: Path, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    """Through a tied weight, both of its uses count."""
    start = transfer_start(student, tmp_path)
    model = trainable_model(load_model(student), start, dropout=0.0)
    model(**batch).loss.backward()

    reference = load_model(student)
    leaves = {m: [f.clone().requires_grad_() for f in pair] for m, pair in start.factors.items()}
    weights = {
        f"{m}.weight": reference.get_submodule(m).weight.detach()
        - start.delta(m)
        + start.scale * b @ a
        for m, (a, b) in leaves.items()
    }
    functional_call(reference, weights, kwargs=batch).loss.backward()
    for module, (a, b) in leaves.items():
        layer = model.get_submodule(f"base_model.model.{module}")
        if module in start.embeddings:
            found = (
                layer.lora_embedding_B["default"].grad.T,
                layer.lora_embedding_A["default"].grad.T,
            )
        else:
            found = layer.lora_A["default"].weight.grad, layer.lora_B["default"].weight.grad
        for gradient, leaf in zip(found, (a, b), strict=True):
            assert leaf.grad is not None
            torch.testing.assert_close(gradient, leaf.grad, rtol=1e-4, atol=1e-6)


def test_only_the_adapter_is_trainable_and_the_student_stays(
    student: Path, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    start = transfer_start(student, tmp_path)
    model = trainable_model(load_model(student, dtype=torch.bfloat16), start, dropout=0.1).train()
    trained = [p for p in model.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == sum(
        f.numel() for pair in start.factors.values() for f in pair
    )
    assert {p.dtype for p in trained} == {torch.float32}
    optimizer = torch.optim.SGD(trained, lr=0.1)
    for _ in range(2):
        model(**batch).loss.backward()
        optimizer.step()
    untouched = load_model(student, dtype=torch.bfloat16)
    kept = dict(model.base_model.model.named_parameters())
    for name, weight in untouched.named_parameters():
        module, _, kind = name.rpartition(".")
        held = kept.get(name, kept.get(f"{module}.base_layer.{kind}"))
        assert torch.equal(held, weight)


def test_dropout_is_on_the_trained_product_and_not_on_the_anchor(
    student: Path, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    start = transfer_start(student, tmp_path)
    model = trainable_model(load_model(student), start, dropout=0.5).train()
    assert not torch.equal(logits(model, batch), logits(model, batch))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and ("lora_B" in name or "embedding_A" in name):
                parameter.zero_()
    without = load_model(student)
    merge_into(without, read_trained(model, start))
    with torch.no_grad():
        for module in start.factors:
            without.get_submodule(module).weight.sub_(start.delta(module))
    torch.testing.assert_close(logits(model, batch), logits(without, batch), rtol=1e-5, atol=1e-5)


def test_recomputing_activations_changes_no_gradient(
    tied_student: Path, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    start = transfer_start(tied_student, tmp_path)
    found = []
    for recompute in (False, True):
        student: Any = load_model(tied_student)
        if recompute:
            recompute_activations(student)
        model = trainable_model(student, start, dropout=0.2).train()
        torch.manual_seed(3)
        model(**batch).loss.backward()
        found.append({n: p.grad for n, p in model.named_parameters() if p.requires_grad})
    for name, gradient in found[0].items():
        torch.testing.assert_close(found[1][name], gradient, rtol=1e-5, atol=1e-7)


def test_step_zero_in_bfloat16_is_off_by_roundings_only(
    student: Path, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    start = transfer_start(student, tmp_path)
    half = torch.bfloat16
    model = trainable_model(load_model(student, dtype=half), start, dropout=0.0).eval()
    assert list(model.peft_config) == ["default", "anchor"]
    exact = logits(load_model(student), batch)
    vanilla = logits(load_model(student, dtype=half), batch).float()
    found = logits(model, batch).float()
    # As far from the float32 student as bfloat16 itself puts the untouched one, and not farther.
    assert (found - exact).abs().max() < 2 * (vanilla - exact).abs().max()


def test_the_adapter_can_be_switched_off(
    tied_student: Path, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    start = transfer_start(tied_student, tmp_path)
    half = torch.bfloat16
    model = trainable_model(load_model(tied_student, dtype=half), start, dropout=0.0).eval()
    moved(model, start)
    vanilla = logits(load_model(tied_student, dtype=half), batch)
    assert (logits(model, batch) - vanilla).abs().max() > 0.1
    with model.disable_adapter():
        assert torch.equal(logits(model, batch), vanilla)


def test_in_float32_a_step_costs_what_one_of_plain_lora_costs(
    student: Path, tmp_path: Path
) -> None:
    start = transfer_start(student, tmp_path)
    model = trainable_model(load_model(student), start, dropout=0.0)
    assert list(model.peft_config) == ["default"]
    untouched = load_model(student)
    for module in start.factors:
        found = model.get_submodule(f"base_model.model.{module}").base_layer.weight.double()
        wanted = untouched.get_submodule(module).weight.double()
        a_RN, b_MR = (factor.double() for factor in start.factors[module])
        wanted = wanted - start.scale * b_MR @ a_RN
        assert (found - wanted).abs().max() < 2**-23 * wanted.abs().max()


def test_plain_lora_needs_no_anchor(
    student: Path, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    start = plain_start(student, tmp_path, roles=MATRIX_ROLES, rank=4, alpha=8.0, seed=0)
    model = trainable_model(load_model(student), start, dropout=0.0).eval()
    assert list(model.peft_config) == ["default"]
    assert torch.equal(logits(model, batch), logits(load_model(student), batch))


@pytest.mark.parametrize("kind", ["transfer", "plain"])
def test_what_is_delivered_computes_what_was_trained(
    kind: str, student: Path, batch: dict[str, torch.Tensor], tmp_path: Path
) -> None:
    from peft import PeftModel

    if kind == "plain":
        start = plain_start(student, tmp_path, roles=MATRIX_ROLES, rank=4, alpha=8.0, seed=0)
    else:
        start = transfer_start(student, tmp_path)
    model = trainable_model(load_model(student), start, dropout=0.1)
    delivered = combine(start, moved(model, start))
    expected = logits(model.eval(), batch)
    write_adapter(tmp_path / "out", delivered)
    with quiet_peft():
        loaded = PeftModel.from_pretrained(load_model(student), tmp_path / "out")
    torch.testing.assert_close(logits(loaded, batch), expected, rtol=1e-5, atol=1e-5)

    merged = load_model(student)
    merge_into(merged, delivered)
    torch.testing.assert_close(logits(merged, batch), expected, rtol=1e-5, atol=1e-5)
    if delivered.tied_head is None:  # PEFT itself adds a tied change twice
        by_peft = loaded.merge_and_unload()
        torch.testing.assert_close(logits(by_peft, batch), expected, rtol=1e-5, atol=1e-5)


def test_a_tied_adapter_keeps_the_student_tied(tied_student: Path, tmp_path: Path) -> None:
    start = transfer_start(tied_student, tmp_path)
    merged: Any = load_model(tied_student)
    merge_into(merged, start)
    assert merged.lm_head.weight is merged.model.embed_tokens.weight


def test_a_start_point_of_another_student_is_refused(tied_student: Path, tmp_path: Path) -> None:
    wider = tiny_model(tmp_path / "wider", "qwen2", tied=True, hidden=48, layers=2)
    start = transfer_start(wider, tmp_path / "start")
    with pytest.raises(ShapeError, match=r"\(64, 48\), but .* \(64, 32\)"):
        trainable_model(load_model(tied_student), start, dropout=0.0)
    deeper = tiny_model(tmp_path / "deeper", "qwen2", tied=True, layers=3)
    start = transfer_start(deeper, tmp_path / "start")
    with pytest.raises(ShapeError, match=r"layers\.2\..*is missing"):
        trainable_model(load_model(tied_student), start, dropout=0.0)
