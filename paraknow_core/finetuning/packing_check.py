"""Whether a model keeps rows apart that share a sequence."""

from collections.abc import Sequence
from typing import Any

import torch

from paraknow_core.data.batches import collate
from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.data.packing import collate_packed, pack
from paraknow_core.errors import ConfigError
from paraknow_core.finetuning.batches import predictions
from paraknow_core.finetuning.load_back import TOLERANCE

_TOKENS = 16  # of each of the two rows that are tried


@torch.no_grad()
def check_packing(model: Any, examples: Sequence[TokenisedExample]) -> None:
    """Refuse a model whose layers mix rows that share a sequence.

    Transformers keeps them apart by their positions, in all families that this project knows. A
    family or version that does not would train on wrong numbers without any error. So the
    beginnings of two examples are run in one sequence and alone, before anything is trained.

    Args:
        model: a causal language model; it is left in the mode that it was in.
        examples: to train on.

    Raises:
        ConfigError: if a logit differs by more than rounding; names the model's type.
    """
    one, other = (_beginning(example) for example in (examples[0], examples[-1]))
    # As long as both, so that they are put into one sequence.
    both = TokenisedExample(one.input_ids + other.input_ids, one.labels + other.labels)
    rows, device = [both, one, other], next(model.parameters()).device
    was_training = model.training
    model.eval()

    def logits(batch: dict[str, torch.Tensor]) -> torch.Tensor:
        return predictions(model, {name: given.to(device) for name, given in batch.items()})[0]

    together = logits(collate_packed(rows))
    alone = torch.cat([logits(collate([row])) for sequence in pack(rows) for row in sequence])
    model.train(was_training)
    apart = float((together - alone).abs().max()) / max(float(alone.abs().max()), 1e-30)
    allowed = TOLERANCE.get(model.dtype, TOLERANCE[torch.float32])
    if not apart <= allowed:
        raise ConfigError(
            f"packing is set, but a {model.config.model_type} model of this version of "
            f"Transformers does not keep rows apart that share a sequence: logits differ by "
            f"{apart:.2g} of the largest, allowed is {allowed:g}. Set packing to false."
        )


def _beginning(example: TokenisedExample) -> TokenisedExample:
    ids = example.input_ids[:_TOKENS]
    return TokenisedExample(ids, (NO_LOSS, *ids[1:]))
