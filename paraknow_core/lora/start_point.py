"""Where LoRA starts from, and the one adapter that is delivered at the end.

Shapes: M = out_features, N = in_features, R = rank.
"""

from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor

from paraknow_core.errors import ConfigError, RankError
from paraknow_core.lora.adapter import Adapter, LoraFactors, write_adapter
from paraknow_core.models.describe import Architecture, Role, describe
from paraknow_core.seeding import random_state_kept

SPLITS: Mapping[str, Callable[[Tensor], tuple[Tensor, Tensor]]] = MappingProxyType(
    {
        "output": lambda s_R: (s_R, torch.ones_like(s_R)),
        "sqrt": lambda s_R: (s_R.sqrt(), s_R.sqrt()),
        "hidden": lambda s_R: (torch.ones_like(s_R), s_R),
    }
)
"""How singular values are shared between B and A: all on B (SeeKing), half each (as PiSSA), or all
on A, which is an embedding's hidden side (SeeKing's public code).
"""


def start_factors(
    u_MR: Tensor, s_R: Tensor, vh_RN: Tensor, *, rank: int, alpha: float, split: str = "output"
) -> LoraFactors:
    """Cut a stored SVD to a rank so that ``(alpha / rank) * B @ A`` is the best rank-``rank`` fit.

    SeeKing (arXiv 2310.11451, section 3.3) starts LoRA at ``B = U Σ, A = Vᵀ``, PiSSA
    (arXiv 2404.02948, eq. 2 and 3) at ``B = U √Σ, A = √Σ Vᵀ``. SeeKing's public code cuts the
    embedding transposed, so there Σ is on the side of the hidden size: ``B = U, A = Σ Vᵀ`` of the
    embedding as it is, tokens × hidden size. The product is the same.

    Args:
        u_MR: left singular vectors, one a column, in order of falling singular value.
        s_R: singular values.
        vh_RN: right singular vectors, one a row.
        rank: of the factors, in 1..R.
        alpha: above 0; PEFT scales ``B @ A`` by ``alpha / rank``, the factors undo that.
        split: a key of ``SPLITS``.

    Returns:
        ``a`` and ``b`` at the wanted rank, in the dtype of the inputs.

    Raises:
        RankError: if ``rank`` is outside 1..R.
        ConfigError: if ``alpha`` or ``split`` is not allowed.
    """
    stored = s_R.shape[0]
    if not 1 <= rank <= stored:
        raise RankError(
            f"Rank {rank} was asked for, but the stored factors allow 1..{stored} for a matrix of "
            f"{u_MR.shape[0]} × {vh_RN.shape[1]}. Lower the rank, or decompose at a higher maximum."
        )
    _check_alpha(alpha)
    if split not in SPLITS:
        raise ConfigError(f"split is {split!r}; allowed are {', '.join(SPLITS)}.")
    on_b_R, on_a_R = SPLITS[split](s_R[:rank] * (rank / alpha))
    return LoraFactors(a=vh_RN[:rank] * on_a_R[:, None], b=u_MR[:, :rank] * on_b_R)


def _check_alpha(alpha: float) -> None:
    if not 0 < alpha < float("inf"):
        raise ConfigError(f"alpha is {alpha}; it must be above 0 (alpha = rank gives scale 1).")


def write_start(
    folder: Path,
    *,
    factors: Mapping[str, tuple[Tensor, Tensor]],
    embeddings: Collection[str],
    rank: int,
    alpha: float,
    dropout: float = 0.0,
    tied_head: str | None = None,
    base_model: str | None = None,
    fan_in_fan_out: bool = False,
    added: Collection[str] = (),
) -> Adapter:
    """Write a start point of LoRA as a PEFT folder.

    Loaded on its own, the folder gives the student *plus* the start product; ``finetune`` subtracts
    the product again, so that its step 0 is the untouched student, but for the modules of which the
    product is an update.

    Args:
        folder: is made if need be.
        factors: dotted module name of the student → ``(a_RN, b_MR)`` in the layout of its weight,
            also for embeddings, as ``start_factors`` gives them.
        embeddings: the modules in ``factors`` that are embeddings.
        rank: R of every factor.
        alpha: PEFT's scale is ``alpha / rank``.
        dropout: written to the config; fine-tuning sets its own.
        tied_head: module name of the head if it is tied to the embedding; it then shares the
            embedding's factors and must not be in ``factors`` itself.
        base_model: Hub id of the student, if it has one; never a path.
        fan_in_fan_out: whether any of the modules is GPT-2's Conv1D; keeps PEFT from warning.
        added: the modules in ``factors`` whose product says what the student should become: an
            update, which training starts with and keeps.

    Returns:
        What was written.

    Raises:
        RankError: if a factor does not have the rank.
        ConfigError: if ``alpha`` is not allowed, or a tied head has no embedding to share.
    """
    _check_alpha(alpha)
    if tied_head is not None and (tied_head in factors or not embeddings):
        raise ConfigError(
            f"The tied head {tied_head!r} shares the embedding's factors: give factors for the "
            "embedding and none for the head, or no tied head."
        )
    adapter = Adapter(
        factors={module: LoraFactors(*pair) for module, pair in factors.items()},
        embeddings=frozenset(embeddings),
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        tied_head=tied_head,
        base_model=base_model,
        fan_in_fan_out=fan_in_fan_out,
        added=frozenset(added),
    )
    write_adapter(folder, adapter)
    return adapter


def plain_start(
    student_folder: Path,
    folder: Path,
    *,
    roles: Collection[Role],
    rank: int,
    alpha: float,
    seed: int,
    dropout: float = 0.0,
    base_model: str | None = None,
) -> Adapter:
    """Write plain LoRA's start point: PEFT's own initialisation, drawn by PEFT itself.

    Linear layers get a Kaiming-uniform A and B = 0, an embedding A = 0 and a normal B; every
    product is zero, so nothing has to be subtracted in training.

    Args:
        student_folder: the student; it is loaded, but the values of its weights do not matter.
        folder: is made if need be.
        roles: the matrices to adapt, in every layer. A tied head comes with the embedding.
        rank: of every factor, at least 1.
        alpha: PEFT's scale is ``alpha / rank``.
        seed: of the draw; the caller's random state is left as it was.
        dropout: written to the config; fine-tuning sets its own.
        base_model: Hub id of the student, if it has one; never a path.

    Returns:
        What was written.

    Raises:
        RankError: if the rank is below 1 or above the smallest dimension of a matrix.
        ConfigError: if ``alpha`` is not allowed, or no role is left.
    """
    from paraknow_core.lora.anchored_model import bare_adapter
    from paraknow_core.models.load import load_model

    _check_alpha(alpha)
    architecture = describe(student_folder)
    modules = target_modules(architecture, roles)
    _check_rank(architecture, roles, rank)
    tied = architecture.tied and Role.EMBED in roles
    with random_state_kept():
        torch.manual_seed(seed)
        adapter = bare_adapter(
            load_model(student_folder, dtype=torch.float32, device="cpu"),
            modules=modules,
            rank=rank,
            alpha=alpha,
            dropout=dropout,
            tied_head=architecture.module_of(Role.HEAD, None) if tied else None,
            base_model=base_model,
        )
    write_adapter(folder, adapter)
    return adapter


def target_modules(architecture: Architecture, roles: Collection[Role]) -> list[str]:
    """Name the student's modules of the given roles, a tied head left out.

    Args:
        architecture: the student's.
        roles: matrix roles; a tied head's is ignored, it goes with the embedding. A fused
            projection is named if any of its roles is.

    Returns:
        Dotted module names in the order of the checkpoint's tensors.

    Raises:
        ConfigError: if no module has one of the roles.
    """
    names = list(architecture.modules(roles))
    if not names:
        raise ConfigError(
            f"No module has a role among {sorted(map(str, roles))}; this model has "
            f"{', '.join(architecture.roles)}."
        )
    return names


def _check_rank(architecture: Architecture, roles: Collection[Role], rank: int) -> None:
    for matrix, *_ in architecture.modules(roles).values():
        if not 1 <= rank <= min(matrix.whole):
            raise RankError(
                f"Rank {rank} was asked for, but {matrix.name} of shape {matrix.whole} allows "
                f"1..{min(matrix.whole)}. Lower the rank, or leave the role {matrix.role} out."
            )
