"""The head by regression: what each token's logit lacks, written where the final states say it.

E = p_T − p_S over the tokens that both models have, X = the student's final normed states. It is
the whitened distillation gradient of the head alone, and needs no backward pass.
"""

from contextlib import ExitStack

import torch

from paraknow_core.models.families import Role
from paraknow_core.signals.activations import kept_inputs
from paraknow_core.signals.parts import TeacherSays, student_parts
from paraknow_core.signals.reduced_rank import CrossProducts, reduced_rank
from paraknow_core.signals.request import SignalRequest, Signals


@torch.no_grad()
def head_regression(request: SignalRequest) -> Signals:
    """Find the change of the head; where it is tied, the embedding's, which changes with it.

    An embedding of its own is left out.
    """
    ours = request.student
    head = ours.module_of(Role.HEAD)
    written = ours.module_of(Role.EMBED) if ours.tied else head
    if written not in request.modules:
        return {}
    student = request.model(request.student_folder)
    width, sums = ours.vocab_size, None
    with ExitStack() as stack:
        inputs = kept_inputs(student, [head], stack)
        for text, read, order_T in request.each():
            theirs = TeacherSays(request, read, order_T)
            for part, ours_TP in student_parts(request, text, theirs):
                counts_T = text.counts_T[part]
                x_TN = inputs[head][counts_T]
                e_TO = torch.zeros(len(x_TN), width, device=x_TN.device)
                lacking_TP = (theirs.part(part).exp() - ours_TP.exp())[counts_T]
                e_TO[:, request.shared_P.to(x_TN.device)] = lacking_TP
                sums = sums or CrossProducts.zeros(width, x_TN.shape[1])
                sums.add(e_TO, x_TN)
    if sums is None:
        return {}
    return {
        written: reduced_rank(sums, rank=request.rank, ridge=request.options.ridge, what=written)
    }
