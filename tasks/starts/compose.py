"""One start point out of several: each role's matrices start as another method says."""

import math
from collections.abc import Collection, Mapping
from typing import Annotated

from pydantic import Field

from paraknow_core.errors import ConfigError
from paraknow_core.models.describe import Architecture, Role
from paraknow_core.setting_types import Text
from paraknow_core.settings import Settings
from tasks.acquire_model import load_architecture
from tasks.engine.estimates import Estimate, Foreseen, adapter_bytes
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step
from tasks.extract import Roles


class PartConfig(Settings):
    """Where the start of some roles comes from."""

    start: Annotated[Text, Field(min_length=1)] = Field(
        title="Start point", description="Name of the input that these roles are taken from."
    )
    roles: Roles = Field(title="Roles", description="Kinds of matrix, or groups of them.")


class ComposeConfig(Settings):
    """Which roles start from which start point."""

    parts: tuple[PartConfig, ...] = Field(min_length=1, title="Parts")


def _compute(job: Job[ComposeConfig]) -> Facts:
    """Put one start point together out of the start points of several methods."""
    from paraknow_core.lora.adapter import write_adapter
    from paraknow_core.lora.adapter_reader import read_adapter
    from paraknow_core.lora.compose import compose

    student = load_architecture(job.inputs["student"])
    parts = {part.start: read_adapter(job.inputs[part.start]) for part in job.config.parts}
    changed = {name: part.factors for name, part in parts.items()}
    chosen = with_own_head(modules_of(student, job.config), student, changed)
    made = compose(parts, chosen)
    write_adapter(job.out, made)
    return {
        "rank": made.rank,
        "modules": len(made.factors),
        "parts": {name: sum(n == name for n in chosen.values()) for name in parts},
    }


def modules_of(student: Architecture, config: ComposeConfig) -> dict[str, str]:
    """Name the start point of each of the student's modules, in the order of the checkpoint.

    Raises:
        ConfigError: if a role is given to two start points, or two roles of one fused module to
            different ones: an adapter changes a module as a whole.
    """
    found: dict[str, str] = {}
    for part in config.parts:
        for module in student.modules(part.roles):
            if found.setdefault(module, part.start) != part.start:
                raise ConfigError(
                    f"{module} would start from {found[module]!r} and from {part.start!r}. Give "
                    "each role to one method; roles of a fused matrix go together."
                )
    return found


def with_own_head(
    chosen: Mapping[str, str], student: Architecture, changed: Mapping[str, Collection[str]]
) -> dict[str, str]:
    """Give a tied head a start of its own, where a part has one for it.

    Args:
        chosen: module → the start point that it is taken from.
        student: whose modules these are.
        changed: start point → the modules that it has a start for.

    Returns:
        As ``chosen``; the embedding is left as it is where its part changes the head alone.
    """
    found = dict(chosen)
    if student.tied:
        embedding, head = student.module_of(Role.EMBED), student.module_of(Role.HEAD)
        own = [name for name in changed if head in changed[name]]
        if own:
            found[head] = own[0]
            if embedding not in changed[found.get(embedding, own[0])]:
                found.pop(embedding, None)
    return found


def _estimate(config: ComposeConfig, known: Foreseen) -> Estimate:
    """The start points, in memory; what is taken of them on disk.

    All have one rank, which none can exceed that has at least the roles that are taken of it. Where
    a tied head gets a start of its own, all of every start point is counted.
    """
    student, roles = known.architecture("student"), {r for p in config.parts for r in p.roles}
    taken: dict[str, set[str]] = {}
    for part in config.parts:
        taken.setdefault(part.start, set()).update(part.roles)
    if not all(known.sizes.get(start) for start in taken):
        return Estimate()
    sizes = {start: known.sizes[start] for start in taken}
    each = {start: adapter_bytes(student, wanted, 1) for start, wanted in taken.items()}
    disk = sum(sizes.values())
    if all(each.values()) and not (student.tied and Role.HEAD in roles):
        rank = min(sizes[start] / each[start] for start in taken)
        disk = min(disk, math.ceil(rank * adapter_bytes(student, roles, 1)))
    return Estimate(memory_bytes=sum(sizes.values()), disk_bytes=disk)


compose = Step(
    name="compose",
    stage=Stage.LORA,
    version=1,
    compute=_compute,
    reads={"student": ("architecture.json",)},
    estimate=_estimate,
    sized_by=("student",),
)
