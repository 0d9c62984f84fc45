"""Dense models of mixtures of experts, against an obvious loop in float64."""

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.mixtures import write_mixture
from support.tiny import tiny_samples

from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.dequantisation.dense_model import DenseModel
from paraknow_core.dequantisation.mixtures import MIXTURES, is_mixture
from paraknow_core.dequantisation.routing import Routing, route
from paraknow_core.dequantisation.write import write_plain_model
from paraknow_core.errors import ArchitectureError, CheckpointError
from paraknow_core.models.describe import describe
from paraknow_core.models.load import load_model

SAMPLES = tiny_samples(4, seed=5)


@torch.no_grad()
def routed(folder: Path) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Weights, counts and mean shared gates, from the whole model in float64, token by token."""
    from transformers import AutoModelForCausalLM

    model: Any = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float64, experts_implementation="eager"
    ).eval()
    layers, experts = len(model.model.layers), model.config.num_experts
    sums = torch.zeros(layers, experts, dtype=torch.float64)
    counts = torch.zeros_like(sums)
    shared = torch.zeros(layers, dtype=torch.float64)
    inputs: dict[int, torch.Tensor] = {}
    for number, layer in enumerate(model.model.layers):
        layer.mlp.register_forward_pre_hook(
            lambda _module, given, number=number: inputs.update({number: given[0][0]})
        )
    for sample in SAMPLES:
        model(torch.tensor([sample.input_ids]))
        for number, layer in enumerate(model.model.layers):
            for token in inputs[number]:
                chances = torch.softmax(layer.mlp.gate.weight @ token, dim=0)
                best = sorted(range(experts), key=lambda e: -chances[e])[:2]
                whole = sum(chances[e] for e in best)
                normed = getattr(model.config, "norm_topk_prob", True)
                for e in best:
                    sums[number, e] += chances[e] / (whole if normed else 1)
                    counts[number, e] += 1
                if hasattr(layer.mlp, "shared_expert_gate"):
                    gate = (layer.mlp.shared_expert_gate.weight @ token).item()
                    shared[number] += 1 / (1 + math.exp(-gate))
    return sums, counts, shared / sum(len(sample.input_ids) for sample in SAMPLES)


@pytest.fixture(scope="module", params=sorted(MIXTURES))
def mixture(request: Any, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Routing]:
    folder = write_mixture(tmp_path_factory.mktemp("m"), request.param)
    config = DenseModel(folder, way="chosen").mixture
    return folder, route(folder, config, SAMPLES, dtype=torch.float64)


def test_routing_is_that_of_the_whole_model(mixture: tuple[Path, Routing]) -> None:
    folder, routing = mixture
    sums, counts, shared = routed(folder)
    assert torch.equal(routing.counts.double(), counts)
    torch.testing.assert_close(routing.weights, sums, rtol=1e-6, atol=1e-6)
    torch.testing.assert_close(routing.shared, shared, rtol=1e-9, atol=1e-9)
    assert routing.tokens == sum(len(sample.input_ids) for sample in SAMPLES)


@pytest.mark.parametrize("way", ["chosen", "blended"])
def test_blocks_are_those_of_a_loop(
    mixture: tuple[Path, Routing], tmp_path: Path, way: str
) -> None:
    folder, routing = mixture
    model = DenseModel(folder, way=way, routing=routing)
    write_plain_model(model, tmp_path / "out", dtype="float32", told_in="experts.json")
    sums, counts, gates = routed(folder)
    stored = load_file(folder / "model.safetensors")
    row = MIXTURES[json.loads((folder / "config.json").read_text())["model_type"]]
    with Checkpoint(tmp_path / "out") as made:
        for layer in range(2):
            for kind, own in zip(("gate_proj", "up_proj", "down_proj"), row.kinds, strict=True):
                names = [row.expert.format(layer=layer, expert=e, kind=own) for e in range(4)]
                each = [stored[name].double() for name in names]
                if way == "chosen":
                    expected = each[max(range(4), key=lambda e: counts[layer, e])]
                else:
                    share = sums[layer] / sums[layer].sum()
                    expected = sum(share[e] * each[e] for e in range(4))
                if row.shared:
                    place = f"model.layers.{layer}.mlp.shared_expert.{kind}.weight"
                    theirs = stored[place].double()
                    if kind == "down_proj":
                        expected = expected * sums[layer].sum() / routing.tokens
                        expected = torch.cat((expected, theirs * gates[layer]), dim=1)
                    else:
                        expected = torch.cat((expected, theirs))
                found = made.read(f"model.layers.{layer}.mlp.{kind}.weight").double()
                torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)
    assert describe(tmp_path / "out").model_type == row.dense


def test_experts_that_are_all_the_same_lose_nothing(tmp_path: Path) -> None:
    """Then whatever is chosen or blended computes what the mixture does, positions and all."""
    from transformers import AutoModelForCausalLM

    for family in ("mixtral", "qwen3_moe"):
        folder = write_mixture(tmp_path / family, family)
        stored, row = load_file(folder / "model.safetensors"), MIXTURES[family]
        for layer in range(2):
            for kind in row.kinds:
                first = stored[row.expert.format(layer=layer, expert=0, kind=kind)]
                for e in range(4):
                    stored[row.expert.format(layer=layer, expert=e, kind=kind)] = first.clone()
        save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
        whole: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        routing = route(folder, DenseModel(folder, way="chosen").mixture, SAMPLES)
        for way in ("chosen", "blended"):
            out = tmp_path / f"{family}-{way}"
            write_plain_model(DenseModel(folder, way=way, routing=routing), out, dtype="float32")
            ids = torch.arange(4, 44).view(2, 20)
            with torch.no_grad():
                one, other = whole(ids).logits, load_model(out)(ids).logits
            torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


def test_what_cannot_be_made_dense_is_refused(tmp_path: Path) -> None:
    folder = write_mixture(tmp_path / "m", "qwen2_moe")
    assert is_mixture(folder)
    config = json.loads((folder / "config.json").read_text())

    def refused(error: type[Exception], match: str, **changes: Any) -> None:
        (folder / "config.json").write_text(json.dumps(config | changes))
        with pytest.raises(error, match=match):
            DenseModel(folder, way="chosen")

    refused(ArchitectureError, "some layers have experts and some", mlp_only_layers=[0])
    refused(ArchitectureError, "qkv_bias is false", qkv_bias=False)
    refused(ArchitectureError, "num_experts is 0; allowed", num_experts=0)
    refused(ArchitectureError, "of type 'dbrx'; experts are made dense", model_type="dbrx")
    refused(ArchitectureError, "is quantised; experts", quantization_config={"quant_method": "awq"})
    refused(CheckpointError, "lacks .*experts.4", num_experts=5)
    refused(CheckpointError, "also holds .*experts.3", num_experts=3)
    refused(ArchitectureError, "hidden_size is 10", hidden_size=10**9)
