"""The estimate of a step's memory against what a forward pass really keeps."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.tiny import tiny_model
from torch import Tensor

from paraknow_core.data.batches import collate
from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.finetuning.batches import predictions
from paraknow_core.inspection.cost import activation_bytes, logits_bytes, training_bytes
from paraknow_core.lora.anchored_model import quiet_peft
from paraknow_core.lora.start_point import plain_start
from paraknow_core.models.describe import MATRIX_ROLES, describe
from paraknow_core.models.load import load_model

TOKENS = 96


def kept_by_forward(model: Any) -> int:
    """Bytes of all distinct memory that autograd and the hooks on inputs would hold on to."""
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Tensor] = {}  # holding them, so that no memory is used twice

    def note(tensor: Tensor) -> Tensor:
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    def note_input(_module: Any, inputs: tuple[Tensor, ...], _output: Tensor) -> None:
        note(inputs[0])

    layers = [m for m in model.modules() if type(m) is torch.nn.Linear]
    hooks = [layer.register_forward_hook(note_input) for layer in layers]
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        model(
            input_ids=torch.randint(10, 60, (1, TOKENS)), labels=torch.randint(10, 60, (1, TOKENS))
        )
    for hook in hooks:
        hook.remove()
    return sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in weights)


@pytest.mark.parametrize("kv_heads", [8, 2])
@pytest.mark.parametrize("adapter", [False, True])
def test_it_is_what_a_pass_keeps(tmp_path: Path, kv_heads: int, adapter: bool) -> None:
    sizes = {"hidden": 256, "layers": 4, "heads": 8, "kv_heads": kv_heads, "ffn": 704}
    folder = tiny_model(tmp_path / "model", **sizes)
    model: Any = load_model(folder, dtype=torch.float32, device=torch.device("cpu"))
    if adapter:
        from peft import PeftModel

        start = {"roles": MATRIX_ROLES, "rank": 2, "alpha": 2.0, "seed": 0, "dropout": 0.05}
        plain_start(folder, tmp_path / "start", **start)
        with quiet_peft():
            model = PeftModel.from_pretrained(model, str(tmp_path / "start"), is_trainable=True)
        model.train()
    found = describe(folder)
    foreseen = activation_bytes(found, TOKENS, adapter=adapter) + logits_bytes(found, TOKENS)
    assert foreseen == pytest.approx(kept_by_forward(model), rel=0.3)


def test_logits_are_counted_where_an_answer_is_predicted(tmp_path: Path) -> None:
    """With a vocabulary this large, those of all places would be twelve times as much."""
    folder = tiny_model(tmp_path / "model", layers=1, vocab=4096)
    model: Any = load_model(folder, dtype=torch.float32, device=torch.device("cpu"))
    model.requires_grad_(False)
    model.get_input_embeddings().weight.requires_grad_(True)
    ids, answers = tuple(range(10, 10 + TOKENS)), TOKENS // 8
    batch = collate([TokenisedExample(ids, (NO_LOSS,) * (TOKENS - answers) + ids[-answers:])])
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, Tensor] = {}
    with torch.autograd.graph.saved_tensors_hooks(
        lambda t: kept.setdefault(t.untyped_storage().data_ptr(), t) is None or t, lambda t: t
    ):
        logits, labels = predictions(model, batch)
        torch.nn.functional.cross_entropy(logits, labels)
    held = sum(t.untyped_storage().nbytes() for at, t in kept.items() if at not in weights)
    about: dict[str, Any] = {"element_bytes": 4, "adapter_bytes": 0, "tokens": TOKENS}
    found = describe(folder)
    bare = training_bytes(found, predicted=0, **about)
    foreseen = training_bytes(found, predicted=answers, **about) - bare
    assert foreseen == 3 * 4 * 4096 * answers
    assert held < activation_bytes(found, TOKENS) + foreseen < 3 * held


def test_recomputation_keeps_one_layer_and_the_inputs_of_all(tmp_path: Path) -> None:
    model = describe(tiny_model(tmp_path / "model", hidden=64, layers=8, heads=4, ffn=176))
    all_layers = activation_bytes(model, TOKENS, adapter=True)
    inputs = 4 * TOKENS * model.hidden_size * model.num_layers
    assert (
        activation_bytes(model, TOKENS, adapter=True, recomputed=True) == all_layers // 8 + inputs
    )
