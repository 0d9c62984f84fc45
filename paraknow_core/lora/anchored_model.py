"""The student as it is trained: ``W − s·B₀A₀ + s·BA``.

In float32 the start product is subtracted from W once, so that a step costs what one of plain LoRA
costs; step 0 is the untouched student up to the rounding of a float32 sum. In bfloat16 that would
round each entry by up to 0.4 %. There W stays, and the product is subtracted by a second, frozen
adapter ``(A₀, −B₀)``, the *anchor*, which PEFT adds to the output as it adds the trained one. So
it is where the student's matrices are held in 4 bits: they cannot hold W − s·B₀A₀ at all.

Where the start product is an update (``Adapter.added``), nothing is subtracted: there training
starts at ``W + s·B₀A₀``.

A tied head is not given to PEFT: PEFT's own tying (0.21) makes two parameters that share one
storage. An optimiser updates them twice, and a change of device or dtype separates them. Instead a
hook adds the product of the embedding's parameters to the head's output, so that both uses share
one gradient. A tied head that has an adapter of its own (``tied_head`` is None) is an ordinary
linear layer to PEFT: weight and embedding stay tied, only the adapter tells them apart.
"""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, cast

import torch
from torch import Tensor, nn

from paraknow_core.errors import ShapeError
from paraknow_core.lora.adapter import Adapter, LoraFactors
from paraknow_core.models.four_bit import is_quantised
from paraknow_core.models.modules import is_conv1d, logical, matrix_shape

TRAINED = "default"
ANCHOR = "anchor"
_PREFIX = "base_model.model."
_EXACT = (torch.float32, torch.float64)
"""Dtypes in which a weight can hold W − s·B₀A₀ as precisely as the model computes with it."""


def trainable_model(student: Any, start: Adapter, *, dropout: float) -> Any:
    """Wrap a student for fine-tuning from a start point.

    Its step 0 is the untouched student, with the start point's updates where it has any.

    Args:
        student: a Transformers causal language model on any device, in any float dtype. It is
            wrapped in place; its weights are frozen, and in float32 (or float64) the start product
            is subtracted from them, unless they are quantised.
        start: the start point. If nothing of it is to be subtracted, as its products are zero
            (plain LoRA) or updates (``start.added``), the weights keep their values, and there is
            no anchor.
        dropout: on the inputs of the trained adapter, 0..1; the anchor has none, as it stands for
            a part of W. PEFT applies none to an embedding.

    Returns:
        A ``PeftModel`` whose only trainable parameters are the adapter's, in float32.

    Raises:
        ShapeError: if the start point does not fit the student.
    """
    from peft import get_peft_model

    _check_fit(student, start)
    subtracted = start.subtracted()
    negated = {m: LoraFactors(a, -b) for m, (a, b) in subtracted.factors.items()}
    exact = student.dtype in _EXACT and not is_quantised(student)
    anchored = not (subtracted.is_zero or exact)
    if not (subtracted.is_zero or anchored):
        merge_into(student, replace(subtracted, factors=negated))
    with quiet_peft():
        model = get_peft_model(student, _lora_config(start, dropout), adapter_name=TRAINED)
        _set_factors(model, TRAINED, start.factors, start.embeddings)
        if anchored:
            model.add_adapter(ANCHOR, _lora_config(start, 0.0))
            _set_factors(model, ANCHOR, negated, start.embeddings)
            model.base_model.set_adapter([TRAINED, ANCHOR])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(f".{TRAINED}" in name)
    if start.tied_head is not None:
        _share_with_head(model, start)
    return model


def read_trained(model: Any, start: Adapter) -> Adapter:
    """Copy the trained adapter out of ``trainable_model``'s result.

    Args:
        model: as ``trainable_model`` made it.
        start: the start point that it was made with.

    Returns:
        The adapter on the CPU in float32, with the start point's rank, alpha and modules.
    """
    return Adapter(
        factors=_get_factors(model, TRAINED, sorted(start.factors)),
        embeddings=start.embeddings,
        rank=start.rank,
        alpha=start.alpha,
        tied_head=start.tied_head,
        base_model=start.base_model,
        fan_in_fan_out=start.fan_in_fan_out,
    )


def recompute_activations(student: Any) -> None:
    """Make a student recompute its activations in the backward pass instead of keeping them.

    Args:
        student: a Transformers model, not wrapped yet. Gradients stay the same, dropout included.
    """
    # Transformers 5.23 deprecates the second name; 5.17 knows only that.
    new, old = "activation_checkpointing_enable", "gradient_checkpointing_enable"
    getattr(student, new if hasattr(student, new) else old)({"use_reentrant": False})


def merge_into(student: Any, adapter: Adapter) -> None:
    """Add an adapter to a student's weights in place, a tied weight's change once.

    ``PeftModel.merge_and_unload`` (PEFT 0.21) adds a tied adapter twice to the one weight that
    embedding and head share; this does not. Where the adapter changes only one of the two, or each
    in another way, one weight cannot hold both: the head gets a weight of its own, and the
    student's config says so (``tie_word_embeddings``).

    Args:
        student: a Transformers causal language model.
        adapter: for this student; the changes are rounded to the student's dtype.

    Raises:
        ShapeError: if the adapter does not fit the student.
    """
    _check_fit(student, adapter)
    if adapter.tied_head is None:
        _untie(student, adapter)
    with torch.no_grad():
        for module in adapter.factors:
            layer = student.get_submodule(module)
            weight_MN = logical(layer.weight, layer)
            weight_MN.copy_(weight_MN.float() + adapter.delta(module).to(weight_MN.device))


def _untie(student: Any, adapter: Adapter) -> None:
    """Give a tied head a weight of its own, if the adapter changes the head or the embedding."""
    embedding, head = student.get_input_embeddings(), student.get_output_embeddings()
    changed = [student.get_submodule(module) for module in adapter.factors]
    if head.weight is embedding.weight and any(layer in (embedding, head) for layer in changed):
        head.weight = nn.Parameter(head.weight.detach().clone(), head.weight.requires_grad)
        student.config.tie_word_embeddings = False


def bare_adapter(
    student: Any,
    *,
    modules: Sequence[str],
    rank: int,
    alpha: float,
    dropout: float,
    tied_head: str | None,
    base_model: str | None,
) -> Adapter:
    """Let PEFT initialise an adapter of its own, from the current random state of torch.

    Args:
        student: a Transformers causal language model; is wrapped in place.
        modules: dotted names of the modules to adapt, the tied head not among them.
        rank: of every factor.
        alpha: PEFT's scale is ``alpha / rank``.
        dropout: kept in the result, 0..1.
        tied_head: module name of a head that shares the embedding's factors.
        base_model: kept in the result.

    Returns:
        The adapter on the CPU in float32.
    """
    from peft import LoraConfig, get_peft_model

    heads = [] if tied_head is None else [tied_head]
    conv1d = any(is_conv1d(student.get_submodule(module)) for module in modules)
    config = LoraConfig(
        r=rank,
        lora_alpha=cast(int, alpha),
        target_modules=[*modules, *heads],
        ensure_weight_tying=bool(heads),  # the embedding then gets the head's Kaiming draw
    )
    with quiet_peft():
        model = get_peft_model(student, config, adapter_name=TRAINED)
    layers = {m: model.get_submodule(_PREFIX + m) for m in modules}
    return Adapter(
        factors=_get_factors(model, TRAINED, modules),
        embeddings=frozenset(m for m, x in layers.items() if _is_embedding(x)),
        rank=rank,
        alpha=alpha,
        dropout=dropout,
        tied_head=tied_head,
        base_model=base_model,
        fan_in_fan_out=conv1d,
    )


@contextmanager
def quiet_peft() -> Iterator[None]:
    """Silence warnings by PEFT and Transformers about cases that are handled here."""
    with warnings.catch_warnings():
        # Tied heads are handled here, see the head of this file.
        warnings.filterwarnings("ignore", message="Model has `tie_word_embeddings=True`")
        # One setting for all modules; PEFT corrects it for each kind of layer by itself.
        warnings.filterwarnings("ignore", message="fan_in_fan_out is set to")
        # PEFT 0.21 reads an attribute that Transformers 5.23 renamed.
        warnings.filterwarnings("ignore", message="`is_gradient_checkpointing` is deprecated")
        yield


def _lora_config(start: Adapter, dropout: float) -> Any:
    from peft import LoraConfig

    return LoraConfig(
        r=start.rank,
        lora_alpha=cast(int, start.alpha),  # only ever divided by r
        lora_dropout=dropout,
        target_modules=sorted(start.factors),
        init_lora_weights=False,  # every value is set right after
        task_type="CAUSAL_LM",
    )


def _check_fit(student: Any, start: Adapter) -> None:
    modules = dict(student.named_modules())
    for name, (a_RN, b_MR) in start.factors.items():
        layer = modules.get(name)
        shape = None if layer is None else matrix_shape(layer)
        wanted = (b_MR.shape[0], a_RN.shape[1])
        if shape != wanted:
            found = "is missing" if shape is None else f"has shape {shape}"
            raise ShapeError(
                f"The start point changes {name} with a matrix of shape {wanted}, but in the "
                f"student it {found}. Build the start point for this student."
            )


def _is_embedding(layer: Any) -> bool:
    return isinstance(layer.base_layer, nn.Embedding)


def _set_factors(model: Any, adapter: str, factors: Any, embeddings: frozenset[str]) -> None:
    with torch.no_grad():
        for module, (a_RN, b_MR) in factors.items():
            layer = model.get_submodule(_PREFIX + module)
            if module in embeddings:
                layer.lora_embedding_A[adapter].copy_(b_MR.T)
                layer.lora_embedding_B[adapter].copy_(a_RN.T)
            else:
                layer.lora_A[adapter].weight.copy_(a_RN)
                layer.lora_B[adapter].weight.copy_(b_MR)


def _get_factors(model: Any, adapter: str, modules: Sequence[str]) -> dict[str, LoraFactors]:
    factors = {}
    for module in modules:
        layer = model.get_submodule(_PREFIX + module)
        if _is_embedding(layer):
            pair = layer.lora_embedding_B[adapter].T, layer.lora_embedding_A[adapter].T
        else:
            pair = layer.lora_A[adapter].weight, layer.lora_B[adapter].weight
        a_RN, b_MR = (p.detach().to("cpu", torch.float32, copy=True).contiguous() for p in pair)
        factors[module] = LoraFactors(a_RN, b_MR)
    return factors


def _share_with_head(model: Any, start: Adapter) -> None:
    """Add the embedding's adapters to the head's output, as PEFT does for a linear layer."""
    (embedding,) = start.embeddings
    layer = model.get_submodule(_PREFIX + embedding)

    def add_adapters(_head: nn.Module, args: tuple[Tensor, ...], output: Tensor) -> Tensor:
        if layer.disable_adapters:
            return output
        total = output
        for name in layer.active_adapters:
            a_RN, b_MR = layer.lora_embedding_B[name].T, layer.lora_embedding_A[name].T
            hidden = layer.lora_dropout[name](args[0].to(a_RN.dtype))
            total = total + (hidden @ a_RN.T @ b_MR.T) * layer.scaling[name]
        return total.to(output.dtype)

    model.get_submodule(f"{_PREFIX}{start.tied_head}").register_forward_hook(add_adapters)
