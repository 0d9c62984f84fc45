"""Controls: the transfer's factors with one property removed, as the same kind of artifact."""

from typing import Annotated, Any

from pydantic import Field

from paraknow_core.methods import METHODS
from paraknow_core.models.describe import Role
from paraknow_core.setting_types import OneOf, Seed
from paraknow_core.settings import Settings
from tasks.acquire_model import load_architecture
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.json_files import read_json, write_json
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step


class ControlConfig(Settings):
    """Which control, and which draw of it."""

    name: Annotated[
        str, OneOf("control", METHODS, fits=lambda method: method.is_factor_control)
    ] = Field(
        title="Control", description="What is taken away: the vectors, the places, or the tokens."
    )
    seed: Seed = Field(0, title="Seed", description="Of the draw.")


def _compute(job: Job[ControlConfig]) -> Facts:
    """Replace or permute the factors by seed; the singular values stay as they are."""
    from safetensors.torch import load_file, save_file

    from paraknow_core.initialisation.controls import SvdFactors, apply_control

    stored = load_file(job.inputs["factors"] / "factors.safetensors")
    modules = sorted({name.rpartition(".")[0] for name in stored})
    given = {m: SvdFactors(*(stored[f"{m}.{part}"] for part in ("U", "S", "Vh"))) for m in modules}
    student = load_architecture(job.inputs["student"])
    vocabulary = (student.module_of(Role.EMBED), student.module_of(Role.HEAD))
    made = apply_control(job.config.name, given, vocabulary=vocabulary, seed=job.config.seed)
    tensors: dict[str, Any] = {}
    for module, found in made.items():
        tensors |= {
            f"{module}.U": found.u_MR,
            f"{module}.S": found.s_R,
            f"{module}.Vh": found.vh_RN,
        }
    save_file(tensors, job.out / "factors.safetensors")
    certificates = read_json(job.inputs["factors"] / "certificates.json")
    told = {"control": job.config.name, "control_seed": job.config.seed}
    write_json(job.out / "certificates.json", {m: c | told for m, c in certificates.items()})
    return {"control": job.config.name, "matrices": len(made)}


def _estimate(_config: ControlConfig, known: Foreseen) -> Estimate:
    """The factors, in memory twice and on disk once."""
    size = known.sizes.get("factors", 0)
    return Estimate(memory_bytes=2 * size, disk_bytes=size) if size else Estimate()


control = Step(
    name="control",
    stage=Stage.DECOMPOSE,
    version=1,
    compute=_compute,
    reads={
        "student": ("architecture.json",),
        "factors": ("factors.safetensors", "certificates.json"),
    },
    estimate=_estimate,
    threaded=True,
)
