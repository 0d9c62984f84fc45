"""LoRA adapters, and the PEFT folders they are written to: the same adapter gives the same bytes.

Shapes: M = out_features, N = in_features, R = rank. In memory a module's change is always
``delta_MN = (alpha / R) * b_MR @ a_RN`` in the layout of its weight, also for an embedding
(vocabulary × hidden); PEFT's transposed layout of embeddings exists only in the files.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
from torch import Tensor

from paraknow_core.errors import RankError

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
PREFIX = "base_model.model."
"""Begins every tensor's name in the files."""
ADDED = "added"
"""In the head of the weights' file: the modules of a start point whose product is added, as JSON.

It stands there and not in the config because PEFT warns of a config's unknown fields. A folder
without it, as all were before there were updates, adds nothing.
"""


class LoraFactors(NamedTuple):
    """A low-rank product ``b @ a``, before PEFT's scale of alpha / R.

    Attributes:
        a: R×N, any float dtype.
        b: M×R, the same.
    """

    a: Tensor
    b: Tensor


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in memory.

    Attributes:
        factors: dotted module name, such as ``"model.layers.0.mlp.up_proj"`` → its factors.
        embeddings: the modules among them that are embeddings.
        rank: R of every factor.
        alpha: PEFT scales every product by ``alpha / rank``.
        dropout: probability of dropping an input of the adapter while it is trained, 0..1.
        tied_head: for a tied student, the head's module; it shares the embedding's factors.
        base_model: Hub id of the student, for people and tools that read the folder.
        fan_in_fan_out: whether any of the modules is GPT-2's Conv1D. The factors do not depend on
            it: PEFT finds it out by itself, but warns if the config does not say so.
        added: of a start point, the modules whose product is an *update*: training starts at
            ``W + s·B₀A₀`` there, and the product is part of what is delivered. That of any other
            module is only a *start*: it is subtracted, so that training begins at ``W``.
    """

    factors: Mapping[str, LoraFactors]
    embeddings: frozenset[str]
    rank: int
    alpha: float
    dropout: float = 0.0
    tied_head: str | None = None
    base_model: str | None = None
    fan_in_fan_out: bool = False
    added: frozenset[str] = frozenset()

    @property
    def scale(self) -> float:
        """What PEFT multiplies every product by."""
        return self.alpha / self.rank

    @property
    def is_zero(self) -> bool:
        """Whether every product is zero because one of its factors is, as PEFT starts them."""
        return not any(bool(a.any()) and bool(b.any()) for a, b in self.factors.values())

    def subtracted(self) -> Self:
        """The start point as training subtracts it: with B = 0 where its product is added."""
        if not self.added:
            return self
        zeroed = {
            module: LoraFactors(a, torch.zeros_like(b) if module in self.added else b)
            for module, (a, b) in self.factors.items()
        }
        return replace(self, factors=zeroed, added=frozenset())

    def delta(self, module: str) -> Tensor:
        """The change of a module's weight, M×N in the dtype of the factors."""
        a_RN, b_MR = self.factors[module]
        return self.scale * (b_MR @ a_RN)


def write_adapter(folder: Path, adapter: Adapter) -> Path:
    """Write an adapter as a folder that ``PeftModel.from_pretrained`` reads.

    The same adapter gives the same bytes. A tied head gets a copy of the embedding's factors, so
    that programs that do not tie adapters compute the same.

    Args:
        folder: is made if need be; files of the same names are replaced.
        adapter: factors of any float dtype and device; stored as float32.

    Returns:
        The folder.

    Raises:
        RankError: if a factor's shape does not have the adapter's rank, or the rank is below 1.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for module in sorted(adapter.factors):
        _check_rank(module, adapter)
        factors = adapter.factors[module]
        is_embedding = module in adapter.embeddings
        tensors |= _tensors(module, factors, is_embedding=is_embedding)
        if is_embedding and adapter.tied_head is not None:
            tensors |= _tensors(adapter.tied_head, factors, is_embedding=False)
    head = {ADDED: json.dumps(sorted(adapter.added))} if adapter.added else {}
    # One entry: safetensors writes several in a random order, and the same adapter is to be the
    # same bytes.
    save_file(tensors, folder / WEIGHTS, metadata=head or {"format": "pt"})
    text = json.dumps(_config(adapter), indent=2, sort_keys=True)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    return folder


def _check_rank(module: str, adapter: Adapter) -> None:
    a_RN, b_MR = adapter.factors[module]
    if adapter.rank < 1 or (a_RN.shape[0], b_MR.shape[1]) != (adapter.rank, adapter.rank):
        raise RankError(
            f"{module}: factors of shapes {tuple(b_MR.shape)} and {tuple(a_RN.shape)} do not have "
            f"the adapter's rank {adapter.rank}; it is at least 1, and the same for every module."
        )


def _tensors(module: str, factors: LoraFactors, *, is_embedding: bool) -> dict[str, Tensor]:
    """A module's tensors under PEFT's names; PEFT keeps an embedding's delta transposed."""
    a, b = (f.detach().to("cpu", torch.float32) for f in factors)
    if is_embedding:
        named = {".lora_embedding_A": b.T, ".lora_embedding_B": a.T}
    else:
        named = {".lora_A.weight": a, ".lora_B.weight": b}
    # clone: safetensors refuses tensors that share memory, as a tied head's would
    return {
        f"{PREFIX}{module}{suffix}": tensor.clone(memory_format=torch.contiguous_format)
        for suffix, tensor in named.items()
    }


def _config(adapter: Adapter) -> dict[str, Any]:
    tied = [adapter.tied_head] if adapter.tied_head is not None else []
    alpha = int(adapter.alpha) if float(adapter.alpha).is_integer() else adapter.alpha
    return {
        "base_model_name_or_path": adapter.base_model,
        "bias": "none",
        "ensure_weight_tying": bool(tied),
        "fan_in_fan_out": adapter.fan_in_fan_out,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": alpha,
        "lora_dropout": adapter.dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": adapter.rank,
        "target_modules": sorted([*adapter.factors, *tied]),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }
