"""Whether a teacher's sensitivity is computed layer by layer: when it does not fit otherwise."""

from typing import Literal

Streaming = Literal["auto", "always", "never"]

_FILLED = 0.9
"""Share of what is free that a step may be estimated to need: estimates are not exact."""


def streams(streaming: Streaming, *, need: int, available: int) -> bool:
    """Decide whether to stream. The numbers are the same either way, but for rounding.

    Args:
        streaming: what the settings say; ``auto``: if it does not fit.
        need: bytes that the computation with everything in memory is estimated to need.
        available: bytes that it may use.
    """
    return streaming == "always" or (streaming == "auto" and need > _FILLED * available)


def boundary_room(*, need: int, available: int) -> int:
    """Bytes of memory for what passes between layers: half of what a streamed run leaves.

    Args:
        need: bytes that the streamed computation needs without it.
        available: bytes that it may use.
    """
    return max(0, available - need) // 2
