"""What of a teacher's novel token directions a student has after training."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from pydantic import Field

from paraknow_core.models.describe import Matrix
from paraknow_core.models.token_modules import token_modules
from paraknow_core.setting_types import Rank
from paraknow_core.settings import Settings
from tasks.acquire_model import load_architecture
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.json_files import read_json, write_json
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step

ARRIVAL = "arrival.json"


class ArrivalConfig(Settings):
    """How many directions are followed."""

    rank: Rank = Field(
        16,
        title="Rank",
        description="The leading directions that are followed, one of LoRA's each.",
    )


def _compute(job: Job[ArrivalConfig]) -> Facts:
    """Measure, in each matrix whose rows are tokens, what of the directions training has put there.

    The directions are those of the teacher, whatever the adapter started from: so a control and
    plain LoRA are measured against the same.
    """
    from safetensors.torch import load_file

    from paraknow_core.checkpoint.reader import Checkpoint
    from paraknow_core.evaluation.arrival import arrival as arrival_of
    from paraknow_core.lora.adapter_reader import read_adapter

    stored = load_file(job.inputs["novel"] / "factors.safetensors")
    told = read_json(job.inputs["novel"] / "certificates.json")
    adapter = read_adapter(job.inputs["adapter"])
    matrices = token_modules(load_architecture(job.inputs["student"]))
    wanted = {
        matrix: factors
        for module, matrix in matrices.items()
        if module in told and (factors := _factors(adapter, module, matrices)) is not None
    }
    found = []
    with Checkpoint(job.locations["student"]) as weights:
        for done, (matrix, (a_RS, b_VR)) in enumerate(wanted.items()):
            job.progress(done, len(wanted), matrix.module)
            directions_VR = stored[f"{matrix.module}.U"][:, : job.config.rank]
            fact = arrival_of(weights.read(matrix.name), adapter.scale * b_VR, a_RS, directions_VR)
            where = {"module": matrix.module, "role": str(matrix.role)}
            sizes_R = stored[f"{matrix.module}.S"]
            held = _held(sizes_R, job.config.rank, told[matrix.module])
            found.append(where | {"teacher_share": held} | asdict(fact))
    write_json(job.out / ARRIVAL, {"matrices": found})
    return {"matrices": len(found), "shares": {f["module"]: f["change_share"] for f in found}}


def _factors(adapter: Any, module: str, matrices: Mapping[str, Matrix]) -> Any:
    """A module's factors; a tied head and its embedding compute with what either of them learnt."""
    found = adapter.factors.get(module)
    if found is not None or len({matrix.name for matrix in matrices.values()}) == len(matrices):
        return found
    return next((f for name, f in adapter.factors.items() if name in matrices), None)


def _held(sizes_R: Any, rank: int, told: Mapping[str, float]) -> float:
    """The share of the teacher's token space that the leading directions hold."""
    squares_R = sizes_R.double().square()
    leading = float(squares_R[:rank].sum() / squares_R.sum())
    return told["novel_share"] * told["energy"] * leading


def _estimate(_config: ArrivalConfig, known: Foreseen) -> Estimate:
    """The directions and the adapter's factors in float64; a block of rows at a time."""
    student = known.architecture("student")
    return Estimate(memory_bytes=8 * student.vocab_size * 128 + 2**27, disk_bytes=4096)


arrival = Step(
    name="arrival",
    stage=Stage.REPORT,
    version=1,
    compute=_compute,
    reads={
        "student": ("manifest.json", "architecture.json"),
        "novel": ("factors.safetensors", "certificates.json"),
        "adapter": ("adapter_model.safetensors", "adapter_config.json"),
    },
    opens=("student",),
    estimate=_estimate,
    threaded=True,
    sized_by=("student",),
)
