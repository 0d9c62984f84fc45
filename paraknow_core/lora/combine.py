"""One ordinary adapter out of a start point and what was trained from it."""

from pathlib import Path

import torch

from paraknow_core.errors import ConfigError
from paraknow_core.lora.adapter import Adapter, LoraFactors, write_adapter
from paraknow_core.lora.adapter_reader import read_adapter


def combine(start: Adapter, trained: Adapter) -> Adapter:
    """Fold the start point into the trained adapter: one adapter on the *unmodified* student.

    ``W − s·B₀A₀ + s·BA`` is ``W + s·[B, −B₀]·[A; A₀]``: rank 2R at twice the alpha, hence the same
    scale s. Where nothing was subtracted, as every start product is zero (plain LoRA) or an update
    (``start.added``), the trained adapter already is the answer.

    Args:
        start: what training started from.
        trained: what it became: the same modules, rank and alpha.

    Returns:
        The adapter to deliver, with dropout 0.

    Raises:
        ConfigError: if the two do not belong together.
    """
    facts = [
        (sorted(x.factors), x.rank, x.alpha, x.tied_head, x.embeddings) for x in (start, trained)
    ]
    if facts[0] != facts[1]:
        raise ConfigError(
            f"The start point has rank {start.rank}, alpha {start.alpha} and "
            f"{len(start.factors)} modules, the trained adapter rank {trained.rank}, alpha "
            f"{trained.alpha} and {len(trained.factors)} modules; they must be the same. Give the "
            "start point that this adapter was trained from."
        )
    subtracted = start.subtracted()
    folds = 1 if subtracted.is_zero else 2
    return Adapter(
        factors=dict(trained.factors) if folds == 1 else _stacked(subtracted, trained),
        embeddings=trained.embeddings,
        rank=folds * trained.rank,
        alpha=folds * trained.alpha,
        tied_head=trained.tied_head,
        base_model=trained.base_model,
        fan_in_fan_out=trained.fan_in_fan_out,
    )


def _stacked(start: Adapter, trained: Adapter) -> dict[str, LoraFactors]:
    return {
        module: LoraFactors(
            a=torch.cat([a_RN, start.factors[module].a]),
            b=torch.cat([b_MR, -start.factors[module].b], dim=1),
        )
        for module, (a_RN, b_MR) in trained.factors.items()
    }


def combine_folders(start_folder: Path, trained_folder: Path, out_folder: Path) -> Adapter:
    """Read two adapter folders, write ``combine`` of them as a third, and return it.

    Raises:
        CheckpointError: if a folder is not a plain LoRA adapter.
        ConfigError: if the two do not belong together.
    """
    delivered = combine(read_adapter(start_folder), read_adapter(trained_folder))
    write_adapter(out_folder, delivered)
    return delivered
