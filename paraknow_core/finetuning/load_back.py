"""The proof that the adapter on the disk computes what the trained model computed."""

import gc
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from paraknow_core.data.batches import collate
from paraknow_core.data.examples import TokenisedExample
from paraknow_core.errors import NumericsError
from paraknow_core.finetuning.batches import next_token_logits
from paraknow_core.lora.anchored_model import quiet_peft
from paraknow_core.models.chunked_logits import vocabulary_of
from paraknow_core.models.four_bit import Quantisation
from paraknow_core.models.load import load_model
from paraknow_core.models.logit_chunks import are_many, places_at_once

TOLERANCE: Mapping[torch.dtype, float] = MappingProxyType(
    {torch.float32: 1e-4, torch.bfloat16: 5e-2, torch.float16: 1e-2}
)
"""Largest difference of a logit that is accepted, as a share of the largest logit.

Both models add the same products in another order, in float32, and round each layer's result to
the model's dtype. One rounding is off by up to 6e-8, 4e-3 or 5e-4 of the value; layers add up.
"""


@dataclass(frozen=True)
class LoadBack:
    """How far the delivered adapter, freshly loaded, is from the trained model.

    Attributes:
        max_difference: largest absolute difference of a logit, of those that were compared.
        relative: the same as a share of the trained model's largest absolute logit.
        tolerance: the largest ``relative`` that is accepted in this dtype.
        examples: sequences compared.
    """

    max_difference: float
    relative: float
    tolerance: float
    examples: int


def probe(model: Any, examples: Sequence[TokenisedExample]) -> list[Tensor]:
    """Compute every logit of some examples, one at a time, without dropout.

    Where these are many (``chunked_logits``), those of fewer places are, spread over each example.

    Args:
        model: a causal language model; is left in evaluation mode.
        examples: at least one.

    Returns:
        Float32 logits on the CPU, (1, places, vocabulary) each.
    """
    return list(_probes(model, examples))


def _probes(model: Any, examples: Sequence[TokenisedExample]) -> Iterator[Tensor]:
    """Yield the logits of ``probe``, so that those of one example are in memory at a time."""
    model.eval()
    vocabulary = vocabulary_of(model)
    most = max(1, places_at_once(vocabulary) // len(examples))
    for example in examples:
        length = len(example.input_ids)
        has_many = are_many(length * len(examples), vocabulary)
        places = _spread(length, most) if has_many else None
        with torch.no_grad():
            yield next_token_logits(model, collate([example]), places=places).cpu()


def _spread(length: int, most: int) -> torch.Tensor:
    """So many places of a sequence at most, the last one among them."""
    return torch.linspace(length - 1, 0, min(length, most)).round().long().flip(0)


def prove(
    expected: Sequence[Tensor],
    examples: Sequence[TokenisedExample],
    *,
    student_folder: Path,
    adapter_folder: Path,
    dtype: torch.dtype,
    device: str,
    quantise: Quantisation = "none",
) -> LoadBack:
    """Load student and adapter anew, as a user would, and compare with the trained model.

    Args:
        expected: ``probe`` of the trained model on ``examples``.
        examples: the sequences.
        student_folder: the unmodified student.
        adapter_folder: the delivered adapter.
        dtype: of the student; the one it was trained in.
        device: to load on.
        quantise: the student as it was trained.

    Returns:
        The differences, all within the tolerance.

    Raises:
        NumericsError: if they are not, or a logit is NaN or infinite.
    """
    from peft import PeftModel

    # The trained model was just released; both models at once might not fit into memory.
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    student = load_model(student_folder, dtype=dtype, device=device, quantise=quantise)
    with quiet_peft():
        model = PeftModel.from_pretrained(student, adapter_folder)
    found = _probes(model, examples)
    difference = max(float(b.sub_(a).abs_().max()) for a, b in zip(expected, found, strict=True))
    largest = max(float(a.abs().max()) for a in expected)
    relative = difference / max(largest, torch.finfo(torch.float32).tiny)
    result = LoadBack(difference, relative, TOLERANCE[dtype], len(examples))
    if not relative <= result.tolerance:  # also true of NaN
        raise NumericsError(
            f"The delivered adapter's logits differ by up to {difference:.3g} from the trained "
            f"model's, {relative:.2g} of the largest logit; allowed is {result.tolerance:g} in "
            f"{dtype}. Train in float32; if that fails too, report it with this message."
        )
    return result
