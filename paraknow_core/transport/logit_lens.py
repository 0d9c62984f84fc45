"""Which neurons raise the probability of an answer: the logit lens, as LaTen uses it.

A neuron adds its coefficient times its value to the residual stream: of the feed-forward block an
input of ``down`` times a column of it, of attention an input of ``o`` times a column of that
(LaTen, arXiv 2505.14436, §4). Its score is how much the log-probability of the answer's last token
rises by that, read off the stream by the model's own final norm and head. Summed over samples.

Shapes: D = width, J = neurons of a layer, V = vocabulary.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.errors import ArchitectureError
from paraknow_core.models.architecture import Architecture
from paraknow_core.models.chunked_logits import final_states
from paraknow_core.models.families import Role
from paraknow_core.models.logit_chunks import places_at_once
from paraknow_core.transport.places import weight_of


def located(
    model: Any, architecture: Architecture, samples: Sequence[TokenisedExample], layers: Any
) -> dict[tuple[int | None, Role], Tensor]:
    """Score the neurons of some layers.

    Args:
        model: of Transformers, in evaluation mode.
        architecture: its own.
        samples: at least one; the last token of each answer is looked at, before the end token.
        layers: numbers of layers.

    Returns:
        (layer, role) → scores, float32 on the CPU: of ``down`` and ``up`` one for each feed-forward
        neuron, of ``o`` for each of its inputs, of ``v`` for each of its outputs: the sum over the
        query heads that share it.

    Raises:
        ArchitectureError: if the model has no final norm.
    """
    found: dict[tuple[int | None, Role], Tensor] = {}
    for sample in samples:
        position, token = _last_answer(sample)
        seen = _run(model, architecture, sample, position, layers)
        for layer in layers:
            for role in (Role.DOWN, Role.O):
                matrix = architecture.matrix(role, layer)
                stream_D = seen[f"{layer} before {role}"]
                coefficients_J = seen[matrix.module]
                values_DJ = weight_of(model, matrix).to(stream_D)
                gains_J = _gains(model, stream_D, coefficients_J, values_DJ, token).float().cpu()
                key = layer, role
                found[key] = found[key] + gains_J if key in found else gains_J
    for layer in layers:
        found[layer, Role.UP] = found[layer, Role.DOWN]
        found[layer, Role.V] = _by_value(found[layer, Role.O], architecture)
    return found


def _last_answer(sample: TokenisedExample) -> tuple[int, int]:
    """Where the answer's last token is predicted, and which it is; the end token does not count."""
    answers = [place for place, label in enumerate(sample.labels) if label != NO_LOSS]
    place = answers[-2] if len(answers) > 1 else answers[-1]
    return place - 1, sample.labels[place]


def _run(
    model: Any, architecture: Architecture, sample: TokenisedExample, position: int, layers: Any
) -> dict[str, Tensor]:
    """Coefficients, and the residual stream before attention's and the feed-forward's part."""
    seen: dict[str, Tensor] = {}
    handles = []

    def first(value: Any) -> Tensor:
        values: Tensor = value[0] if isinstance(value, tuple) else value
        return values.detach()[0, position]

    def block(layer: int) -> Any:
        def look(_module: Any, inputs: Any, output: Any) -> None:
            down = architecture.matrix(Role.DOWN, layer).module
            seen[f"{layer} before {Role.O}"] = first(inputs)
            seen[f"{layer} before {Role.DOWN}"] = first(output) - seen[f"{down} out"]

        return look

    def projection(module: str) -> Any:
        def look(_module: Any, inputs: Any, output: Any) -> None:
            seen[module], seen[f"{module} out"] = first(inputs), first(output)

        return look

    for layer in layers:
        for role in (Role.DOWN, Role.O):
            module = architecture.matrix(role, layer).module
            hook = projection(module)
            handles.append(model.get_submodule(module).register_forward_hook(hook))
        name = _block_of(architecture.matrix(Role.DOWN, layer).module, layer)
        handles.append(model.get_submodule(name).register_forward_hook(block(layer)))
    ids = torch.tensor([sample.input_ids[: position + 1]], device=model.device)
    try:
        with torch.no_grad():
            final_states(model, input_ids=ids)  # up to the head: nobody asks for the row's logits
    finally:
        for handle in handles:
            handle.remove()
    return seen


def _block_of(module: str, layer: int) -> str:
    """The name of the decoder layer that a module stands in."""
    parts = module.split(".")
    return ".".join(parts[: parts.index(str(layer)) + 1])


def _gains(
    model: Any, stream_D: Tensor, coefficients_J: Tensor, values_DJ: Tensor, token: int
) -> Tensor:
    """How much each neuron raises the token's log-probability on its own."""
    rows = places_at_once(model.config.vocab_size)
    with torch.no_grad():
        before = _log_probability(model, stream_D[None], token)
        after = [
            _log_probability(model, stream_D + (values_DJ[:, part] * coefficients_J[part]).T, token)
            for part in torch.split(torch.arange(len(coefficients_J)), rows)
        ]
    return torch.cat(after) - before


def _log_probability(model: Any, streams_KD: Tensor, token: int) -> Tensor:
    logits_KV: Tensor = model.get_output_embeddings()(_final_norm(model)(streams_KD))
    return logits_KV.log_softmax(-1)[:, token]


def _final_norm(model: Any) -> Any:
    norms = [m for name, m in model.base_model.named_children() if "norm" in name or name == "ln_f"]
    if len(norms) != 1:
        raise ArchitectureError(
            f"{type(model).__name__} has {len(norms)} norms at its end, where one is expected: "
            "LaTen cannot read its residual stream. Take another method."
        )
    return norms[0]


def _by_value(scores_J: Tensor, model: Architecture) -> Tensor:
    """From the inputs of ``o``, one for each query head, to the outputs of ``v``."""
    shared = scores_J.reshape(model.num_kv_heads, -1, model.head_dim)
    return shared.sum(1).flatten()
