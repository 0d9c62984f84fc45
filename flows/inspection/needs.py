"""What the steps of a transfer would need on this machine: memory and disk by the steps' own
estimates, time by measured rates.
"""

import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from artifacts.disk.digests import digest_bytes
from paraknow_core.alignment.matrices import Match
from paraknow_core.errors import ConfigError
from paraknow_core.inspection.cost import step_work
from paraknow_core.inspection.laws import SlotRates
from paraknow_core.inspection.work import Amounts
from paraknow_core.models.describe import MATRIX_ROLES, Architecture
from paraknow_core.setting_errors import explain, first_causes
from tasks.decompose import DecomposeConfig, decompose
from tasks.engine.estimates import Estimate, Foreseen, bytes_each
from tasks.engine.json_files import write_json
from tasks.engine.run import RunConfig
from tasks.evaluate import EvaluateConfig, evaluate
from tasks.extract import ExtractConfig, extract
from tasks.finetune import FinetuneConfig, finetune
from tasks.rows.config import SizesConfig
from tasks.sensitivity import SensitivityConfig, sensitivity
from tasks.starts.lora import LoraConfig, lora

if TYPE_CHECKING:
    from paraknow_core.inspection.machine import Machine

_HASH_PROBE = 32 * 2**20
REACHED = 0.6
"""Of the rate of one large product, by whole steps: 0.45 to 0.7 for a pair of 156 and 60 M."""


@dataclass(frozen=True)
class StepNeed:
    """What one run of a step is estimated to need; None where it is next to nothing."""

    step: str
    memory_bytes: int | None
    disk_bytes: int | None
    seconds: float | None


@dataclass(frozen=True)
class EstimatedSettings:
    """The configs of the steps that are estimated."""

    sensitivity: SensitivityConfig
    extract: ExtractConfig
    decompose: DecomposeConfig
    lora: LoraConfig
    finetune: FinetuneConfig
    evaluate: EvaluateConfig

    @property
    def dtype(self) -> str:
        """That models are computed in."""
        return self.sensitivity.compute_dtype

    def in_bfloat16(self) -> "EstimatedSettings":
        """Return the same with models computed in bfloat16."""
        change = {"compute_dtype": "bfloat16"}
        return replace(
            self,
            sensitivity=self.sensitivity.model_copy(update=change),
            finetune=self.finetune.model_copy(update=change),
            evaluate=self.evaluate.model_copy(update=change),
        )

    def one_row_at_once(self) -> "EstimatedSettings":
        """Return the same with the least memory for training and evaluation."""
        least = {"micro_batch_size": 1, "gradient_checkpointing": True}
        return replace(
            self,
            finetune=self.finetune.model_copy(update=least),
            evaluate=self.evaluate.model_copy(update={"batch_size": 1}),
        )


def settings_of(
    *, roles: Sequence[str], rank: int, structure: str, dtype: str
) -> EstimatedSettings:
    """Build the steps' own configs, which check the values.

    Args:
        roles: kinds of matrix; empty for all.
        rank: of the adapter.
        structure: how matrices are cut; "" for the default.
        dtype: that models are computed in.

    Raises:
        ConfigError: if a step does not allow a value.
    """
    cut: dict[str, Any] = {"roles": tuple(roles) or tuple(map(str, MATRIX_ROLES))}
    if structure:
        cut["structure"] = structure
    compute: dict[str, Any] = {"compute_dtype": dtype}
    try:
        return EstimatedSettings(
            SensitivityConfig(**compute),
            ExtractConfig(**cut),
            DecomposeConfig(max_rank=max(rank, DecomposeConfig().max_rank)),
            LoraConfig(rank=rank, alpha=float(rank)),
            FinetuneConfig(**compute),
            EvaluateConfig(**compute),
        )
    except ValidationError as error:
        raise ConfigError(explain(ExtractConfig, first_causes(error)[0])) from None


def measured(dtype: str, threads: int = 0, device: str = "auto") -> "Machine":
    """Measure the device that runs would use, with the threads that they would use."""
    import torch

    from paraknow_core.inspection.machine import measure
    from paraknow_core.models.load import parse_dtype, pick_device

    torch.set_num_threads(threads or RunConfig().thread_count())
    return measure(pick_device(device), parse_dtype(dtype))


def measured_rates(dtype: str, threads: int = 0, device: str = "auto") -> SlotRates:
    """Measure this machine for a moment: of a product's rate whole steps reach a share."""
    return rates_of(measured(dtype, threads, device), dtype)


def rates_of(machine: "Machine", dtype: str) -> SlotRates:
    """Return what whole steps reach on a machine that was measured."""
    flops, flops64 = REACHED * machine.flops, REACHED * machine.flops64
    told = (
        f"at rates measured here ({machine.device}, {machine.threads} threads, {dtype}): "
        f"{flops / 1e9:,.0f} GFLOP/s and {machine.bandwidth / 1e9:,.0f} GB/s; "
        "`paraknow calibrate` measures more closely"
    )
    return SlotRates(flops, flops64, machine.bandwidth, told)


def needs(
    teacher: Architecture,
    student: Architecture,
    matches: Sequence[Match],
    *,
    settings: EstimatedSettings,
    machine: "Machine",
    samples: int,
    tokens: int,
    rates: SlotRates | None = None,
) -> list[StepNeed]:
    """Ask each step for its estimate, and add the time that its work takes at given rates.

    Args:
        teacher: the larger model.
        student: the smaller one.
        matches: what is cut.
        settings: of the steps.
        machine: measured.
        samples: seeds of the sensitivity.
        tokens: of a row, prompt and answer.
        rates: of whole steps; by default as they follow from what was measured.
    """
    rates = rates or rates_of(machine, settings.dtype)
    estimates = _estimates(
        teacher,
        student,
        settings,
        tokens,
        memory_bytes=machine.memory_bytes,
        device=machine.device,
    )
    sizes = SizesConfig()
    works = step_work(
        teacher,
        student,
        matches,
        amounts=Amounts(
            samples=samples,
            train=sizes.train,
            epochs=settings.finetune.epochs,
            test=sizes.test,
            tokens=tokens,
            answer=min(settings.evaluate.max_new_tokens, tokens // 4),
            batch=settings.evaluate.batch_size,
        ),
        max_rank=settings.decompose.max_rank,
        adapter_parameters=(estimates["lora"].disk_bytes or 0) // 4,
        element_bytes=bytes_each(settings.dtype),
        device=machine.device,
    )
    hashing = (teacher.weight_bytes + student.weight_bytes) / _hash_rate()
    found = [StepNeed("acquire", None, None, hashing)]
    for name, estimate in estimates.items():
        seconds = rates.seconds(name, works[name]) if name in works else None
        found.append(StepNeed(name, estimate.memory_bytes, estimate.disk_bytes, seconds))
    return found


def memory_needs(
    teacher: Architecture,
    student: Architecture,
    settings: EstimatedSettings,
    *,
    tokens: int,
    memory_bytes: int,
    device: str = "cpu",
) -> dict[str, int]:
    """Return how many bytes of memory each step is estimated to need, of those that there are."""
    found = _estimates(teacher, student, settings, tokens, memory_bytes=memory_bytes, device=device)
    return {name: estimate.memory_bytes or 0 for name, estimate in found.items()}


def _estimates(
    teacher: Architecture,
    student: Architecture,
    settings: EstimatedSettings,
    tokens: int,
    *,
    memory_bytes: int,
    device: str,
) -> dict[str, Estimate]:
    """Ask the steps as a plan does: by the folders of acquired models."""
    found: dict[str, Estimate] = {}
    start = 0
    with tempfile.TemporaryDirectory(prefix="paraknow-inspect-") as aside:
        folders = {"teacher": Path(aside, "teacher"), "student": Path(aside, "student")}
        for role, model in (("teacher", teacher), ("student", student)):
            folders[role].mkdir()
            write_json(folders[role] / "architecture.json", model.to_json())
        for step in (sensitivity, extract, decompose, lora, finetune, evaluate):
            estimate: Any = step.estimate
            known = Foreseen(
                folders,
                {"start": start},
                row_tokens=tokens,
                memory=lambda: memory_bytes,
                device=lambda: device,
            )
            found[step.name] = estimate(getattr(settings, step.name), known)
            start = found[step.name].disk_bytes or 0 if step is lora else start
    return found


def _hash_rate() -> float:
    """Bytes a second that are digested; from memory, so a slow disk makes it slower."""
    data = bytes(_HASH_PROBE)
    start = time.perf_counter()
    digest_bytes(data)
    return _HASH_PROBE / (time.perf_counter() - start)
