"""How a mixture of experts routes texts: its forward pass, one layer in memory at a time.

Shapes: T = tokens of a text, N = hidden size, L = layers, E = experts of a layer.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.data.examples import TokenisedExample
from paraknow_core.dequantisation.mixtures import MixtureConfig
from paraknow_core.errors import CheckpointError
from paraknow_core.progress import Progress, no_progress


@dataclass(frozen=True)
class Routing:
    """How texts were routed, of all their tokens together.

    Attributes:
        weights: L × E, the sum of the weights that each expert's output got, float64.
        counts: L × E, how many tokens were sent to each expert, int64.
        shared: L, the mean of the shared expert's own gate, float64; 0 where there is none.
        tokens: how many tokens there were.
    """

    weights: Tensor
    counts: Tensor
    shared: Tensor
    tokens: int


class _Recorder(nn.Module):
    """Stands for a layer, and keeps what the model calls it with."""

    def __init__(self, kind: str | None) -> None:
        super().__init__()
        self.attention_type = kind  # the model picks a mask by it
        self.calls: list[tuple[Tensor, dict[str, Any]]] = []

    def forward(self, hidden: Tensor, **given: Any) -> Tensor:
        self.calls.append((hidden, given))
        return hidden


def route(
    folder: Path,
    mixture: MixtureConfig,
    samples: Sequence[TokenisedExample],
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> Routing:
    """Pass texts through a mixture of experts and add up where its routers send their tokens.

    The layers are Transformers' own; each is filled from the files when its turn comes, and dropped
    after every text has passed it. Memory holds one layer and the texts' hidden states.

    Args:
        folder: that holds the weights.
        mixture: its config.
        samples: texts, one after the other, without padding.
        dtype: that layers compute in.
        device: as ``pick_device`` returns it.
        progress: called after each layer.

    Raises:
        CheckpointError: if a tensor is missing or has another shape.
    """
    with torch.no_grad(), Checkpoint(folder) as weights:
        filler = _Filler(weights, mixture, dtype, device)
        model = _empty(mixture)
        base = model.model
        layers = list(base.layers)
        kinds = [getattr(layer, "attention_type", None) for layer in layers]
        recorders = [_Recorder(kind) for kind in kinds]
        base.layers = nn.ModuleList(recorders)
        filler.fill(base.embed_tokens, "model.embed_tokens.")
        filler.fill(base.norm, "model.norm.")
        base.rotary_emb = type(base.rotary_emb)(config=model.config).to(device)
        for sample in samples:
            base(input_ids=torch.tensor([sample.input_ids], device=device), use_cache=False)
        hidden = [call[0] for call in recorders[0].calls]
        shape = (mixture.layers, mixture.experts)
        sums = torch.zeros(shape, dtype=torch.float64)
        counts = torch.zeros(shape, dtype=torch.int64)
        shared = torch.zeros(mixture.layers, dtype=torch.float64)
        for number, layer in enumerate(layers):
            filler.fill(layer, f"model.layers.{number}.")
            with _watched(layer, sums[number], counts[number], shared[number]):
                for place, (_, given) in enumerate(recorders[number].calls):
                    found = layer(hidden[place], **given)
                    hidden[place] = found[0] if isinstance(found, tuple) else found
            layer.to("meta")
            progress(number + 1, mixture.layers, f"layer {number}")
    tokens = sum(len(sample.input_ids) for sample in samples)
    return Routing(sums, counts, shared / tokens, tokens)


def _empty(mixture: MixtureConfig) -> Any:
    """The model without weights."""
    from transformers import AutoConfig, AutoModelForCausalLM

    untyped: Any = AutoModelForCausalLM
    config: Any = AutoConfig.for_model(mixture.model_type, **mixture.fields)
    with torch.device("meta"):
        model: Any = untyped.from_config(
            config, attn_implementation="sdpa", experts_implementation="eager"
        )
    return model.eval()


@dataclass(frozen=True)
class _Filler:
    """Gives modules of the empty model their parameters."""

    weights: Checkpoint
    mixture: MixtureConfig
    dtype: torch.dtype
    device: str

    def fill(self, module: nn.Module, prefix: str) -> None:
        """Read a module's parameters from the files."""
        for name, empty in list(module.named_parameters()):
            value = _value(prefix + name, self.weights, self.mixture)
            if value.shape != empty.shape:
                raise CheckpointError(
                    f"{self.weights.folder}: {prefix}{name} has shape {tuple(value.shape)}, but "
                    f"config.json makes it {tuple(empty.shape)}. Config and weights do not belong "
                    "together."
                )
            place, _, own = name.rpartition(".")
            held = nn.Parameter(value.to(device=self.device, dtype=self.dtype), requires_grad=False)
            module.get_submodule(place).register_parameter(own, held)


def _value(name: str, weights: Checkpoint, mixture: MixtureConfig) -> Tensor:
    """A parameter of Transformers' class, which stacks the experts of a layer."""
    family = mixture.family
    layer = name.split(".")[2] if name.startswith("model.layers.") else ""
    gate, up, down = family.kinds

    def expert(number: int, kind: str) -> Tensor:
        return weights.read(family.expert.format(layer=layer, expert=number, kind=kind))

    if name.endswith("mlp.experts.gate_up_proj"):
        both = (torch.cat((expert(e, gate), expert(e, up))) for e in range(mixture.experts))
        return torch.stack(list(both))
    if name.endswith("mlp.experts.down_proj"):
        return torch.stack([expert(e, down) for e in range(mixture.experts)])
    if name.endswith("mlp.gate.weight"):
        return weights.read(family.router.format(layer=layer))
    return weights.read(name)


@contextmanager
def _watched(layer: Any, sums_E: Tensor, counts_E: Tensor, shared: Tensor) -> Iterator[None]:
    """Add to these what the layer's router does with the tokens that pass."""

    def routed(_module: Any, _given: Any, found: tuple[Tensor, Tensor, Tensor]) -> None:
        _, scores, experts = found
        where = experts.flatten().cpu()
        sums_E.index_add_(0, where, scores.flatten().double().cpu())
        counts_E.index_add_(0, where, torch.ones_like(where))

    def gated(_module: Any, _given: Any, found: Tensor) -> None:
        shared.add_(torch.sigmoid(found).double().sum().cpu())

    hooks = [layer.mlp.gate.register_forward_hook(routed)]
    if hasattr(layer.mlp, "shared_expert_gate"):
        hooks.append(layer.mlp.shared_expert_gate.register_forward_hook(gated))
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
