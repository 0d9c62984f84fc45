"""The forward KL of a teacher's stored targets to a student's logits.

Shapes: N = answer tokens, K = tokens of each that are kept, V = the student's vocabulary.
"""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class TokenTargets:
    """What a teacher says of the next token, at each of N places, at one temperature.

    Attributes:
        ids_NK: integers, the K likeliest tokens.
        log_probs_NK: float32, their log-probabilities.
        log_rest_N: float32, the log of what all other tokens have together; −inf where the teacher
            knows no others.
    """

    ids_NK: Tensor  # noqa: N815
    log_probs_NK: Tensor  # noqa: N815
    log_rest_N: Tensor  # noqa: N815

    def of(self, part: slice) -> "TokenTargets":
        """Those of some of the places."""
        return TokenTargets(self.ids_NK[part], self.log_probs_NK[part], self.log_rest_N[part])


def kl_of_targets(student_NV: Tensor, targets: TokenTargets, *, temperature: float) -> Tensor:
    """Sum KL(teacher ‖ student) over places; with all tokens kept, that is the exact KL.

    ``Σ_k p_k (log p_k − log q_k) + r (log r − log q_rest)``: p and q are softmaxes at the
    temperature, r and q_rest what the tokens that are not kept have together. This is the KL of
    both distributions after the others were put into one bucket, so it is

    - never above the exact one, and below it by r · KL(teacher's rest ‖ student's rest);
    - of a gradient by the logits that is exact for kept tokens, and wrong by at most 2r / T for
      the others together (sum of absolute values).

    Equals TRL's ``GKDTrainer.generalized_jsd_loss(beta=0, reduction="sum")`` when all are kept.

    Args:
        student_NV: logits of any float dtype; computed with in float32 (float64 stays).
        targets: of the same N places, computed at the same temperature.
        temperature: divides the logits.

    Returns:
        A scalar, in nats.
    """
    logits_NV = student_NV.float() if student_NV.dtype != torch.float64 else student_NV
    scaled_NV = logits_NV / temperature
    total_N = scaled_NV.logsumexp(1)
    ids_NK = targets.ids_NK.long()
    log_q_NK = scaled_NV.gather(1, ids_NK) - total_N[:, None]
    kl = (targets.log_probs_NK.exp() * (targets.log_probs_NK - log_q_NK)).sum()
    has_rest_N = targets.log_rest_N.isfinite()
    if not bool(has_rest_N.any()):
        return kl
    others_NV = scaled_NV.scatter(1, ids_NK, float("-inf"))[has_rest_N]
    log_r_N = targets.log_rest_N[has_rest_N]
    log_q_rest_N = others_NV.logsumexp(1) - total_N[has_rest_N]
    return kl + (log_r_N.exp() * (log_r_N - log_q_rest_N)).sum()
