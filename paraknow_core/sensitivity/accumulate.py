"""How much a model's loss on a task depends on each of its parameters (SeeKing, arXiv 2310.11451).

``S_i = Σ_j |θ_i · ∂L(x_j)/∂θ_i|``: the first-order change of the loss when θ_i is set to zero, one
backward pass per sample, absolute values per sample. θ does not depend on the sample, so
``S_i = |θ_i| · Σ_j |∂L(x_j)/∂θ_i|`` and the weights are multiplied in once, at the end.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.errors import DataError, NumericsError
from paraknow_core.models.modules import learned_positions
from paraknow_core.progress import Progress, no_progress
from paraknow_core.sensitivity.batches import Batch
from paraknow_core.sensitivity.gradient_sums import GradientSums
from paraknow_core.sensitivity.grouping import batches
from paraknow_core.sensitivity.losses import answer_loss, answer_losses
from paraknow_core.sensitivity.maps import score_table, write_maps, write_score_table
from paraknow_core.sensitivity.recompute import recomputed
from paraknow_core.sensitivity.repeatable import repeatable
from paraknow_core.sensitivity.resume import SensitivityCheckpoint, run_fingerprint

if TYPE_CHECKING:
    from transformers import PreTrainedModel

__all__ = [
    "SensitivityCheckpoint",
    "accumulate",
    "answer_loss",
    "score_table",
    "write_maps",
    "write_score_table",
]

_PIECE = 2**22
"""Elements whose absolute values are in memory at a time."""


def accumulate(
    model: "PreTrainedModel",
    samples: Sequence[TokenisedExample],
    *,
    recompute_from: int | None = None,
    batch_tokens: int = 0,
    progress: Progress = no_progress,
    checkpoint: SensitivityCheckpoint | None = None,
) -> dict[str, Tensor]:
    """Compute the sensitivity of every parameter: SeeKing §3, Σ over samples of |θ · ∂L/∂θ|.

    Samples of like length go through the model together; the absolute value is of each one's own
    gradient, and how they are put together changes the maps by float32 rounding alone.
    Gradients are taken in the model's dtype (on a GPU in float32 at least: ``tile``) and added in
    float32. Peak memory is the weights, the maps, one tile of a gradient (``gradient_sums``), and
    one batch's activations. The result is the same bit for bit in every run with the same number
    of threads, or on the same kind of GPU, interrupted or not.

    Args:
        model: a causal language model in float32 or bfloat16 (float64 works too). It is put in
            evaluation mode, so that dropout does not blur the measurement.
        samples: the seed samples, tokenised, with at least one answer token each.
        recompute_from: samples of so many tokens and more run with ``recomputed``; None: none does.
        batch_tokens: that go through the model together at most, padding included, if samples are
            shorter; and fewer than ``recompute_from``. 0: every sample goes alone, in their order.
        progress: called before the first and after every batch, with the number of samples.
        checkpoint: where to keep the running sums; with one of the same samples, batches and model,
            the run goes on after its last whole batch.

    Returns:
        Float32 maps by parameter name, each in its parameter's shape and on its device. A tied
        head has no map of its own: the embedding's has the gradient of both uses.

    Raises:
        DataError: if there is no sample, or one has no answer token, a token outside the
            vocabulary or more tokens than there are learned positions; names its number.
        NumericsError: if a loss or gradient is NaN or infinite, with the sample and parameter; or
            if the model is in float16, whose gradients underflow below 6e-8 without loss scaling.
    """
    check_samples(model, samples)
    model.train(mode=False)
    sums = GradientSums(model)
    most = batch_tokens if recompute_from is None else min(batch_tokens, recompute_from - 1)
    together = batches(samples, tokens=most if sums.separates else 0)
    fingerprint = run_fingerprint(model, samples, together)
    done = checkpoint.restore(sums.sums, fingerprint) if checkpoint else 0
    progress(done, len(samples), f"resumed after sample {done}" if done else "sensitivity")
    end = 0
    with repeatable(model.device), sums, torch.enable_grad():
        for numbers in together:
            end += len(numbers)
            if end <= done:
                continue
            is_long = recompute_from is not None and any(
                len(samples[number].input_ids) >= recompute_from for number in numbers
            )
            with recomputed(model, wanted=is_long and len(numbers) == 1):
                losses = _add_batch(model, [samples[n] for n in numbers], numbers, sums)
            if checkpoint:
                checkpoint.save_if_due(sums.sums, end, fingerprint)
            told = zip(numbers, losses, strict=True)
            progress(end, len(samples), ", ".join(f"sample {n}: loss {x:.3f}" for n, x in told))
    times_weights(model.named_parameters(), sums.sums)
    return sums.sums


def _add_batch(
    model: "PreTrainedModel",
    samples: Sequence[TokenisedExample],
    numbers: Sequence[int],
    sums: GradientSums,
) -> list[float]:
    """Add samples to the sums, together; returns their losses."""
    if len(samples) == 1:
        sums.begin(None)
        losses_B = answer_loss(model, samples[0], sums=sums)[None]
    else:
        batch = Batch.of(samples, model.device)
        sums.begin(batch)
        losses_B = answer_losses(model, batch, sums=sums)
    values = finite_losses(losses_B, numbers)
    losses_B.sum().backward()  # type: ignore[no-untyped-call]
    refuse_broken(sums.end(), numbers)
    return values


def finite_losses(losses_B: Tensor, numbers: Sequence[int]) -> list[float]:
    """The values of samples' losses.

    Args:
        losses_B: one of each sample.
        numbers: of the samples, for the message.

    Raises:
        NumericsError: if one is NaN or infinite; names the sample.
    """
    values: list[float] = losses_B.detach().tolist()
    for number, value in zip(numbers, values, strict=True):
        if not math.isfinite(value):
            raise NumericsError(
                f"Sample {number} has loss {value}; every loss must be finite. Compute in float32, "
                "and look at this sample and at the weights for NaN."
            )
    return values


def refuse_broken(broken: tuple[int, str] | None, numbers: Sequence[int]) -> None:
    """Raise NumericsError for a parameter whose gradient in a sample was NaN or infinite.

    Args:
        broken: as ``GradientSums.end`` returns it.
        numbers: of the batch's samples.
    """
    if broken is not None:
        place, parameter = broken
        raise NumericsError(
            f"Sample {numbers[place]} gives {parameter!r} a gradient with NaN or infinity. "
            "Compute in float32, and look at this sample and at the weights."
        )


def times_weights(parameters: Iterable[tuple[str, Tensor]], sums: Mapping[str, Tensor]) -> None:
    """Multiply sums of |∂L/∂θ| by |θ|, in place.

    Args:
        parameters: names with values θ, of any dtype.
        sums: float32, one of each parameter's shape, under its name.

    Raises:
        NumericsError: if a product is NaN or infinite; names the parameter.
    """
    with torch.no_grad():
        for name, parameter in parameters:
            pieces = (torch.split(t.flatten(), _PIECE) for t in (sums[name], parameter.detach()))
            for sums_P, values_P in zip(*pieces, strict=True):
                sums_P.mul_(values_P.abs())
            if not bool(sums[name].sum(dtype=torch.float32).isfinite()):
                raise NumericsError(
                    f"The sensitivity of {name!r} holds NaN or infinity after all samples, though "
                    "each sample's gradient was finite: the weights hold NaN or infinity."
                )


def check_samples(model: "PreTrainedModel", samples: Sequence[TokenisedExample]) -> None:
    """Refuse a model or samples that cannot be measured, before any work.

    Raises:
        DataError, NumericsError: as ``accumulate``.
    """
    if any(p.dtype == torch.float16 for p in model.parameters()):
        raise NumericsError(
            "Sensitivity is not computed in float16: gradients below 6e-8 would vanish. Load the "
            "model in float32 or bfloat16 (a float16 checkpoint can be loaded in either)."
        )
    if not samples:
        raise DataError("Sensitivity needs at least one sample; there is none.")
    rows, longest = int(model.config.vocab_size), learned_positions(model)
    for number, sample in enumerate(samples):
        ids, labels = sample.input_ids, sample.labels
        if len(ids) != len(labels):
            raise DataError(
                f"Sample {number} has {len(ids)} input_ids and {len(labels)} labels; it needs one "
                "label for each token."
            )
        if longest is not None and len(ids) > longest:
            raise DataError(
                f"Sample {number} has {len(ids)} tokens, but this model has only {longest} "
                "positions. Lower the cut-off."
            )
        if all(label == NO_LOSS for label in labels[1:]):
            raise DataError(
                f"Sample {number} has no answer token after its first token, so it has no loss."
            )
        used = [*ids, *(label for label in labels if label != NO_LOSS)]
        if min(used) < 0 or max(used) >= rows:
            raise DataError(
                f"Sample {number} has tokens {min(used)}..{max(used)}; the vocabulary is "
                f"0..{rows - 1}. Tokenise with this model's tokenizer."
            )
