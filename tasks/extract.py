"""Find, in each teacher matrix, the part of the student's shape that is most sensitive."""

from dataclasses import asdict
from pathlib import Path
from typing import Literal

from pydantic import Field

from paraknow_core.architecture import MATRIX_ROLES
from paraknow_core.extraction import Cut, choose_windows
from paraknow_core.pairing import check_cuts, match_matrices
from tasks.acquire_model import load_architecture
from tasks.estimates import Estimate, Foreseen
from tasks.files import read_json, write_json
from tasks.identity import StepConfig
from tasks.step import Facts, Job, Step


class ExtractConfig(StepConfig):
    """What is cut out of the teacher."""

    structure: Literal["submatrix"] = Field(
        "submatrix", title="Structure", description="submatrix: a contiguous window of each matrix."
    )
    roles: tuple[str, ...] = Field(
        tuple(str(role) for role in MATRIX_ROLES),
        min_length=1,
        title="Roles",
        description="Kinds of matrix transferred: embed, q, k, v, o, gate, up, down, head.",
    )


def _compute(job: Job[ExtractConfig]) -> Facts:
    """Search every matrix for its window of greatest sensitivity; the output is the where."""
    from paraknow_core.checkpoints import Checkpoint

    matches = match_matrices(
        load_architecture(job.inputs["teacher"]),
        load_architecture(job.inputs["student"]),
        layers=read_json(job.inputs["layers"] / "layers.json"),
        roles=job.config.roles,
    )
    check_cuts(matches)
    with Checkpoint(job.inputs["scores"]) as scores:
        cuts = choose_windows(scores, matches, progress=job.progress)
    write_json(job.out / "windows.json", [asdict(cut) for cut in cuts])
    caught = sum(cut.score for cut in cuts) / max(sum(cut.total for cut in cuts), 1e-300)
    return {"windows": len(cuts), "sensitivity_share": caught}


def read_cuts(folder: Path) -> list[Cut]:
    """Read the windows from an extract step's artifact."""
    return [Cut(**fields) for fields in read_json(folder / "windows.json")]


def _estimate(_config: ExtractConfig, known: Foreseen) -> Estimate:
    """The largest matrix's collapsed map in float64; a few hundred bytes a window on disk."""
    teacher = known.architecture("teacher")
    largest = max(tensor.num_elements for tensor in teacher.tensors)
    return Estimate(memory_bytes=largest * 16, disk_bytes=400 * len(teacher.tensors))


extract = Step(
    name="extract",
    version=1,
    compute=_compute,
    reads={
        "scores": (),
        "teacher": ("architecture.json",),
        "student": ("architecture.json",),
        "layers": ("layers.json",),
    },
    estimate=_estimate,
    threaded=True,
    sized_by=("teacher",),
)
