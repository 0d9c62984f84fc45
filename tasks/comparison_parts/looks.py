"""What a cell's diagnostic steps found: of start points, and of the teacher's novel directions."""

from pathlib import Path
from typing import Any

from paraknow_core.report.page import collect
from paraknow_core.report.page.diagnosis import Arrived, ModuleFact
from tasks.acquire_model import load_architecture
from tasks.comparison_parts.config import ComparisonConfig, arm_role, cell_role
from tasks.diagnose import DIAGNOSTICS
from tasks.engine.json_files import read_json
from tasks.engine.step import Job
from tasks.teaching.arrival import ARRIVAL


def looks_of(job: Job[ComparisonConfig], number: int) -> dict[str, Any]:
    """Read what describes a cell's methods and judges nothing, as far as it was computed.

    Args:
        job: of the report.
        number: of the cell.

    Returns:
        Fields of the page's ``Pair``: ``modules``, ``novelty``, ``arrived``.
    """
    modules: list[ModuleFact] = []
    arrived: list[Arrived] = []
    directions: list[Path] = []
    for place, arm in enumerate(job.config.cells[number].arms):
        folders = {
            what: folder
            for what in ("diagnose", "arrival", "novel")
            if (folder := job.inputs.get(arm_role(number, place, what))) is not None
        }
        if "diagnose" in folders:
            modules += collect.modules_of(arm.name, read_json(folders["diagnose"] / DIAGNOSTICS))
        if "arrival" in folders:
            arrived += collect.arrived_of(arm.name, read_json(folders["arrival"] / ARRIVAL))
        if "novel" in folders:
            directions.append(folders["novel"])
    found: dict[str, Any] = {"modules": tuple(modules), "arrived": tuple(arrived)}
    student = job.inputs.get(cell_role(number, "student"))
    if directions and student is not None:  # those of the first method are followed in all
        found["novelty"] = collect.novelty_of(
            read_json(directions[0] / "certificates.json"),
            read_json(directions[0] / "tokens.json"),
            load_architecture(student),
        )
    return found
