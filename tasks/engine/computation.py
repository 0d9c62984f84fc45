"""One computation of a step: its folders, its sources, where it runs, and how to do it again."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic

from artifacts.keys import KeyPayload
from tasks.engine.code.reached import Used
from tasks.engine.partial import open_partial
from tasks.engine.progress import StepProgress
from tasks.engine.provenance import code_of
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source, SourceFiles, watched
from tasks.engine.step import C, Job, Step, payload_of
from tasks.engine.workers import Computed, compute_step, threads_of


@dataclass(frozen=True)
class Computation(Generic[C]):
    """One computation: of which step, from what, and how it is shown."""

    step: Step[C]
    label: str
    config: C
    inputs: Mapping[str, Ref]
    run: RunConfig
    source: Source

    @property
    def payload(self) -> KeyPayload:
        """What identifies the output."""
        return payload_of(
            self.step, config=self.config, inputs=self.inputs, source=self.source, run=self.run
        )

    def job(self, folders: Mapping[str, Path], work: Path) -> Job[C]:
        """Lay out the folders of the computation below ``work``; ``folders`` hold the inputs."""
        out = work / "out"
        shutil.rmtree(out, ignore_errors=True)
        out.mkdir(parents=True)
        sources = dict(self.source.files)
        for role in self.step.opens:
            if role in self.inputs:
                place = Path(self.inputs[role].location)
                sources[role] = SourceFiles.acquired(place, folders[role])
        partial = open_partial(
            self.step.compute, self.payload, work, sources=sources, label=self.label
        )
        progress, digests = StepProgress(self.label), self.source.digests
        return Job(
            self.config, folders, sources, out, partial, self.run, progress, digests, self.label
        )

    def compute(self, job: Job[C]) -> Computed:
        """Compute where the step belongs.

        Raises:
            SourceChangedError: if a file outside the store is not, or did not stay, what was
                digested: then nothing of what was computed may be used.
        """
        step, stamps = self.step, self.run.open_store().stamps
        device = str(step.numerics(self.config, self.run).get("device", "cpu"))
        how = {"threaded": step.threaded, "own_process": step.own_process}
        devices = step.devices(self.config)
        with watched(job.sources, stamps=stamps, label=self.label):
            computed = compute_step(
                step.compute, job, label=self.label, device=device, devices=devices, **how
            )
        job.progress.finish()
        return computed

    def origin(self, used: Used) -> dict[str, Any]:
        """Return what computing it again takes, as plain JSON values.

        Args:
            used: the entries of registries that it looked up.
        """
        return {
            "label": self.label,
            "config": self.config.model_dump(mode="json"),
            "device": self.run.device,
            "threads": threads_of(self.run),
            "code": code_of(self.step.compute, used=used),
            "location": self.source.location,
            "inputs": {
                role: {
                    "step": ref.step,
                    "key": ref.key,
                    "digest": ref.tree,
                    "location": ref.location,
                }
                for role, ref in self.inputs.items()
            },
        }
