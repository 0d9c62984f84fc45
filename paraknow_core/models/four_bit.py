"""A student whose matrices are held in 4 bits while an adapter is trained on it (QLoRA).

Dettmers et al., "QLoRA: Efficient finetuning of quantized LLMs" (arXiv 2305.14314), section 3: NF4
blocks of 64 values with double quantisation, by the library bitsandbytes. Embedding, head and norms
keep their values.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, Literal

from paraknow_core.errors import ConfigError

if TYPE_CHECKING:
    import torch

Quantisation = Literal["none", "nf4"]


def check_quantisation(quantise: Quantisation) -> None:
    """Refuse a quantisation that this machine has no library for.

    Raises:
        ConfigError: says what to install.
    """
    if quantise != "none" and find_spec("bitsandbytes") is None:
        raise ConfigError(
            f"finetune.quantise: {quantise} needs the library bitsandbytes: "
            "`pip install 'paraknow[quantised]'`, or leave it out"
        )


def loading(quantise: Quantisation, *, dtype: "torch.dtype", device: str) -> dict[str, Any]:
    """Return what Transformers' ``from_pretrained`` is told of it; nothing for ``none``.

    Args:
        quantise: how the matrices are held.
        dtype: that they are computed with.
        device: that they are quantised on, as they cannot be moved afterwards.

    Raises:
        ConfigError: if the library is not there.
    """
    check_quantisation(quantise)
    if quantise == "none":
        return {}
    from transformers import BitsAndBytesConfig

    config: Any = BitsAndBytesConfig
    return {
        "device_map": {"": device},
        "quantization_config": config(
            load_in_4bit=True,
            bnb_4bit_quant_type=quantise,
            bnb_4bit_use_double_quant=True,
            bnb_4bit_compute_dtype=dtype,
        ),
    }


def keep_trainable(model: Any) -> None:
    """Keep bitsandbytes 0.50 from laying a model's weights out anew when it is evaluated on a CPU.

    On a CPU with AVX512-BF16 it does so for a kernel that has no gradient, and never undoes it: a
    training that goes on after a validation would no longer learn.

    Args:
        model: whose matrices are held in 4 bits.
    """
    for module in model.modules():
        if hasattr(module, "support_avx512bf16_for_cpu"):
            module.support_avx512bf16_for_cpu = False


def is_quantised(model: Any) -> bool:
    """Whether a model's matrices are held in 4 bits."""
    return bool(getattr(model, "is_loaded_in_4bit", False))
