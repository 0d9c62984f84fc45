"""Start points of LoRA from the student alone: what a transfer has to beat, besides plain LoRA.

Each is delivered as any start point is, as ``(a, b)`` for the *unmodified* student: fine-tuning
takes the start product off again, so step 0 is the vanilla student, whatever the method's own
recipe does to base weights.

Shapes: M = out_features, N = in_features, R = rank. An embedding is the linear map of one-hot rows,
so its matrix is hidden × vocabulary here; that is also how PEFT lays out its LoRA of embeddings.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from paraknow_core.data.examples import TokenisedExample
from paraknow_core.errors import ConfigError, RankError
from paraknow_core.initialisation.from_samples import eva_directions, mean_gradients, task_eigens
from paraknow_core.initialisation.peft_layer import of_start, stand_in
from paraknow_core.initialisation.start_request import (
    USUAL_OPTIONS,
    Factors,
    StartOptions,
    StartRequest,
)
from paraknow_core.lora.adapter import Adapter, LoraFactors
from paraknow_core.lora.anchored_model import bare_adapter
from paraknow_core.lora.start_point import target_modules, write_start
from paraknow_core.models.describe import Role, describe
from paraknow_core.models.load import load_model
from paraknow_core.progress import Progress, no_progress
from paraknow_core.registry import Registry
from paraknow_core.seeding import random_state_kept
from paraknow_core.svd.minor import minor_components


def _pissa(ask: StartRequest) -> Factors:
    """The principal components: ``B = U √Σ, A = √Σ Vᵀ`` of W (arXiv 2404.02948, eq. 2 and 3)."""
    return {name: ask.by_peft(stand_in(m), init_lora_weights="pissa") for name, m in ask.each()}


def _olora(ask: StartRequest) -> Factors:
    """The first columns of an orthogonal basis: W = QR, B = Q_r, A = R_r (arXiv 2406.01775, §3)."""
    return {name: ask.by_peft(stand_in(m), init_lora_weights="olora") for name, m in ask.each()}


def _milora(ask: StartRequest) -> Factors:
    """The minor components: PiSSA's split of the least singular values (arXiv 2406.09044, §3)."""
    found = {}
    for name, module in ask.each():
        u_MR, s_R, vh_RN = minor_components(stand_in(module).weight, rank=ask.rank)
        root_R = (s_R * (ask.rank / ask.alpha)).sqrt()
        found[name] = LoraFactors(a=root_R[:, None] * vh_RN, b=u_MR * root_R)
    return found


def _corda(ask: StartRequest) -> Factors:
    """Components of W weighted by the covariance C of its inputs: SVD of WC, times C⁻¹.

    CorDA (arXiv 2406.05223, §3); the samples are the task's seeds.
    """
    from peft.tuners.lora.config import CordaConfig

    mode: Any = ask.options.corda_mode
    eigens = task_eigens(ask.model, ask.modules, ask.samples, rank=ask.rank, mode=mode)
    config = CordaConfig(corda_method=mode)
    found = {}
    for name, module in ask.each():
        layer: Any = stand_in(module)
        layer.eigens = eigens[name]
        found[name] = ask.by_peft(layer, init_lora_weights="corda", corda_config=config)
    return found


def _lora_ga(ask: StartRequest) -> Factors:
    """Directions of the first gradient: A = its right vectors 1..R, B = its left ones R+1..2R.

    LoRA-GA (arXiv 2407.05000, §3) scales the orthonormal vectors on both sides by
    ``d_out^¼ / √γ``. PEFT 0.21 leaves the gradient's singular values on B and scales B alone, which
    makes the start product as small as the gradient is; so the directions are PEFT's, and the scale
    is the paper's. As in the paper it is not undone by ``alpha / rank``.
    """
    from peft import LoraGAConfig

    _check_two_ranks(ask)
    gradients = mean_gradients(ask.model, ask.modules, ask.samples)
    config = LoraGAConfig(direction="ArB2r", scale="unit")
    found = {}
    for name, module in ask.each():
        layer: Any = stand_in(module)
        layer._peft_loraga_grad = gradients[name]
        a_RN, b_MR = ask.by_peft(layer, init_lora_weights="lora_ga", lora_ga_config=config)
        scale = layer.out_features**0.25 / ask.options.lora_ga_gamma**0.5
        found[name] = LoraFactors(scale * a_RN, scale * nn.functional.normalize(b_MR, dim=0))
    return found


def _check_two_ranks(ask: StartRequest) -> None:
    for name in ask.modules:
        shape = tuple(ask.model.get_submodule(name).weight.shape)
        if 2 * ask.rank > min(shape):
            raise RankError(
                f"LoRA-GA takes 2 × rank directions of a gradient, and {name} of shape {shape} has "
                f"{min(shape)}: rank {ask.rank} is above {min(shape) // 2}. Lower the rank."
            )


def _eva(ask: StartRequest) -> Factors:
    """The directions in which a layer's inputs vary most, as A; B = 0 (arXiv 2410.07170, §3).

    Every module keeps the rank: EVA's redistribution (ρ > 1) would give the arms other sizes. An
    embedding has no inputs that vary, and PEFT's EVA leaves it out: it gets plain LoRA's start.
    """
    linear = [name for name in ask.modules if not _is_embedding(ask.model, name)]
    found = eva_directions(
        ask.model,
        linear,
        ask.samples,
        rank=ask.rank,
        answers_only=ask.options.eva_answers_only,
    )
    factors = {}
    for name in linear:
        rows = stand_in(ask.model.get_submodule(name)).out_features
        factors[name] = LoraFactors(found[name], torch.zeros(rows, ask.rank))
    return factors


METHODS_OF_STUDENT: Registry[Callable[[StartRequest], Factors]] = Registry(
    "start point",
    {
        "pissa": _pissa,
        "milora": _milora,
        "olora": _olora,
        "eva": _eva,
        "corda": _corda,
        "lora-ga": _lora_ga,
    },
)
"""Every start point without a teacher, by its name in ``methods.METHODS``."""


@dataclass(frozen=True)
class StudentStart:
    """A start point, and the modules that the method has no rule for.

    Attributes:
        adapter: as it is in the folder.
        plain: modules that got plain LoRA's start, because the method does not cover them.
    """

    adapter: Adapter
    plain: tuple[str, ...]


def student_start(
    student_folder: Path,
    folder: Path,
    *,
    method: str,
    roles: Collection[Role],
    rank: int,
    alpha: float,
    seed: int,
    samples: Sequence[TokenisedExample] = (),
    options: StartOptions = USUAL_OPTIONS,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> StudentStart:
    """Write a start point that needs no teacher, as the same kind of folder as any other.

    Args:
        student_folder: the student; is only read.
        folder: is made if need be.
        method: a key of ``METHODS_OF_STUDENT``.
        roles: the matrices to adapt, in every layer. A tied head comes with the embedding.
        rank: of every factor.
        alpha: above 0; PEFT's scale is ``alpha / rank``. PiSSA, MiLoRA and CorDA undo it, so that
            the product does not depend on it; OLoRA and LoRA-GA do not, as their authors do not.
        seed: of whatever the method draws; the caller's random state is left as it was.
        samples: tokenised seed samples; for eva, corda and lora-ga.
        options: the methods' own settings.
        device: where the samples are run.
        progress: called before each module.

    Returns:
        What was written.

    Raises:
        ConfigError: for an unknown method, a setting out of range, or no samples where needed.
        RankError: if the rank is not in 1..min(M, N) of every matrix (LoRA-GA: half of that).
        DataError, NumericsError: if EVA has too few tokens, or its directions do not settle.
    """
    make = METHODS_OF_STUDENT.choose(method)
    _check(alpha, options)
    architecture = describe(student_folder)
    modules = target_modules(architecture, roles)
    tied = architecture.tied and Role.EMBED in roles
    model = load_model(student_folder, dtype=torch.float32, device=device)
    _check_rank(model, modules, rank)
    with random_state_kept():
        torch.manual_seed(seed)
        ask = StartRequest(model, tuple(modules), samples, rank, alpha, options, progress)
        factors = {n: of_start(pair, model.get_submodule(n)) for n, pair in make(ask).items()}
        plain = tuple(name for name in modules if name not in factors)
        head = architecture.module_of(Role.HEAD) if tied else None
        factors |= _plain(model, plain, rank=rank, alpha=alpha, tied_head=head)
    adapter = write_start(
        folder,
        factors=factors,
        embeddings=[name for name in modules if name == architecture.module_of(Role.EMBED)],
        rank=rank,
        alpha=alpha,
        tied_head=head,
        fan_in_fan_out=architecture.is_transposed(modules),
    )
    return StudentStart(adapter, plain)


def _is_embedding(model: Any, name: str) -> bool:
    return isinstance(model.get_submodule(name), nn.Embedding)


def _plain(
    model: Any, modules: Sequence[str], *, rank: int, alpha: float, tied_head: str | None
) -> Factors:
    """Plain LoRA's start for what the method leaves out; wraps the model, so it comes last."""
    if not modules:
        return {}
    drawn = bare_adapter(
        model,
        modules=modules,
        rank=rank,
        alpha=alpha,
        dropout=0.0,
        tied_head=tied_head,
        base_model=None,
    )
    return dict(drawn.factors)


def _check(alpha: float, options: StartOptions) -> None:
    if not 0 < alpha < float("inf"):
        raise ConfigError(f"alpha is {alpha}; it must be above 0 (alpha = rank gives scale 1).")
    if options.corda_mode not in ("ipm", "kpm"):
        raise ConfigError(f"corda_mode is {options.corda_mode!r}; allowed are ipm and kpm.")
    if not 0 < options.lora_ga_gamma < float("inf"):
        raise ConfigError(f"lora_ga_gamma is {options.lora_ga_gamma}; it must be above 0.")


def _check_rank(model: Any, modules: Sequence[str], rank: int) -> None:
    for name in modules:
        shape = tuple(model.get_submodule(name).weight.shape)
        if not 1 <= rank <= min(shape):
            raise RankError(
                f"Rank {rank} was asked for, but {name} of shape {shape} allows 1..{min(shape)}. "
                "Lower the rank, or leave its role out."
            )
