"""How much a model's loss on a task depends on each of its parameters (SeeKing, arXiv 2310.11451).

``S_i = Σ_j |θ_i · ∂L(x_j)/∂θ_i|``: the first-order change of the loss when θ_i is set to zero, one
backward pass per sample, absolute values per sample. θ does not depend on the sample, so
``S_i = |θ_i| · Σ_j |∂L(x_j)/∂θ_i|`` and the weights are multiplied in once, at the end.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.errors import DataError, NumericsError
from paraknow_core.models.chunked_logits import final_states
from paraknow_core.models.modules import learned_positions
from paraknow_core.progress import Progress, no_progress
from paraknow_core.sensitivity.chunked_head import chunked_loss, goes_in_chunks
from paraknow_core.sensitivity.gradient_sums import GradientSums
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


def answer_loss(
    model: "PreTrainedModel",
    sample: TokenisedExample,
    *,
    device: str | torch.device | None = None,
    sums: GradientSums | None = None,
) -> Tensor:
    """The mean cross-entropy of a sample's answer tokens, each given all tokens before it.

    The head runs only where a token is predicted, and tokens after the last such place are left
    out: neither changes the value.

    Args:
        model: a causal language model of Transformers.
        sample: unshifted labels, ``NO_LOSS`` on the prompt.
        device: where its tokens are put; None for where the model's parameters are.
        sums: that the backward pass adds to; given them, many logits are never whole.

    Returns:
        A float32 scalar (float64 for a float64 model), whatever the compute dtype.
    """
    device = device or model.device
    labels = torch.tensor(sample.labels[1:], device=device)  # position p predicts token p + 1
    positions = (labels != NO_LOSS).nonzero().flatten()
    ids = torch.tensor(sample.input_ids, device=device)[: int(positions[-1]) + 1]
    if sums is not None and goes_in_chunks(model, len(positions), sums):
        states_NH = final_states(model, input_ids=ids[None])[0, positions]
        return chunked_loss(model, states_NH, labels[positions], sums)
    output: Any = model(input_ids=ids[None], logits_to_keep=positions, use_cache=False)
    logits = output.logits[0]
    if logits.dtype in (torch.bfloat16, torch.float16):
        logits = logits.float()
    return torch.nn.functional.cross_entropy(logits, labels[positions])


def used_tokens(sample: TokenisedExample) -> int:
    """How many tokens of a sample its loss depends on: up to the last place that predicts one."""
    labels = sample.labels
    return max(place for place in range(1, len(labels)) if labels[place] != NO_LOSS)


def accumulate(
    model: "PreTrainedModel",
    samples: Sequence[TokenisedExample],
    *,
    recompute_from: int | None = None,
    progress: Progress = no_progress,
    checkpoint: SensitivityCheckpoint | None = None,
) -> dict[str, Tensor]:
    """Compute the sensitivity of every parameter: SeeKing §3, Σ over samples of |θ · ∂L/∂θ|.

    Gradients are taken in the model's dtype (on a GPU in float32 at least: ``tile``) and added in
    float32. Peak memory is the weights, the maps, one tile of a gradient (``gradient_sums``), and
    one sample's activations. The result is the same bit for bit in every run with the same number
    of threads, or on the same kind of GPU, interrupted or not.

    Args:
        model: a causal language model in float32 or bfloat16 (float64 works too). It is put in
            evaluation mode, so that dropout does not blur the measurement.
        samples: the seed samples, tokenised, with at least one answer token each.
        recompute_from: samples of so many tokens and more run with ``recomputed``; None: none does.
        progress: called before the first and after every sample.
        checkpoint: where to keep the running sums; with one of the same samples and model, the
            run goes on after its last whole sample.

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
    fingerprint = run_fingerprint(model, samples)
    done = checkpoint.restore(sums.sums, fingerprint) if checkpoint else 0
    progress(done, len(samples), f"resumed after sample {done}" if done else "sensitivity")
    with repeatable(model.device), sums, torch.enable_grad():
        for number in range(done, len(samples)):
            is_long = (
                recompute_from is not None and len(samples[number].input_ids) >= recompute_from
            )
            with recomputed(model, wanted=is_long):
                loss = _add_sample(model, samples[number], number, sums)
            if checkpoint:
                checkpoint.save_if_due(sums.sums, number + 1, fingerprint)
            progress(number + 1, len(samples), f"sample {number}: loss {loss:.3f}")
    times_weights(model.named_parameters(), sums.sums)
    return sums.sums


def _add_sample(
    model: "PreTrainedModel", sample: TokenisedExample, number: int, sums: GradientSums
) -> float:
    loss = answer_loss(model, sample, sums=sums)
    value = finite_loss(loss, number)
    loss.backward()  # type: ignore[no-untyped-call]
    refuse_broken(sums.end_sample(), number)
    return value


def finite_loss(loss: Tensor, number: int) -> float:
    """The value of a sample's loss; raises NumericsError if it is NaN or infinite."""
    value = float(loss.detach())
    if not -float("inf") < value < float("inf"):
        raise NumericsError(
            f"Sample {number} has loss {value}; every loss must be finite. Compute in float32, and "
            "look at this sample and at the weights for NaN."
        )
    return value


def refuse_broken(parameter: str | None, number: int) -> None:
    """Raise NumericsError for a parameter whose gradient in a sample was NaN or infinite."""
    if parameter is not None:
        raise NumericsError(
            f"Sample {number} gives {parameter!r} a gradient with NaN or infinity. "
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
