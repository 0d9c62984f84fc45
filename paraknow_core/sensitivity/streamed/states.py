"""What the layers of a model of any size make of texts, pooled as soon as it exists.

All texts go through the embedding, then all through the first layer, and so on, as in the forward
half of ``stream``: memory holds one layer, one text's activations in it, and what is pooled.

Legend: T tokens of a text, H width, P texts.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from torch import Tensor

from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.progress import Progress, no_progress
from paraknow_core.sensitivity.streamed.boundaries import Boundary, Budget
from paraknow_core.sensitivity.streamed.layered_model import LayeredModel

Pool = Callable[[int, Tensor], Tensor]
"""The number of a text and its states 1×T×H → 1×H."""


@torch.no_grad()
def streamed_states(
    folder: Path,
    texts: Sequence[Sequence[int]],
    *,
    pool: Pool,
    scratch: Path,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    boundary_bytes: int = 0,
    progress: Progress = no_progress,
) -> list[Tensor]:
    """Pool the hidden states of each text after each decoder layer.

    Args:
        folder: a model folder, as ``load_model`` takes it.
        texts: token numbers of each text; at least one each.
        pool: called once for each text and layer.
        scratch: an empty folder for what passes between layers.
        dtype: that is computed in.
        device: that is computed on.
        boundary_bytes: of memory for what passes between layers; the rest is in files.
        progress: called with how many texts have gone through a layer, of how many in all.

    Returns:
        One P×H tensor a layer, on the CPU.

    Raises:
        ModelFolderError, ArchitectureError, CheckpointError: as ``load_model``.
    """
    # The model is run up to the place that predicts the last token, so one comes after the text.
    samples = [
        TokenisedExample((*text, 0), (*(NO_LOSS for _ in text), 0)) for text in map(tuple, texts)
    ]
    budget = Budget(boundary_bytes)
    with LayeredModel(folder, dtype=dtype, device=device) as model:
        lengths, width = [len(text) for text in texts], model.architecture.hidden_size
        layers = model.architecture.num_layers

        def between(layer: int) -> Boundary:
            return Boundary(scratch / f"hidden-{layer}", lengths, width, dtype, budget)

        hidden = between(0)
        with model.loaded(model.entry):
            for number, sample in enumerate(samples):
                hidden.put(number, model.entered(sample)[0])
        pooled = []
        for layer in range(layers):
            given, hidden, found = hidden, between(layer + 1), []
            with model.loaded(model.layer(layer)):
                for number, sample in enumerate(samples):
                    states = model.call(layer, sample)(given.get(number)[None].to(device))
                    hidden.put(number, states[0])
                    found.append(pool(number, states).cpu())
                    progress(layer * len(texts) + number + 1, layers * len(texts), f"layer {layer}")
            given.drop()
            pooled.append(torch.cat(found))
        hidden.drop()
        return pooled
