"""What of a machine's memory and disk is too small for a pair, and how steps fit nevertheless."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from artifacts.disk.sizes import size_text, unequal
from flows.inspection.needs import StepNeed
from paraknow_core.inspection.compatibility import Problem

if TYPE_CHECKING:
    from paraknow_core.inspection.machine import Machine


def memory_problems(
    least: Mapping[str, int], machine: "Machine", dtype: str, in_half: int
) -> list[Problem]:
    """Refuse what does not fit even row by row; ``in_half`` is the peak then in bfloat16."""
    most, have = max(least, key=lambda step: least[step]), machine.memory_bytes
    need = least[most]
    if need <= have:
        return []
    wanted, there = unequal(need, have)
    smaller = " or --dtype bfloat16" if in_half <= have and dtype == "float32" else ""
    return [
        Problem(
            "machine",
            f"The step {most} needs about {wanted} of memory, and this machine "
            f"({machine.device}) has {there}. Take a larger machine{smaller}.",
        )
    ]


def memory_notes(
    steps: Sequence[StepNeed], least: Mapping[str, int], machine: "Machine"
) -> list[str]:
    """Say how steps that would not fit as they are set by default can be made to."""
    ways = {
        "finetune": "Lower finetune.micro_batch_size, or set finetune.gradient_checkpointing",
        "evaluate": "Lower evaluate.batch_size",
    }
    found = []
    for step in steps:
        need, fewest = step.memory_bytes or 0, least.get(step.step, 0)
        if step.step in ways and need > machine.memory_bytes >= fewest:
            found.append(
                f"By default {step.step} needs about {size_text(need)} of memory, more than "
                f"there is. {ways[step.step]}: row by row it is {size_text(fewest)}."
            )
    return found


def layer_note(steps: Sequence[StepNeed], at_once: int) -> list[str]:
    """Say that the teacher will be read layer by layer, where it does not fit as a whole."""
    need = next(step.memory_bytes or 0 for step in steps if step.step == "sensitivity")
    if need >= at_once:
        return []
    return [
        f"The teacher does not fit into memory, so its sensitivity is computed layer by layer, in "
        f"about {size_text(need)} instead of {size_text(at_once)}."
    ]


def disk_problems(need: int, free: int, place: Path) -> list[Problem]:
    """Refuse what does not fit on the disk of a place."""
    if need <= free:
        return []
    wanted, there = unequal(need, free)
    return [
        Problem(
            "machine",
            f"The steps need about {wanted} of disk, and {place} has {there} free. Make "
            "room, or name another store.",
        )
    ]
