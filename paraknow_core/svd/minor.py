"""The smallest singular values of a matrix and their vectors.

Shape suffixes: M, N = rows and columns as given; P, Q = the same with P ≥ Q, transposed if need be;
R = rank.
"""

import torch
from torch import Tensor


def minor_components(weight_MN: Tensor, *, rank: int) -> tuple[Tensor, Tensor, Tensor]:
    """The singular triplets of the smallest singular values, computed in float64.

    A QR factorisation first reduces the problem to a square matrix of the smaller side. The Gram
    matrix would be faster, but it loses singular values below 1e-8 of the largest, and here the
    smallest ones are wanted.

    Args:
        weight_MN: any float dtype.
        rank: R, in 1..min(M, N).

    Returns:
        U (M×R), singular values (R, falling) and Vᵀ (R×N) in float32; the largest entry of each
        row of Vᵀ is positive.
    """
    wide = weight_MN.shape[0] < weight_MN.shape[1]
    weight_PQ = (weight_MN.T if wide else weight_MN).detach().double()
    basis_PQ, triangle_QQ = torch.linalg.qr(weight_PQ)
    u_QQ, s_Q, vh_QQ = torch.linalg.svd(triangle_QQ)
    u, v = basis_PQ @ u_QQ[:, -rank:], vh_QQ[-rank:].T
    u_MR, v_NR = (v, u) if wide else (u, v)
    largest_1R = v_NR.gather(0, v_NR.abs().argmax(0, keepdim=True))
    signs_1R = torch.where(largest_1R < 0, -1.0, 1.0)
    found = u_MR * signs_1R, s_Q[-rank:], (v_NR * signs_1R).T
    return found[0].float(), found[1].float(), found[2].float().contiguous()
