"""What the seed samples show of a student's layers: covariances, gradients, directions.

The passes are PEFT's own where it has them. Shapes: M = out_features, N = in_features, R = rank,
V = vocabulary, H = hidden.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Literal

import torch
from torch import Tensor, nn

from paraknow_core.data.batches import collate
from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.errors import ConfigError, DataError, NumericsError
from paraknow_core.sensitivity.accumulate import answer_loss

_DAMPING = 0.01  # as in PEFT's preprocess_corda, relative to the mean of the diagonal
_PASSES = 100  # PEFT repeats until the directions settle, without a limit


def task_eigens(
    model: Any,
    modules: Sequence[str],
    samples: Sequence[TokenisedExample],
    *,
    rank: int,
    mode: Literal["ipm", "kpm"],
) -> dict[str, Any]:
    """Decompose each matrix as seen by the samples: CorDA (arXiv 2406.05223, §3).

    Args:
        model: the student, float32.
        modules: the modules to look at.
        samples: at least one; each counts the same.
        rank: R.
        mode: ``ipm`` or ``kpm``.

    Returns:
        Module → PEFT's ``CordaEigens``: U (M×R), S (R), V (N×R).
    """
    from peft import LoraConfig
    from peft.tuners.lora.config import CordaConfig
    from peft.tuners.lora.corda import preprocess_corda

    _need(samples, "corda")
    embeddings, others = _parted(model, modules)
    if others:
        config = LoraConfig(
            r=rank,
            target_modules=list(others),
            init_lora_weights="corda",
            corda_config=CordaConfig(corda_method=mode),
        )
        with torch.no_grad():
            preprocess_corda(model, config, run_model=lambda: _run_each(model, samples))
    found = {name: model.get_submodule(name).eigens for name in others}
    for name in others:
        del model.get_submodule(name).eigens
    for name in embeddings:
        weight_VH = model.get_submodule(name).weight
        found[name] = _embedding_eigens(weight_VH.detach(), samples, rank=rank, mode=mode)
    return found


def _embedding_eigens(
    weight_VH: Tensor, samples: Sequence[TokenisedExample], *, rank: int, mode: str
) -> Any:
    """CorDA's formula where inputs are one-hot: their covariance is diagonal, the token counts."""
    from peft.tuners.lora.corda import CordaEigens

    ids = torch.tensor([i for sample in samples for i in sample.input_ids])
    counts_V = torch.bincount(ids, minlength=weight_VH.shape[0]).to(weight_VH) / len(samples)
    seen_V = counts_V + _DAMPING * counts_V.mean()
    u, s, vh = torch.linalg.svd(weight_VH.T * seen_V, full_matrices=False)
    part = slice(0, rank) if mode == "ipm" else slice(len(s) - rank, len(s))
    v_VR = (vh[part] / seen_V).T.contiguous()
    return CordaEigens(S_WC=s[part].clone(), U_WC=u[:, part].contiguous(), V_WC=v_VR)


def mean_gradients(
    model: Any, modules: Sequence[str], samples: Sequence[TokenisedExample]
) -> dict[str, Tensor]:
    """The mean gradient of the samples' answer loss, M×N, for LoRA-GA (arXiv 2407.05000, §3).

    Args:
        model: the student, float32.
        modules: the modules to look at. An embedding's gradient is H×V here; that of a tied one is
            the sum over both uses.
        samples: at least one; each counts the same, as do its answer tokens.
    """
    from peft import LoraConfig, LoraGAConfig
    from peft.tuners.lora import preprocess_loraga

    _need(samples, "lora-ga")
    embeddings, others = _parted(model, modules)

    def backward() -> None:
        model.eval()  # PEFT has just switched dropout on
        for name in embeddings:
            model.get_submodule(name).weight.requires_grad_(True)
        for sample in samples:
            answer_loss(model, sample).backward()  # type: ignore[no-untyped-call]

    if others:
        init: Any = "lora_ga"  # known to PEFT, but not to its types
        config = LoraConfig(
            target_modules=list(others), init_lora_weights=init, lora_ga_config=LoraGAConfig()
        )
        with _quiet_hooks():
            preprocess_loraga(model, config, backward)
    else:
        model.requires_grad_(False)
        backward()
    found = {}
    for name in others:
        layer = model.get_submodule(name)
        found[name] = _as_linear(layer, layer._peft_loraga_grad)
        del layer._peft_loraga_grad
    for name in embeddings:
        weight = model.get_submodule(name).weight
        found[name] = weight.grad.T / len(samples)
        weight.grad = None
    return found


def _as_linear(layer: nn.Module, grad: Tensor) -> Tensor:
    return grad if isinstance(layer, nn.Linear) else grad.T


@contextmanager
def _quiet_hooks() -> Iterator[None]:
    with warnings.catch_warnings():
        # PEFT registers hooks that count, on layers whose inputs need no gradient.
        warnings.filterwarnings("ignore", message="Full backward hook is firing")
        yield


def eva_directions(
    model: Any,
    modules: Sequence[str],
    samples: Sequence[TokenisedExample],
    *,
    rank: int,
    answers_only: bool,
) -> dict[str, Tensor]:
    """The R directions of greatest variance of each layer's inputs: EVA (arXiv 2410.07170, §3).

    PEFT updates the principal components batch by batch, and repeats the samples until the
    components settle (cosine of .99 between two updates). Ranks are not redistributed.

    Args:
        model: the student, float32.
        modules: linear layers.
        samples: at least one, with at least R tokens in all that are looked at.
        rank: R.
        answers_only: whether only answer tokens are looked at.

    Returns:
        Module → orthonormal rows, R×N.

    Raises:
        DataError: if there are fewer than R tokens.
        NumericsError: if the directions do not settle within 100 passes.
    """
    from peft import EvaConfig, LoraConfig, get_eva_state_dict

    _need(samples, "eva")
    if not modules:
        return {}
    batches = _batches(samples, rank=rank, answers_only=answers_only)
    config = LoraConfig(
        r=rank,
        target_modules=list(modules),
        init_lora_weights="eva",
        eva_config=EvaConfig(rho=1.0, use_label_mask=answers_only),
    )
    runs = 0

    def forward(model: Any, inputs: Mapping[str, Tensor]) -> None:
        nonlocal runs
        runs += 1
        if runs > _PASSES * len(batches):
            raise NumericsError(
                f"EVA's {rank} directions have not settled after {_PASSES} passes over "
                f"{len(samples)} samples: their inputs hardly vary in so many directions. Give "
                "more seed samples, lower the rank, or count all tokens (eva_answers_only: false)."
            )
        model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"])

    with torch.no_grad():
        found: dict[str, Tensor] = get_eva_state_dict(
            model, batches, config, forward_fn=forward, show_progress_bar=False
        )
    return found


def _batches(
    samples: Sequence[TokenisedExample], *, rank: int, answers_only: bool
) -> list[dict[str, Tensor]]:
    """Batches with at least 2R tokens that are looked at; PEFT skips any with fewer than R."""
    groups: list[list[TokenisedExample]] = [[]]
    for sample in samples:
        if sum(_counted(s, answers_only) for s in groups[-1]) >= 2 * rank:
            groups.append([])
        groups[-1].append(sample)
    if len(groups) > 1 and sum(_counted(s, answers_only) for s in groups[-1]) < 2 * rank:
        last = groups.pop()
        groups[-1] += last
    tokens = sum(_counted(sample, answers_only) for sample in samples)
    if tokens < rank:
        raise DataError(
            f"EVA finds {rank} directions from at least as many tokens; the {len(samples)} seed "
            f"samples have {tokens}. Give more seed samples, lower the rank, or count all tokens "
            "(eva_answers_only: false)."
        )
    return [collate(group) for group in groups]


def _counted(sample: TokenisedExample, answers_only: bool) -> int:
    if not answers_only:
        return len(sample.input_ids)
    return sum(label != NO_LOSS for label in sample.labels[1:])


def _need(samples: Sequence[TokenisedExample], method: str) -> None:
    if not samples:
        raise ConfigError(f"The start point {method!r} looks at seed samples; none are given.")


def _parted(model: Any, modules: Sequence[str]) -> tuple[list[str], list[str]]:
    """Separate the embeddings from all other modules."""
    embeddings = [n for n in modules if isinstance(model.get_submodule(n), nn.Embedding)]
    return embeddings, [name for name in modules if name not in embeddings]


def _run_each(model: Any, samples: Sequence[TokenisedExample]) -> None:
    for sample in samples:
        model(input_ids=torch.tensor([sample.input_ids], device=model.device))
