"""Long samples: what a layer keeps for its backward pass is computed again instead of kept.

Numbers do not change: a layer computes the same twice. It costs a second forward pass of each
layer, and memory then holds one layer's activations, and of the others what goes into them.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any

from paraknow_core.models.modules import decoder_layers


@contextmanager
def recomputed(model: Any, *, wanted: bool = True) -> Iterator[None]:
    """Let the decoder layers of a model keep only their input, in passes inside this context.

    Args:
        model: a causal language model of Transformers whose dropout is off.
        wanted: whether to; nothing is changed otherwise.
    """
    layers = decoder_layers(model) if wanted else []
    for layer in layers:
        layer.forward = partial(_again, layer.forward)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own is there again


def _again(forward: Callable[..., Any], hidden: Any, *rest: Any, **named: Any) -> Any:
    from torch.utils.checkpoint import checkpoint

    # Reentrant: the first pass then runs without a graph, so hooks that see one are called once.
    untyped: Any = checkpoint
    options = {"use_reentrant": True, "preserve_rng_state": False}
    return untyped(partial(forward, **named), hidden, *rest, **options)
