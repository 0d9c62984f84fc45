"""What the steps of a transfer take: each computed by its own function, timed, and estimated."""

import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from artifacts.folders import digest_folder
from artifacts.records import tree_digest
from flows.calibration.shapes import Shape, settings_of
from flows.config.transfer import TransferConfig
from flows.graph.runner import Handle, known_locations
from flows.graph.transfer_steps import wire
from paraknow_core.inspection.work import Work
from tasks.checks.preflight import Check
from tasks.decompose import decompose
from tasks.engine.computation import Computation
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.engine.step import C, Step
from tasks.engine.workers import compute_step
from tasks.evaluate import evaluate
from tasks.extract import extract
from tasks.finetune import finetune
from tasks.sensitivity import sensitivity

MEASURED: Final = tuple(step.name for step in (sensitivity, extract, decompose, finetune, evaluate))
"""Steps in which the hours of a transfer are."""

Peak = Callable[[Callable[[], object]], int]
"""Calls a function, and returns by how many bytes the resident memory rose at most."""


@dataclass(frozen=True)
class Sample:
    """One step of one shape.

    Attributes:
        shape: of the pair.
        step: its name.
        work: by its own estimate.
        cpu: seconds of this process on the CPU, the median.
        wall: the same by the clock.
        memory: bytes by which the resident memory rose at most; 0 if that was not measured.
        estimated: the bytes that the estimate says.
    """

    shape: Shape
    step: str
    work: Work
    cpu: float
    wall: float
    memory: int
    estimated: int


def measure_steps(
    shapes: Iterable[Shape],
    run: RunConfig,
    *,
    dtype: str,
    repeats: int = 1,
    peak: Peak | None = None,
) -> Iterator[Sample]:
    """Compute every step of the transfers of such pairs, and say what each took.

    Args:
        shapes: of the pairs, which are made here, and removed after.
        run: device and threads; its store is not used.
        dtype: that models are computed in.
        repeats: how often each measured step is computed; medians are returned.
        peak: measures the memory; without it that is 0.
    """
    for shape in shapes:
        with tempfile.TemporaryDirectory(prefix="paraknow-calibrate-") as folder:
            aside = Path(folder)
            here = {"store": str(aside / "store"), "device": run.device, "remote": "none"}
            settings = settings_of(shape, aside, here | {"threads": run.threads}, dtype)
            config = TransferConfig.model_validate(settings)
            runner = MeasuringRunner(config.run, shape, aside, repeats, peak or _unmeasured)
            wire(config, runner)
        yield from runner.samples


class _Taken(NamedTuple):
    """What one computation took: seconds on the CPU and by the clock, and memory."""

    cpu: float
    wall: float
    memory: int


def _unmeasured(call: Callable[[], object]) -> int:
    call()
    return 0


@dataclass
class ComputedHandle(Handle):
    """An output that lies in a folder of its own, in no store."""

    folder: Path = Path()


@dataclass
class MeasuringRunner:
    """Computes steps one after another in this process, without looking into a store.

    Attributes:
        run: device and threads; its store remembers digests of files only.
        shape: of the pair.
        aside: folder that outputs lie below.
        repeats: computations of each measured step.
        peak: measures the memory.
        samples: what was found.
    """

    run: RunConfig
    shape: Shape
    aside: Path
    repeats: int
    peak: Peak
    samples: list[Sample] = field(default_factory=list)

    def __call__(self, step: Step[C], config: C, *, label: str, **inputs: Handle) -> ComputedHandle:
        """Compute a step; what comes after the last measured one is left out."""
        found = ComputedHandle(label)
        given = {role: ref for role, handle in inputs.items() if (ref := handle.ref)}
        is_measured = step.name in MEASURED and (step is not evaluate or "adapter" in given)
        if not step.stage.is_within(Stage.EVALUATE) or (step is evaluate and not is_measured):
            return found
        source = step.source(config, given, self.run)
        computation = Computation(step, label, config, given, self.run, source)
        folders = {r: h.folder for r, h in inputs.items() if isinstance(h, ComputedHandle)}
        taken: list[_Taken] = []
        for number in range(self.repeats if is_measured else 1):
            found.folder, times = self._compute(computation, folders, number)
            taken.append(times)
        if is_measured:
            sizes = {role: ref.size for role, ref in given.items()}
            self._note(
                computation, Foreseen(dict(folders), sizes, device=self.run.device_type), taken
            )
        found.known = self._ref(computation, found.folder)
        return found

    start = __call__

    def check(
        self, check: Check, inputs: Mapping[str, Handle], *, before: Step[Any] | None = None
    ) -> None:
        """Check as a run does."""
        if before is None or before.stage.is_within(Stage.EVALUATE):
            held = {r: h for r, h in inputs.items() if isinstance(h, ComputedHandle) and h.known}
            check({role: handle.folder for role, handle in held.items()}, known_locations(held))

    def _compute(
        self, computation: Computation[Any], folders: Mapping[str, Path], number: int
    ) -> "tuple[Path, _Taken]":
        """Compute anew into a folder of its own; returns it, and what that took."""
        work = self.aside / "work" / computation.label / str(number)
        shutil.rmtree(work.with_name(str(number - 1)), ignore_errors=True)
        job, step = computation.job(folders, work), computation.step
        device = str(step.numerics(computation.config, self.run).get("device", "cpu"))
        cpu, wall = time.process_time(), time.perf_counter()
        memory = self.peak(
            lambda: compute_step(
                step.compute,
                job,
                label=computation.label,
                threaded=step.threaded,
                own_process=False,
                device=device,
            )
        )
        return job.out, _Taken(time.process_time() - cpu, time.perf_counter() - wall, memory)

    def _note(
        self,
        computation: Computation[Any],
        known: Foreseen,
        taken: "list[_Taken]",
    ) -> None:
        step = computation.step
        need = step.estimate(computation.config, known) if step.estimate else Estimate()
        self.samples.append(
            Sample(
                self.shape,
                step.name,
                need.work or Work(),
                cpu=statistics.median(one.cpu for one in taken),
                wall=statistics.median(one.wall for one in taken),
                memory=max(one.memory for one in taken),
                estimated=need.memory_bytes or 0,
            )
        )

    def _ref(self, computation: Computation[Any], folder: Path) -> Ref:
        names = [str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()]
        files = digest_folder(folder, names)
        return Ref(
            step=computation.step.name,
            label=computation.label,
            key=computation.payload.key(),
            tree=tree_digest(files),
            files={name: str(entry.digest) for name, entry in files.items()},
            size=sum(entry.size for entry in files.values()),
            location=computation.source.location,
            cached=False,
            seconds=0.0,
        )
