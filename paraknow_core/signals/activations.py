"""What goes into a model's modules and comes out of them while it reads a text.

Shapes: T = positions, D = width of a place.
"""

from collections.abc import Hashable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Literal, TypeVar

from torch import Tensor

K = TypeVar("K", bound=Hashable)


@dataclass(frozen=True)
class ActivationPlace:
    """One place of a model at which activations are looked at.

    Attributes:
        module: dotted name in the Transformers model.
        side: whether what goes in is looked at, or what comes out.
        rows: which of a fused projection's outputs, in order; None for all.
    """

    module: str
    side: Literal["in", "out"]
    rows: tuple[int, ...] | None = None


def kept_activations(
    model: Any, places: Mapping[K, ActivationPlace], stack: ExitStack
) -> dict[K, Tensor]:
    """Keep what goes through some places of a model, for as long as the stack is open.

    Returns:
        The place's key → its activations at the last run, T×D without a gradient; filled by running
        the model on one text.
    """
    kept: dict[K, Tensor] = {}

    def keeper(key: K, place: ActivationPlace) -> Any:
        def hook(_module: Any, inputs: tuple[Tensor, ...], output: Any) -> None:
            values = inputs[0] if place.side == "in" else output
            flat = values.detach().flatten(0, -2)
            kept[key] = flat if place.rows is None else flat[:, list(place.rows)]

        return hook

    for key, place in places.items():
        hook = keeper(key, place)
        stack.callback(model.get_submodule(place.module).register_forward_hook(hook).remove)
    return kept


def kept_inputs(model: Any, modules: Sequence[str], stack: ExitStack) -> dict[str, Tensor]:
    """Keep what each layer gets, T×N by its name, as ``kept_activations``."""
    places = {name: ActivationPlace(name, "in") for name in modules}
    return kept_activations(model, places, stack)
