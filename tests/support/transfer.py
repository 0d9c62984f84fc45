"""A whole transfer through the core alone, on tiny models: from teacher and student to a start."""

from pathlib import Path

import torch
from support.starts import token_examples
from support.tiny import tiny_samples
from torch import Tensor

from paraknow_core.alignment.matrices import check_sizes, match_matrices
from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.data.batches import collate
from paraknow_core.extraction.cuts import choose_cuts
from paraknow_core.extraction.weights import cuts_by_module, module_weight
from paraknow_core.finetuning.batches import next_token_logits
from paraknow_core.lora.adapter import Adapter, write_adapter
from paraknow_core.lora.anchored_model import read_trained, trainable_model
from paraknow_core.lora.combine import combine
from paraknow_core.lora.start_point import start_factors, write_start
from paraknow_core.models.describe import MATRIX_ROLES, Architecture, Role, describe
from paraknow_core.models.load import load_model
from paraknow_core.sensitivity.accumulate import accumulate, write_maps
from paraknow_core.svd.truncated import truncated_svd

RANK = 3


def transferred_weights(teacher: Path, student: Path, work: Path) -> dict[str, Tensor]:
    """For each of the student's modules, the matrix that SeeKing's windows cut from the teacher."""
    source, target = describe(teacher), describe(student)
    write_maps(accumulate(load_model(teacher), tiny_samples()), work / "maps", source)
    matches = match_matrices(
        source,
        target,
        layers=range(1, 1 + target.num_layers),
        roles=[str(role) for role in MATRIX_ROLES],
    )
    check_sizes(matches, by_token=False)
    with Checkpoint(work / "maps") as scores, Checkpoint(teacher) as weights:
        cuts, indices = choose_cuts(scores, matches, teacher=source, student=target)
        return {
            module: module_weight(weights, source, target, group, indices)
            for module, group in cuts_by_module(cuts).items()
        }


def start_of(weights: dict[str, Tensor], student: Architecture, folder: Path) -> Adapter:
    """Decompose and write the start point."""
    factors = {}
    for module, weight_MN in weights.items():
        found = truncated_svd(weight_MN, rank=RANK)
        factors[module] = start_factors(found.u_MR, found.s_R, found.vh_RN, rank=RANK, alpha=6.0)
    return write_start(
        folder,
        factors=factors,
        embeddings=[student.module_of(Role.EMBED)],
        rank=RANK,
        alpha=6.0,
        tied_head=student.module_of(Role.HEAD) if student.tied else None,
        fan_in_fan_out=student.is_transposed(factors),
    )


def trained_and_delivered(student: Path, start: Adapter, folder: Path) -> tuple[Tensor, Tensor]:
    """Train three steps by hand and write what is delivered; gives logits before and after."""
    model = trainable_model(load_model(student), start, dropout=0.0).eval()
    batch = collate(token_examples(6))
    with torch.no_grad():
        before = next_token_logits(model, batch)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-2)
    for _ in range(3):
        optimizer.zero_grad()
        next_token_logits(model, batch).log_softmax(-1)[..., 5].mean().neg().backward()
        optimizer.step()
    with torch.no_grad():
        after = next_token_logits(model, batch)
    write_adapter(folder, combine(start, read_trained(model, start)))
    return before, after
