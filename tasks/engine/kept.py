"""What a computation leaves in its process for the next one of the same step: a model, loaded.

So a batch of adapters is measured on one loaded model, although each adapter is a step of its own
with a key of its own. A computation of any other step lets it go first: its memory is needed.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")

_KEPT: dict[Any, tuple[Any, Any]] = {}
"""A step's function → what its value was made of, and the value. One at most."""


@contextmanager
def kept(owner: Any, made_of: Any, make: Callable[[], T]) -> Iterator[T]:
    """Use what the last computation of this step left here, if it is the same, or make it.

    Nobody else gets it meanwhile. It is left here again only if the ``with`` block ends well: the
    block has to undo what it changed.

    Args:
        owner: the function that the step computes with.
        made_of: decides what the value is.
        make: makes it.
    """
    known = _KEPT.pop(owner, None)
    value = known[1] if known is not None and known[0] == made_of else None
    del known  # before another one is made: it may be large
    if value is None:
        value = make()
    yield value
    _KEPT[owner] = made_of, value


def let_go(*, but: Any = None) -> None:
    """Forget what other steps than ``but`` left."""
    for owner in list(_KEPT):
        if owner is not but:
            _KEPT.pop(owner, None)
