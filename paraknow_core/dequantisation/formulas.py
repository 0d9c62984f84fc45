"""The weights that packed tensors stand for, by each format's formula, in float32.

Shapes: M = out_features, N = in_features, G = groups of input features. Numbers are computed in
float32 from the stored scales, whatever dtype a kernel of the format would use.
"""

import torch
from torch import Tensor

_AWQ_ORDER = (0, 4, 1, 5, 2, 6, 3, 7)
"""Which of the eight fields of an int32, from the lowest bits, holds columns 0, 1, … 7."""


def bit_fields(packed: Tensor, bits: int) -> Tensor:
    """Take int32 numbers apart into fields of some bits, from the lowest ones up.

    Args:
        packed: … × W, int32.
        bits: of a field; 32 must be a multiple of it.

    Returns:
        … × (W · 32 / bits), int32, each number in 0..2^bits − 1.
    """
    shifts = torch.arange(0, 32, bits, dtype=torch.int32)
    fields: Tensor = (packed[..., None] >> shifts) & (2**bits - 1)
    return fields.flatten(-2)


def gptq_weight(
    qweight: Tensor,
    qzeros: Tensor,
    scales: Tensor,
    groups: Tensor,
    *,
    bits: int,
    zero_less_one: bool,
) -> Tensor:
    """GPTQ (arXiv 2210.17323) as AutoGPTQ packs it: scale · (q − zero), group by group of inputs.

    Args:
        qweight: (N · bits / 32) × M, int32, fields along the input features.
        qzeros: G × (M · bits / 32), int32, fields along the output features.
        scales: G × M.
        groups: N, the group of each input feature, in any order (``desc_act``).
        bits: of a number: 2, 4 or 8.
        zero_less_one: whether zeros were stored less one (checkpoint format 1, not ``gptq_v2``);
            the sum wraps, so that a stored 2^bits − 1 is a zero of 0.

    Returns:
        M × N, float32.
    """
    q_NM = bit_fields(qweight.T, bits).T
    zeros_GM = bit_fields(qzeros, bits)
    if zero_less_one:
        zeros_GM = (zeros_GM + 1) & (2**bits - 1)
    index = groups.long()
    return (scales.float()[index] * (q_NM - zeros_GM[index])).T.contiguous()


def awq_weight(qweight: Tensor, qzeros: Tensor, scales: Tensor) -> Tensor:
    """AWQ (arXiv 2306.00978), layout ``gemm``: scale · (q − zero), 4 bits in an order of its own.

    Args:
        qweight: N × (M / 8), int32, fields along the output features.
        qzeros: G × (M / 8), int32.
        scales: G × M.

    Returns:
        M × N, float32.
    """
    each = qweight.shape[0] // qzeros.shape[0]
    q_NM, zeros_GM = _awq_fields(qweight), _awq_fields(qzeros)
    zeros_NM, scales_NM = (
        part.repeat_interleave(each, dim=0) for part in (zeros_GM, scales.float())
    )
    return ((q_NM - zeros_NM) * scales_NM).T.contiguous()


def _awq_fields(packed: Tensor) -> Tensor:
    fields = bit_fields(packed, 4).unflatten(-1, (-1, 8))  # type: ignore[no-untyped-call]
    return fields[..., list(_AWQ_ORDER)].flatten(-2)  # type: ignore[no-any-return]


def table_weight(
    packed: Tensor, table: Tensor, absmax: Tensor, *, block: int, shape: tuple[int, int]
) -> Tensor:
    """Bitsandbytes' nf4 and fp4 (arXiv 2305.14314): a table of 16 numbers times a block's maximum.

    Args:
        packed: bytes, two numbers each, the first in the high half.
        table: 16 numbers in [−1, 1].
        absmax: of each block of ``block`` numbers, in row-major order.
        block: numbers in a block.
        shape: (M, N) of the weight; what the last byte holds beyond it is ignored.

    Returns:
        M × N, float32.
    """
    data = packed.flatten()
    index = torch.stack((data >> 4, data & 15), dim=-1).flatten()[: shape[0] * shape[1]]
    numbers = table.float()[index.long()]
    scale = absmax.float().repeat_interleave(block)[: len(numbers)]
    return (numbers * scale).view(shape)


def nested_absmax(
    codes: Tensor, table: Tensor, absmax: Tensor, *, block: int, offset: float
) -> Tensor:
    """The maxima of blocks where they were quantised in turn (double quantisation).

    Args:
        codes: a byte for each block.
        table: 256 numbers in [−1, 1].
        absmax: of each block of ``block`` codes.
        block: codes in a block.
        offset: the mean that was taken off.
    """
    scale = absmax.float().repeat_interleave(block)[: codes.numel()]
    return table.float()[codes.flatten().long()] * scale + offset


def scaled_weight(numbers: Tensor, scales: Tensor, block: tuple[int, int]) -> Tensor:
    """Float8 or int8 numbers times the scale of the rectangle that each lies in.

    Args:
        numbers: M × N.
        scales: one for each rectangle, rows of rectangles × columns of rectangles.
        block: height and width of a rectangle; the last ones may be cut off.

    Returns:
        M × N, float32.
    """
    rows, cols = numbers.shape
    spread = scales.float().repeat_interleave(block[0], dim=0)[:rows]
    return numbers.float() * spread.repeat_interleave(block[1], dim=1)[:, :cols]
