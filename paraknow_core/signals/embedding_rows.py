"""Embedding rows: what the teacher knows of rare tokens, in the student's own space.

A ridge map M takes the teacher's rows to the student's. It is fitted on the tokens of the seed
texts, each as heavy as it is frequent: the student knows these. Then

    ΔE[t] = w_t (E_T[t] M − E_S[t]),    w_t = (1 + n_t)^(−½),

n_t = how often the token occurs: the rarer, the more is taken over. Rows are centred on the mean
that the fit weighs. The tokens are dealt out to two halves; each half's map is used on the other's
rows, since on its own rows a map would only smooth what the student has.

Shapes: V = the student's tokens, P = those with a partner, T, S = hidden sizes of teacher and
student.
"""

import torch
from torch import Tensor

from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.errors import NumericsError
from paraknow_core.lora.adapter import LoraFactors
from paraknow_core.models.describe import Role, describe
from paraknow_core.seeding import derived_seed
from paraknow_core.signals.reduced_rank import ridge_map
from paraknow_core.signals.request import SignalRequest, Signals
from paraknow_core.svd.truncated import truncated_svd

# A change this small against the rows is the rounding of what the map gives back.
_LEAST_CHANGE = 1e-6


def embedding_rows(request: SignalRequest) -> Signals:
    """Find the change of the embedding, the best of its rank; a tied head changes with it."""
    module = request.student.module_of(Role.EMBED)
    if module not in request.modules:
        return {}
    teachers_P, students_P = request.teachers_P, request.shared_P
    if request.shuffle is not None:
        source = torch.Generator().manual_seed(derived_seed(request.shuffle, "rows of others"))
        teachers_P = teachers_P[torch.randperm(len(teachers_P), generator=source)]
    teacher = describe(request.teacher_folder)
    with (
        Checkpoint(request.teacher_folder) as theirs,
        Checkpoint(request.student_folder) as ours,
    ):
        theirs_PT = theirs.read(teacher.matrix(Role.EMBED).name)[teachers_P].double()
        ours_PS = ours.read(request.student.matrix(Role.EMBED).name)[students_P].double()
    counts_V = torch.bincount(
        torch.cat([text.student_T for text in request.texts]), minlength=request.student.vocab_size
    )
    change_PS = rows_change(
        theirs_PT, ours_PS, counts_V[students_P].double(), ridge=request.options.ridge
    )
    change_VS = torch.zeros(request.student.vocab_size, ours_PS.shape[1])
    change_VS[students_P] = change_PS.float()
    found = truncated_svd(change_VS, rank=min(request.rank, *change_VS.shape))
    root_R = found.s_R.sqrt()
    return {module: LoraFactors(a=root_R[:, None] * found.vh_RN, b=found.u_MR * root_R)}


def rows_change(theirs_PT: Tensor, ours_PS: Tensor, counts_P: Tensor, *, ridge: float) -> Tensor:
    """Find how the student's rows should change.

    Args:
        theirs_PT: the teacher's rows, float64.
        ours_PS: the student's rows of the same tokens, float64.
        counts_P: how often each token occurs, at least 0.
        ridge: λ over the mean of the diagonal of the weighted TᵀT, at least 0.

    Returns:
        The change, P×S, float64.

    Raises:
        NumericsError: if a half has no token that occurs, the ridge is 0 where a map has more
            unknowns than tokens, or nothing changes: the teacher's rows are the student's.
    """
    change_PS = torch.zeros_like(ours_PS)
    # By turns in the order of frequency, so that both halves have frequent and rare tokens.
    place_P = counts_P.argsort(descending=True, stable=True).argsort(stable=True)
    for half in (0, 1):
        fit_P, use_P = place_P % 2 == half, place_P % 2 != half
        weight_P = counts_P * fit_P
        if not bool(weight_P.any()):
            raise NumericsError(
                f"The seed texts have {int((counts_P > 0).sum())} of the tokens that both models "
                "have; the map needs some in each half of the tokens. Give more seed texts."
            )
        share_P1 = (weight_P / weight_P.sum())[:, None]
        mean_T, mean_S = (share_P1 * theirs_PT).sum(0), (share_P1 * ours_PS).sum(0)
        t_PT, s_PS = theirs_PT - mean_T, ours_PS - mean_S
        map_TS = ridge_map(
            t_PT.T @ (weight_P[:, None] * t_PT),
            t_PT.T @ (weight_P[:, None] * s_PS),
            positions=int((weight_P > 0).sum()),
            ridge=ridge,
            what="the map of rows",
        )
        change_PS[use_P] = (t_PT @ map_TS - s_PS)[use_P]
    change_PS *= (1 + counts_P).rsqrt()[:, None]
    if float(change_PS.norm()) <= _LEAST_CHANGE * float(ours_PS.norm()):
        raise NumericsError(
            "The teacher's rows are the student's own: nothing changes. Take another teacher."
        )
    return change_PS
