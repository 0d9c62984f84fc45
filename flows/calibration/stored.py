"""The calibration that is kept for this machine: one small JSON file for each way to compute."""

import json
import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from pydantic import Field, TypeAdapter, ValidationError

from artifacts.disk.locations import user_data_folder
from paraknow_core.durable_files import make_folder, settle
from paraknow_core.errors import ConfigError
from paraknow_core.inspection.laws import TERMS, Law, SlotRates
from paraknow_core.setting_types import Text
from paraknow_core.settings import Settings

_CPUINFO: Final = Path("/proc/cpuinfo")
AGAIN: Final = "run `paraknow calibrate` again, or remove the file"


@dataclass(frozen=True)
class Where:
    """What a calibration holds for.

    Attributes:
        device: ``cpu`` or ``cuda``.
        threads: torch's, on the CPU.
        dtype: that models are computed in.
    """

    device: str
    threads: int
    dtype: str

    @property
    def path(self) -> Path:
        """The file in the user's own data folder, which machines may share."""
        name = f"{platform.node() or 'here'}-{self.device}-{self.threads}-{self.dtype}.json"
        return user_data_folder() / "calibrations" / name

    @property
    def text(self) -> str:
        """Say it in words."""
        threads = f"{self.threads} thread{'s' * (self.threads != 1)}"
        return f"{self.device}, {threads}, {self.dtype}"


class LawConfig(Settings):
    """A law as it is kept."""

    seconds_each: dict[str, float] = Field(title="Seconds for one of each term")
    factor: float = Field(ge=1, allow_inf_nan=False, title="How far points lie off, as a factor")
    intervals: dict[str, tuple[float, float]] = Field(title="95 % interval of each constant")


class CalibrationConfig(Settings):
    """A calibration as it is kept."""

    day: Text = Field(title="When it was measured")
    processor: Text = Field(title="Processor or GPU that it was measured on")
    flops: float = Field(gt=0, allow_inf_nan=False, title="Operations a second of whole steps")
    flops64: float = Field(gt=0, allow_inf_nan=False, title="The same in float64")
    bandwidth: float = Field(gt=0, allow_inf_nan=False, title="Bytes a second")
    laws: dict[str, LawConfig] = Field(title="Step → its law")


def keep(where: Where, day: str, rates: SlotRates) -> Path:
    """Keep a calibration of this machine, in place of an older one; returns its file.

    Args:
        where: what it holds for.
        day: when it was measured.
        rates: what was found.
    """
    laws = {
        step: LawConfig(
            seconds_each=dict(law.seconds_each),
            factor=law.factor,
            intervals=dict(law.intervals),
        )
        for step, law in rates.laws.items()
    }
    kept = CalibrationConfig(
        day=day,
        processor=processor(where.device),
        flops=rates.flops,
        flops64=rates.flops64,
        bandwidth=rates.bandwidth,
        laws=laws,
    )
    path = where.path
    make_folder(path.parent)
    draft = path.with_suffix(".draft")
    draft.write_text(json.dumps(kept.model_dump(mode="json"), indent=1) + "\n", encoding="utf-8")
    settle(draft, path)
    return path


def calibrated(where: Where) -> SlotRates | None:
    """Return what was measured on this machine; None if it was not, or on another processor.

    Raises:
        ConfigError: if the file is not what `keep` writes.
    """
    path = where.path
    try:
        kept = TypeAdapter(CalibrationConfig).validate_json(path.read_bytes())
    except FileNotFoundError:
        return None
    except (OSError, ValidationError) as error:
        raise ConfigError(
            f"The calibration {path} cannot be read ({_first(error)}): {AGAIN}."
        ) from (error)
    unknown = sorted({term for law in kept.laws.values() for term in law.seconds_each} - {*TERMS})
    if unknown:
        raise ConfigError(f"The calibration {path} has terms that no law has ({unknown}): {AGAIN}.")
    if kept.processor != processor(where.device):
        return None
    return SlotRates(
        kept.flops,
        kept.flops64,
        kept.bandwidth,
        f"by laws that were calibrated here on {kept.day} ({where.text})",
        _laws(kept.laws),
    )


def processor(device: str) -> str:
    """Return the name of the CPU or GPU that a calibration is of."""
    if device != "cpu":
        import torch

        return torch.cuda.get_device_name()
    try:
        lines = _CPUINFO.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    named = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(named, "") or platform.processor() or platform.machine()


def _laws(kept: Mapping[str, LawConfig]) -> dict[str, Law]:
    return {step: Law(law.seconds_each, law.factor, law.intervals) for step, law in kept.items()}


def _first(error: Exception) -> str:
    return str(error).splitlines()[0]
