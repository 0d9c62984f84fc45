"""The processes of one training: which of them this one is, and what they tell each other.

They are started from outside, each with its place in the variables that ``torchrun`` sets (RANK,
LOCAL_RANK, WORLD_SIZE, MASTER_ADDR, MASTER_PORT). Accelerate reads them and opens the process
group, gloo on CPUs and NCCL on GPUs; the Trainer finds it open, and averages gradients over it.
"""

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

from paraknow_core.errors import ConfigError

T = TypeVar("T")
_PATIENCE = timedelta(hours=2)
"""How long one waits for the others, which may write or load. Who started them sees a death."""


@dataclass(frozen=True)
class Ranks:
    """This process among those of a training. Every method is called by all of them, in one order.

    Attributes:
        number: of this process, from 0.
        count: of processes.
    """

    number: int = 0
    count: int = 1

    @property
    def is_first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.number == 0

    def device(self, device: str) -> str:
        """Return this process's own one of a kind of device: ``cuda:1``."""
        if self.count == 1 or device == "cpu":
            return device
        return f"cuda:{os.environ['LOCAL_RANK']}"

    def first(self, work: Callable[[], T]) -> T:
        """Let the first process do something, and return to all what it found."""
        if self.count == 1:
            return work()
        from torch.distributed import broadcast_object_list

        found = [work() if self.is_first else None]
        broadcast_object_list(found, src=0)
        told: T = found[0]  # type: ignore[assignment]
        return told

    def total(self, *amounts: float) -> list[float]:
        """Sum each number over all processes, in their order: the same bits in each of them."""
        if self.count == 1:
            return list(amounts)
        from torch.distributed import all_gather_object

        found: list[tuple[float, ...]] = [()] * self.count
        all_gather_object(found, amounts)
        return [sum(each) for each in zip(*found, strict=True)]

    def wait(self) -> None:
        """Wait until all processes are here."""
        self.total(0)


ALONE = Ranks()


def join(processes: int, *, device: str) -> Ranks:
    """Meet the other processes of a training; at once, if there are none.

    Args:
        processes: of the training, this one included.
        device: "cpu" or "cuda".

    Raises:
        ConfigError: if this process was not started as one of so many.
    """
    if processes == 1:
        return ALONE
    there = os.environ.get("WORLD_SIZE", "1")
    if there != str(processes):
        raise ConfigError(
            f"processes is {processes}, but this training was started in {there}. The step "
            f"`finetune` starts all of them; on your own, start this in {processes} processes of "
            "one machine, as torchrun does, or set processes to 1."
        )
    from accelerate import PartialState

    state = PartialState(cpu=device == "cpu", timeout=_PATIENCE)
    return Ranks(state.process_index, state.num_processes)


def in_forward(wrapped: Any, model: Any, batch: Any, work: Callable[[Any, Any], T]) -> T:
    """Do something with a model inside the forward pass of what wraps it for several processes.

    DistributedDataParallel sums the gradients of its own forward pass, which calls the model's: so
    that is, for this once, ``work``. (PyTorch Lightning does so in its ``_ForwardRedirection``.)

    Args:
        wrapped: the model in DistributedDataParallel.
        model: the model itself.
        batch: handed to ``work``.
        work: takes the model, as it is otherwise, and the batch.
    """

    def once(given: Any) -> T:
        del model.forward  # the class's own is there again
        return work(model, given)

    model.forward = once
    try:
        found: T = wrapped(batch)
    finally:
        vars(model).pop("forward", None)
    return found
