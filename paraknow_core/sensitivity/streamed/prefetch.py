"""Weights on their way from the files to the device, those that come next while others are in use.

A thread of its own reads. On a GPU it reads pieces of the file into two buffers that the GPU copies
from by itself, in a stream of its own: while one buffer is copied, the other is filled, and both
beside the computation. On a CPU the same is done with one buffer, and a copy is done at once.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from typing import Any, Protocol, Self

import torch
from torch import Tensor

from paraknow_core.checkpoint.reader import PIECE, Checkpoint


class Prefetch:
    """Reads parameters onto a device, if asked to before they are needed.

    A context manager, which ends its thread.
    """

    def __init__(
        self,
        weights: Checkpoint,
        tensors: Mapping[str, str],
        *,
        dtype: torch.dtype,
        device: str | torch.device,
    ) -> None:
        """Begin with nothing on its way.

        Args:
            weights: that are read.
            tensors: parameter → the name of its tensor there.
            dtype: that its elements are turned into.
            device: where they are put.
        """
        self._weights, self._tensors, self._dtype = weights, tensors, dtype
        largest = max(weights.nbytes(name) for name in tensors.values())
        self._copies = Copies(_queue(torch.device(device)), min(PIECE, largest))
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="weights")
        self._closing = threading.Event()
        self._coming: tuple[tuple[str, ...], Future[dict[str, Tensor]]] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.set()
        self._thread.shutdown(wait=True, cancel_futures=True)
        self._coming = None

    def ask(self, names: Sequence[str]) -> None:
        """Begin to read parameters; they take memory from now on, until ``take`` is called."""
        self._coming = tuple(names), self._thread.submit(self._read, tuple(names))

    def take(self, names: Sequence[str]) -> dict[str, Tensor]:
        """Wait for parameters, which are read now if they were not asked for.

        Returns:
            Them by name, on the device; what is computed from now on waits for their copies.

        Raises:
            CheckpointError: if a tensor cannot be read.
        """
        if self._coming is None or self._coming[0] != tuple(names):
            self.ask(names)
        coming, self._coming = self._coming, None
        if coming is None:
            raise AssertionError("asked for above")
        found = coming[1].result()
        for tensor in found.values():
            self._copies.hand_over(tensor)
        return found

    def _read(self, names: tuple[str, ...]) -> dict[str, Tensor]:
        found: dict[str, Tensor] = {}
        for name in names:
            if self._closing.is_set():
                break  # nobody waits for them any more
            found[name] = self._copies.load(self._weights, self._tensors[name], self._dtype)
        return found


class Queue(Protocol):
    """Copies to a device, done in order, but not necessarily at once.

    Attributes:
        device: that is copied to.
        buffers: how many it takes to fill one while another is copied.
    """

    device: torch.device
    buffers: int

    def buffer(self, size: int) -> Tensor:
        """Bytes on the CPU that are copied from."""

    def used(self) -> AbstractContextManager[Any]:
        """Whatever is allocated and copied inside is the queue's."""

    def mark(self) -> Callable[[], None]:
        """Returns what waits until all copies so far are done."""

    def hand_over(self, tensor: Tensor) -> None:
        """Let a tensor that was copied be computed with."""


class _AtOnce:
    """Copies within memory."""

    buffers = 1

    def __init__(self, device: torch.device) -> None:
        self.device = device

    def buffer(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8)

    def used(self) -> AbstractContextManager[Any]:
        return nullcontext()

    def mark(self) -> Callable[[], None]:
        return _no_wait

    def hand_over(self, tensor: Tensor) -> None:
        """It is there."""


class _Cuda:
    """Copies that a GPU does by itself, in a stream of their own, from memory pinned for it."""

    buffers = 2

    def __init__(self, device: torch.device) -> None:
        self.device = device
        self._stream: Any = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def buffer(self, size: int) -> Tensor:
        return torch.empty(size, dtype=torch.uint8, pin_memory=True)

    def used(self) -> AbstractContextManager[Any]:
        return torch.cuda.stream(self._stream)  # of this thread, and its device too

    def mark(self) -> Callable[[], None]:
        event: Any = torch.cuda.Event()  # type: ignore[no-untyped-call]
        event.record(self._stream)
        return event.synchronize  # type: ignore[no-any-return]

    def hand_over(self, tensor: Tensor) -> None:
        """Have the computing stream wait for the copies, and a block live until it was used.

        The block belongs to the copying stream: without ``record_stream`` a later copy could fill
        it anew while the computation, which may be behind, still reads what was freed.
        """
        computing = torch.cuda.current_stream(self.device)
        computing.wait_stream(self._stream)
        tensor.record_stream(computing)


def _no_wait() -> None:
    pass


def _queue(device: torch.device) -> Queue:
    return _Cuda(device) if device.type == "cuda" else _AtOnce(device)


class Copies:
    """Tensors copied piece by piece, through buffers that take turns."""

    def __init__(self, queue: Queue, size: int) -> None:
        """Take the buffers' memory.

        Args:
            queue: that the copies are put into.
            size: bytes of a buffer, a multiple of every element's size.
        """
        self._queue = queue
        self._buffers = [queue.buffer(size) for _ in range(queue.buffers)]
        self._done = [_no_wait] * queue.buffers
        self._turn = 0

    def load(self, weights: Checkpoint, name: str, dtype: torch.dtype) -> Tensor:
        """A tensor on the device, which has to be handed over before it is computed with."""
        with self._queue.used():
            loaded = torch.empty(weights.shape(name), dtype=dtype, device=self._queue.device)
            flat = loaded.view(-1)
            for first, piece in weights.pieces(name, self._free_buffer):
                # Another dtype is made on the device: one copy that does both would not go ahead.
                there = piece.to(self._queue.device, non_blocking=True)
                flat[first : first + len(piece)].copy_(there, non_blocking=True)
                self._done[self._turn] = self._queue.mark()
        return loaded

    def hand_over(self, tensor: Tensor) -> None:
        """Let a tensor be computed with, by the thread that calls this."""
        self._queue.hand_over(tensor)

    def _free_buffer(self) -> Tensor:
        self._turn = (self._turn + 1) % len(self._buffers)
        self._done[self._turn]()
        return self._buffers[self._turn]
