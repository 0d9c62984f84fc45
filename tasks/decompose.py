"""Truncated SVD of the teacher's windows, at a maximum rank that serves every rank below it."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from paraknow_core.errors import NumericsError
from paraknow_core.extraction.weights import cuts_by_module, module_weight
from paraknow_core.inspection.decomposition import decomposition_bytes, decomposition_work
from paraknow_core.models.describe import describe
from paraknow_core.partial_results import Saved
from paraknow_core.setting_types import Rank
from paraknow_core.settings import Settings
from tasks.acquire_model import load_architecture
from tasks.engine.devices.memory import memory_told
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.json_files import read_json, write_json
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step
from tasks.extract import read_cuts, read_indices

_FACTORS, _CERTIFICATE = "factors.safetensors", "certificate.json"


class DecomposeConfig(Settings):
    """How the windows are decomposed."""

    max_rank: Rank = Field(
        32,
        title="Maximum rank",
        description="Any LoRA rank up to this re-uses the decomposition.",
    )
    driver: Literal["auto", "gram", "krylov", "subspace", "full"] = Field(
        "auto",
        title="SVD driver",
        description="auto chooses by size and device, checks, and falls back.",
    )


def _compute(job: Job[DecomposeConfig]) -> Facts:
    """Decompose each module's cut on the run's device, reading only its slices of the files."""
    from safetensors.torch import load_file, save_file

    from paraknow_core.checkpoint.reader import Checkpoint
    from paraknow_core.models.load import pick_device

    device = pick_device(job.run.device)
    teacher = describe(job.locations["teacher"])
    student = load_architecture(job.inputs["student"])
    modules = cuts_by_module(read_cuts(job.inputs["windows"]))
    indices = read_indices(job.inputs["windows"])
    factors: dict[str, Any] = {}
    certificates: dict[str, Any] = {}
    with Checkpoint(job.locations["teacher"]) as weights:
        for done, (module, cuts) in enumerate(modules.items()):
            job.progress(done, len(modules), module)
            saved = job.partial.find(done, module, [_FACTORS, _CERTIFICATE])
            if saved is None:
                weight_MN = module_weight(weights, teacher, student, cuts, indices)
                need = decomposition_bytes([weight_MN.shape], device=job.run.device_type())
                with memory_told(f"decomposing {module}", need=need):
                    saved = _decompose_one(job, done, module, weight_MN.to(device))
            factors |= load_file(saved.folder / _FACTORS)
            certificates[module] = read_json(saved.folder / _CERTIFICATE)
    save_file(factors, job.out / _FACTORS)
    write_json(job.out / "certificates.json", certificates)
    energies = [certificate["energy"] for certificate in certificates.values()]
    return {
        "matrices": len(modules),
        "energy_mean": sum(energies) / len(energies),
        "energy_least": min(energies),
        "fell_back": sum(bool(certificate["fell_back"]) for certificate in certificates.values()),
    }


def _decompose_one(job: Job[DecomposeConfig], number: int, module: str, weight_MN: Any) -> Saved:
    """Decompose one module, and save its factors and certificate as a partial result."""
    from safetensors.torch import save_file

    from paraknow_core.svd.truncated import truncated_svd

    found = truncated_svd(weight_MN, rank=job.config.max_rank, driver=job.config.driver)
    if not bool(found.s_R.any()):
        raise NumericsError(
            f"What was cut of the teacher for {module} is zero throughout: it has nothing to give "
            "there. Look whether the teacher's files are complete, or leave its role out of "
            "extract.roles."
        )
    factors = {"U": found.u_MR.cpu(), "S": found.s_R.cpu(), "Vh": found.vh_RN.cpu()}
    draft = job.partial.new_draft()
    save_file({f"{module}.{name}": t.contiguous() for name, t in factors.items()}, draft / _FACTORS)
    write_json(draft / _CERTIFICATE, found.certificate | {"energy": found.energy})
    return job.partial.save(draft, number, module)


def _numerics(config: DecomposeConfig, run: RunConfig) -> Mapping[str, str | bool]:
    return {"accumulate": "float64", "device": run.device_type(), "svd": config.driver}


def _estimate(config: DecomposeConfig, known: Foreseen) -> Estimate:
    """One module, its Gram matrix, and copies; factors of every module on disk, twice over.

    On a GPU it is the GPU's memory: what is read of the files lies in the CPU's.
    """
    student = known.architecture("student")
    sides = [matrix.whole for matrix, *_ in student.modules(student.roles).values()]
    device = known.device()
    memory = decomposition_bytes(sides, device=device)
    factors = sum(4 * config.max_rank * (rows + cols + 1) for rows, cols in sides)
    if device == "cpu" and "teacher" in known.folders:
        # Scattered rows and columns are read with what lies between.
        memory += max(4 * matrix.num_elements for matrix in known.architecture("teacher").matrices)
    work = decomposition_work(sides, config.max_rank, device=device)
    return Estimate(memory_bytes=memory, disk_bytes=2 * factors, work=work)


decompose = Step(
    name="decompose",
    stage=Stage.DECOMPOSE,
    version=1,
    compute=_compute,
    reads={"teacher": ("manifest.json",), "windows": (), "student": ("architecture.json",)},
    opens=("teacher",),
    numerics=_numerics,
    estimate=_estimate,
    threaded=True,
    sized_by=("student",),
)
