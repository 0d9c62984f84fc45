"""PEFT's initialisations on one matrix at a time, away from the model that it belongs to.

PEFT's initialisations change the base weight, do not support embeddings, and store some matrices
transposed. So here each matrix is copied into a linear layer of its own.
"""

from typing import Any, cast

import torch
from torch import nn

from paraknow_core.lora.adapter import LoraFactors
from paraknow_core.lora.anchored_model import TRAINED, quiet_peft


def stand_in(module: nn.Module) -> nn.Linear:
    """A linear layer of its own with a copy of a module's matrix, float32.

    Args:
        module: a linear layer, an embedding (as the map of one-hot rows: hidden × vocabulary), or
            a Conv1D of Transformers (whose weight is stored transposed).
    """
    weight: Any = module.weight
    weight_MN = weight.detach() if isinstance(module, nn.Linear) else weight.detach().T
    rows, cols = weight_MN.shape
    layer = nn.Linear(cols, rows, bias=False, device="meta")  # the weight is set in the next line
    layer.weight = nn.Parameter(weight_MN.to(torch.float32, copy=True).contiguous())
    return layer


def peft_factors(layer: nn.Linear, *, rank: int, alpha: float, **init: Any) -> LoraFactors:
    """Let PEFT initialise LoRA for one layer; PEFT may change the layer's weight.

    Args:
        layer: a ``stand_in``, with whatever PEFT's initialisation reads from it.
        rank: R.
        alpha: PEFT's scale is ``alpha / rank``.
        init: the rest of PEFT's ``LoraConfig``, ``init_lora_weights`` above all.

    Returns:
        A (R×N) and B (M×R).
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(r=rank, lora_alpha=cast(int, alpha), target_modules=["matrix"], **init)
    with quiet_peft():
        model: Any = get_peft_model(
            cast(Any, nn.ModuleDict({"matrix": layer})), config, adapter_name=TRAINED
        )
    wrapped = model.base_model.model["matrix"]
    return LoraFactors(
        wrapped.lora_A[TRAINED].weight.detach(), wrapped.lora_B[TRAINED].weight.detach()
    )


def of_start(factors: LoraFactors, module: nn.Module) -> LoraFactors:
    """Turn the factors of a ``stand_in`` into those of a start point, on the CPU in float32.

    Args:
        factors: A (R×N) and B (M×R) of the linear layer.
        module: the module that was copied; an embedding's weight is its matrix transposed.
    """
    a_RN, b_MR = (factor.detach().float().cpu() for factor in factors)
    if isinstance(module, nn.Embedding):
        return LoraFactors(a=b_MR.T.contiguous(), b=a_RN.T.contiguous())
    return LoraFactors(a_RN.contiguous(), b_MR.contiguous())
