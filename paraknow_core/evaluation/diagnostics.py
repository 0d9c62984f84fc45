"""How a start point compares with the weights, and how alike the layers of two models are.

Shapes: M = out_features, N = in_features, R = rank, P = texts.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paraknow_core.errors import DataError, NumericsError, ShapeError
from paraknow_core.models.modules import decoder_layers
from paraknow_core.progress import Progress, no_progress

_PIECE = 2**22
"""Elements of a weight that are turned into float64 at a time: 32 MiB."""

LEAST_TEXTS = 4
"""The debiased estimate divides by P − 3."""


@dataclass(frozen=True)
class StartFact:
    """A start point's product compared with the weight of its module.

    Attributes:
        norm_ratio: ‖s·B₀A₀‖ / ‖W‖, Frobenius norms; None for a weight of zeros.
        cosine: of s·B₀A₀ and W as vectors, −1..1; None where either is zero.
    """

    norm_ratio: float | None
    cosine: float | None


def start_fact(weight_MN: Tensor, b_MR: Tensor, a_RN: Tensor, *, scale: float = 1.0) -> StartFact:
    """Compare ``scale · B A`` with a weight, without ever forming the product.

    ‖BA‖² = Σ (BᵀB) ∘ (AAᵀ), and ⟨BA, W⟩ = Σ B ∘ (W Aᵀ): R×R and M×R in place of M×N. The "neural
    incompatibility" paper (arXiv 2505.14436) reports this cosine.

    Args:
        weight_MN: any float dtype; read in pieces of rows, in float64.
        b_MR: any float dtype.
        a_RN: the same.
        scale: PEFT's alpha / R, above 0.

    Raises:
        ShapeError: if the shapes do not fit together.
        NumericsError: if the weight or a factor holds NaN or infinity.
    """
    shapes = tuple(weight_MN.shape), tuple(b_MR.shape), tuple(a_RN.shape)
    if weight_MN.dim() != 2 or shapes != (
        (b_MR.shape[0], a_RN.shape[-1]),
        (weight_MN.shape[0], a_RN.shape[0]),
        (b_MR.shape[-1], weight_MN.shape[1]),
    ):
        raise ShapeError(
            f"A weight of {shapes[0]} and factors of {shapes[1]} and {shapes[2]} do not belong "
            "together; they must be M×N, M×R and R×N."
        )
    b, a = b_MR.double(), a_RN.double()
    square = float(((b.T @ b) * (a @ a.T)).sum())
    inner, weight_square = _against(weight_MN, b, a)
    if not all(map(math.isfinite, (square, inner, weight_square))):
        raise NumericsError("The weight or a factor of the start point holds NaN or infinity.")
    product, weight = scale * math.sqrt(max(0.0, square)), math.sqrt(weight_square)
    if product == 0 or weight == 0:
        return StartFact(None if weight == 0 else 0.0, None)
    cosine = scale * inner / (product * weight)
    return StartFact(product / weight, max(-1.0, min(1.0, cosine)))


def _against(weight_MN: Tensor, b_MR: Tensor, a_RN: Tensor) -> tuple[float, float]:
    """⟨BA, W⟩ and ‖W‖², a few rows at a time."""
    rows = max(1, _PIECE // max(1, weight_MN.shape[1]))
    inner = square = 0.0
    for start in range(0, weight_MN.shape[0], rows):
        piece = weight_MN[start : start + rows].double()
        inner += float((b_MR[start : start + rows] * (piece @ a_RN.T)).sum())
        square += float(piece.square().sum())
    return inner, square


@torch.no_grad()
def pooled_states(
    model: Any,
    texts: Sequence[Sequence[int]],
    *,
    ignore: Sequence[int] = (),
    batch_size: int = 8,
    progress: Progress = no_progress,
) -> list[Tensor]:
    """Mean hidden state of each text after each decoder layer.

    A mean over tokens is comparable between tokenizers, which split a text differently. Each
    layer's states are averaged as soon as they exist, so that only one batch of one layer is in
    memory besides the means.

    Args:
        model: a causal language model in evaluation mode.
        texts: token numbers of each text; at least one each.
        ignore: tokens that are left out of the mean, such as the one at the start of every text,
            whose hidden states are far larger than all others; of a text that has only such tokens
            all are used.
        batch_size: texts at once.
        progress: called as (texts done, texts, message).

    Returns:
        One P×(hidden size) float32 tensor a layer, on the CPU.
    """
    layers = decoder_layers(model)
    kept: list[list[Tensor]] = [[] for _ in layers]
    mask: list[Tensor] = []

    def keep(layer: int) -> Any:
        def hook(_module: Any, _inputs: Any, output: Any) -> None:
            states = output[0] if isinstance(output, tuple) else output
            kept[layer].append(_mean(states, mask[0]).cpu())

        return hook

    handles = [layer.register_forward_hook(keep(place)) for place, layer in enumerate(layers)]
    try:
        for start in range(0, len(texts), batch_size):
            batch = _padded(texts[start : start + batch_size], ignore)
            mask[:] = [batch.pop("counts")]
            device = next(model.parameters()).device
            model.get_decoder()(**{name: value.to(device) for name, value in batch.items()})
            progress(min(start + batch_size, len(texts)), len(texts), "texts")
    finally:
        for handle in handles:
            handle.remove()
    return [torch.cat(states) for states in kept]


def pooling(
    texts: Sequence[Sequence[int]], *, ignore: Sequence[int] = ()
) -> Callable[[int, Tensor], Tensor]:
    """Make the mean of ``pooled_states`` for texts that are run one at a time.

    Args:
        texts: as for ``pooled_states``.
        ignore: tokens that are left out of the mean.

    Returns:
        From the number of a text and its states, 1×T×H, to their float32 mean, 1×H.
    """

    def pool(number: int, states_1TH: Tensor) -> Tensor:
        return _mean(states_1TH, _padded([texts[number]], ignore)["counts"])

    return pool


def _mean(states_BTH: Tensor, counts_BT: Tensor) -> Tensor:
    weights = counts_BT.to(states_BTH.device)[..., None]
    return (states_BTH.float() * weights).sum(1) / weights.sum(1)


def _padded(texts: Sequence[Sequence[int]], ignore: Sequence[int]) -> dict[str, Tensor]:
    """Right-padded tokens, their mask, and the float mask of those in the mean."""
    shape = (len(texts), max(map(len, texts)))
    ids = torch.zeros(shape, dtype=torch.int64)
    mask = torch.zeros(shape, dtype=torch.int64)
    counts = torch.zeros(shape)
    for row, tokens in enumerate(texts):
        ids[row, : len(tokens)] = torch.tensor(list(tokens))
        mask[row, : len(tokens)] = 1
        wanted = [float(token not in ignore) for token in tokens]
        counts[row, : len(tokens)] = torch.tensor(wanted if any(wanted) else [1.0] * len(tokens))
    return {"input_ids": ids, "attention_mask": mask, "counts": counts}


def linear_cka(
    ones: Sequence[Tensor], others: Sequence[Tensor], *, progress: Progress = no_progress
) -> list[list[float | None]]:
    """Linear CKA between every two layers (Kornblith et al., arXiv 1905.00414, §3), debiased.

    The plain estimate grows with hidden size over texts: with few texts even unrelated layers look
    alike. So HSIC is estimated without bias (Song et al., JMLR 2012, eq. 5, as in arXiv
    2010.15327): 0 is expected for unrelated layers, single values can lie a little below it.

    Args:
        ones: P×D states, one tensor a layer, of the same P texts; hidden sizes may differ.
        others: the same of the second model.
        progress: called as (layers of ``ones`` done, their number, message).

    Returns:
        One row a layer of ``ones``, one value a layer of ``others``; None where a layer's states
        are the same for all texts.

    Raises:
        DataError: if there are fewer than 4 texts, or not the same number everywhere.
        NumericsError: if a state is NaN or infinite.
    """
    sizes = {len(states) for states in (*ones, *others)}
    if len(sizes) != 1 or min(sizes) < LEAST_TEXTS:
        raise DataError(
            f"Layers are compared on the same texts, at least {LEAST_TEXTS} of them; given are "
            f"{', '.join(map(str, sorted(sizes)))}."
        )
    grams = [_gram(states) for states in others]
    own = [_hsic(gram, gram) for gram in grams]
    rows = []
    for done, states in enumerate(ones):
        gram_PP = _gram(states)
        self_likeness = _hsic(gram_PP, gram_PP)
        cross = [_hsic(gram_PP, gram) for gram in grams]
        rows.append([_ratio(c, self_likeness, o) for c, o in zip(cross, own, strict=True)])
        progress(done + 1, len(ones), "layers")
    return rows


def _gram(states_PD: Tensor) -> Tensor:
    """Inner products of the centred states, scaled to a mean square of 1, diagonal removed."""
    centred = states_PD.double() - states_PD.double().mean(0)
    if not bool(torch.isfinite(centred).all()):
        raise NumericsError("A hidden state is NaN or infinite; compute them in float32.")
    gram_PP = centred @ centred.T
    spread, size = float(gram_PP.diagonal().mean()), float(states_PD.double().square().mean())
    if spread <= 1e-18 * size * states_PD.shape[1]:  # the same for all texts but for rounding
        return torch.zeros_like(gram_PP)
    return (gram_PP / spread).fill_diagonal_(0.0)


def _hsic(k_PP: Tensor, l_PP: Tensor) -> float:
    """The unbiased estimate; both have a diagonal of zeros."""
    size = len(k_PP)
    product = float((k_PP * l_PP).sum())
    sums = float(k_PP.sum()) * float(l_PP.sum()) / ((size - 1) * (size - 2))
    rows = 2.0 * float(k_PP.sum(0) @ l_PP.sum(0)) / (size - 2)
    return (product + sums - rows) / (size * (size - 3))


def _ratio(cross: float, one: float, other: float) -> float | None:
    return cross / math.sqrt(one * other) if one > 0 and other > 0 else None
