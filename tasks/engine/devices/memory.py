"""What is said of a GPU whose memory is not enough."""

from collections.abc import Iterator
from contextlib import contextmanager

from artifacts.disk.sizes import size_text
from paraknow_core.errors import ParaknowError


class DeviceMemoryError(ParaknowError):
    """A GPU has too little memory left for a step; what was finished before is kept."""


@contextmanager
def memory_told(what: str, *, need: int) -> Iterator[None]:
    """Turn a GPU's lack of memory into an error that says what to do.

    A step whose numbers belong to a device does not go over to another one by itself: whether there
    was room would then be in the result, and in no key.

    Args:
        what: is computed, such as ``decomposing model.layers.0.mlp.up_proj``.
        need: bytes that it is estimated to take.

    Raises:
        DeviceMemoryError: if the body lacks memory of the GPU.
    """
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        free = torch.cuda.mem_get_info()[0] if torch.cuda.is_available() else 0
        raise DeviceMemoryError(
            f"The GPU's memory is not enough for {what}, which takes about {size_text(need)}; "
            f"{size_text(free)} are free. What was finished is kept: end what else computes on the "
            "GPU (`nvidia-smi` lists it) and run this again, or choose another GPU by "
            "CUDA_VISIBLE_DEVICES, or set run.device: cpu."
        ) from error
