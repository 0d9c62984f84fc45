"""A model of a folder's config and families, without memory for its parameters."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from paraknow_core.models.describe import describe
from paraknow_core.models.load import attention_of, built_config, refusals, same_parameters

if TYPE_CHECKING:
    from transformers import PreTrainedModel


def unloaded_model(folder: Path, *, dtype: torch.dtype) -> "PreTrainedModel":
    """Build the model that ``load_model`` returns, with no memory for its parameters yet.

    Args:
        folder: a model folder, as ``load_model`` takes it; checked in the same way.
        dtype: of the parameters.

    Returns:
        The model in evaluation mode, with the key/value cache off. Its parameters are on the meta
        device, a tied head is the embedding's; its buffers are real, on the CPU.

    Raises:
        ModelFolderError, ArchitectureError, CheckpointError: as ``describe``.
    """
    from accelerate import init_empty_weights
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    architecture = describe(folder)
    config: Any = built_config(AutoConfig, folder)
    model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    with refusals(folder), init_empty_weights(include_buffers=False), _NoMemory():
        attention = attention_of(model_class, config)
        model: Any = model_class._from_config(config, dtype=dtype, attn_implementation=attention)
    model.tie_weights()
    model.config.use_cache = False
    same_parameters(model, {t.parameter: t.shape for t in architecture.tensors}, Path(folder))
    return model.eval()  # type: ignore[no-any-return]


class _NoMemory(TorchFunctionMode):
    """Puts on the meta device what is made by ``torch.empty``: every large parameter is at first.

    ``init_empty_weights`` alone takes memory for each parameter and lets go of it again, which
    leaves the process with as many holes as there are parameters.
    """

    def __torch_function__(self, func: Any, _types: Any, args: Any = (), kwargs: Any = None) -> Any:
        """Call ``func``, on the meta device if it is ``torch.empty``."""
        meta = {"device": "meta"} if func is torch.empty else {}
        return func(*args, **(kwargs or {}) | meta)
