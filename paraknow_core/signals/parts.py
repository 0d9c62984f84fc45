"""Next-token log-probabilities of a text, all at once where they are few, else part by part.

With a vocabulary of 128,000 those of 2,048 places are 1 GB, and a divergence has several such at
once. Beyond ``logit_chunks.CHUNK_ELEMENTS`` only the final states of a text are kept, and the head
runs on a few places at a time (``models.chunked_logits``).

Shapes: T = tokens of a text, n = those of a part, H = width, P = shared tokens, V = vocabulary.
"""

from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from paraknow_core.models.chunked_logits import (
    final_states,
    head_alone,
    loss_in_chunks,
    vocabulary_of,
)
from paraknow_core.models.logit_chunks import are_many, chunks
from paraknow_core.signals.request import SharedText, SignalRequest

_WHOLE = slice(None)


class TeacherSays:
    """What the teacher says at each place of a student's text, see `SignalRequest.each`."""

    @torch.no_grad()
    def __init__(self, request: SignalRequest, read: SharedText, order_T: Tensor) -> None:
        """Run the teacher.

        Args:
            request: its models and tokens.
            read: the text that the teacher reads.
            order_T: for each position of the student's text the one whose signal stands for it.
        """
        folder = request.teacher_folder
        self._request = request
        self.is_long = _is_long(request, max(len(order_T), len(read.teacher_T)))
        if self.is_long:
            self._kept = _states(request, folder, read)[order_T]
        else:
            self._kept = request.log_probs(folder, read)[order_T]

    @torch.no_grad()
    def part(self, part: slice) -> Tensor:
        """Log-probabilities at these places, n×P in float32."""
        if not self.is_long:
            return self._kept[part]
        folder = self._request.teacher_folder
        with head_alone(self._request.model(folder)) as head:
            return self._request.among_shared(head(self._kept[part]), folder)


@torch.no_grad()
def student_parts(
    request: SignalRequest, text: SharedText, theirs: TeacherSays
) -> Iterator[tuple[slice, Tensor]]:
    """Go through a text: places, and the student's log-probabilities there, n×P in float32.

    Args:
        request: its models and tokens.
        text: that the student reads.
        theirs: what the teacher says there.
    """
    folder = request.student_folder
    if not theirs.is_long:
        yield _WHOLE, request.log_probs(folder, text)
        return
    model, states_TH = request.model(folder), _states(request, folder, text)
    with head_alone(model) as head:
        for part in chunks(len(states_TH), vocabulary_of(model)):
            yield part, request.among_shared(head(states_TH[part]), folder)


def divergence(request: SignalRequest, text: SharedText, theirs: TeacherSays) -> Tensor:
    """KL(p_T ‖ p_S) of one text, in nats, summed over the positions that count."""
    folder = request.student_folder
    if not theirs.is_long:
        return _kl(theirs.part(_WHOLE), request.log_probs(folder, text), text.counts_T)

    def loss(logits_nV: Tensor, part: slice) -> Tensor:
        ours_nP = request.among_shared(logits_nV, folder)
        return _kl(theirs.part(part), ours_nP, text.counts_T[part])

    return loss_in_chunks(request.model(folder), _states(request, folder, text), loss)


def _kl(theirs_TP: Tensor, ours_TP: Tensor, counts_T: Tensor) -> Tensor:
    kl_T = (theirs_TP.exp() * (theirs_TP - ours_TP)).sum(-1)
    return kl_T[counts_T.to(kl_T.device)].sum()


def _states(request: SignalRequest, folder: Path, text: SharedText) -> Tensor:
    ids_T = request.tokens(folder, text)
    return final_states(request.model(folder), input_ids=ids_T[None].to(request.device))[0]


def _is_long(request: SignalRequest, places: int) -> bool:
    """Whether so many places are taken in parts.

    Never of a student in its own teacher's place: an update changes the head that its parts would
    still be computed with.
    """
    folders = request.teacher_folder, request.student_folder
    if folders[0] == folders[1]:
        return False
    return are_many(places, max(vocabulary_of(request.model(folder)) for folder in folders))
