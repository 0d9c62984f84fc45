"""How the steps of the wiring are run: as Prefect tasks, one after another."""

from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from artifacts.names import StepKey
from flows.graph.task_runners import SUBMIT, check_task_runner
from paraknow_core.finetuning.reporters import check_reporters
from tasks.checks.preflight import Check
from tasks.engine.ref import Ref, folder_of
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.engine.step import C, Step

if TYPE_CHECKING:
    from prefect.futures import PrefectFuture


@dataclass
class Handle:
    """One step's output, known now, later or never (beyond the last stage)."""

    label: str
    future: "PrefectFuture[Any] | None" = None
    known: Ref | None = None

    @property
    def ref(self) -> Ref | None:
        """The output's reference; waits for a step that is under way, and raises its error."""
        if self.known is None and self.future is not None:
            self.known = self.future.result()
        return self.known


class Runner(Protocol):
    """What the wiring needs: to start a step, to run one, and to check what is known."""

    def start(self, step: Step[C], config: C, *, label: str, **inputs: Handle) -> Handle:
        """Start a step that may run while others do."""

    def __call__(self, step: Step[C], config: C, *, label: str, **inputs: Handle) -> Handle:
        """Run a step to its end: each uses the machine alone."""

    def check(
        self, check: Check, inputs: Mapping[str, Handle], *, before: Step[Any] | None = None
    ) -> None:
        """Check the folders of finished steps before anything expensive runs.

        Args:
            check: what is to be checked.
            before: the step that it is made for; a run that ends earlier goes without it.
            inputs: the steps whose outputs it looks at.
        """


class TrialRunner(Runner, Protocol):
    """What a comparison needs in addition: its later steps depend on what earlier ones found.

    Attributes:
        plans: whether nothing is run, so that what a step found may be unknown.
    """

    plans: bool

    def facts(self, handle: Handle) -> Mapping[str, Any]:
        """Return the facts of a step's output; empty while they are not known."""

    def undecided(self, undecided: bool) -> AbstractContextManager[None]:
        """Plan the steps inside as ones whose settings depend on results that are not there yet."""


@dataclass
class PrefectRunner:
    """Runs steps as tasks of this flow run; inputs travel as futures, so the UI draws them."""

    run: RunConfig
    until: Stage
    handles: list[Handle] = field(default_factory=list)
    plans: bool = field(default=False, init=False)

    def __post_init__(self) -> None:
        """Refuse what cannot work before anything runs."""
        check_task_runner(self.run)
        check_reporters(self.run.report_to)

    def start(self, step: Step[C], config: C, *, label: str, **inputs: Handle) -> Handle:
        """Submit the step, unless it lies beyond the last stage."""
        from tasks.engine.prefect_task import arguments_of, task_of  # plans go without Prefect

        handle = Handle(label)
        if step.stage.is_within(self.until):
            given = {role: asked.future or asked.known for role, asked in inputs.items()}
            arguments = arguments_of(label, config, given, self.run)
            submit = SUBMIT[self.run.task_runner]
            gpus = step.devices(config) if step.threaded and self.run.device == "cuda" else 0
            handle.future = submit(task_of(step), arguments, self.run, gpus=gpus)
            self.handles.append(handle)
        return handle

    def __call__(self, step: Step[C], config: C, *, label: str, **inputs: Handle) -> Handle:
        """Submit the step and wait for it; one that failed is none of the runner's handles."""
        handle = self.start(step, config, label=label, **inputs)
        try:
            _ = handle.ref
        except BaseException:
            self.handles.remove(handle)  # whoever goes on without it knows that it is not there
            raise
        return handle

    def check(
        self, check: Check, inputs: Mapping[str, Handle], *, before: Step[Any] | None = None
    ) -> None:
        """Run the check on the inputs' folders."""
        if before is not None and not before.stage.is_within(self.until):
            return
        check(known_folders(self.run, inputs), known_locations(inputs))

    def facts(self, handle: Handle) -> Mapping[str, Any]:
        """Return the facts of a finished step's output."""
        record = handle.ref and self.run.open_store().lookup(StepKey(handle.ref.key))
        return dict(record.facts) if record else {}

    def undecided(self, undecided: bool) -> AbstractContextManager[None]:  # noqa: ARG002
        """Nothing is undecided while it is run."""
        return nullcontext()

    def refs(self) -> list[Ref]:
        """Return what ran, in its order."""
        return [ref for handle in self.handles if (ref := handle.ref) is not None]

    def finished(self) -> list[Ref]:
        """Return what ran without an error; no handle refers to this flow run any more."""
        for handle in self.handles:
            with suppress(Exception):  # whoever needed it has met its error
                _ = handle.ref
            handle.future = None
        return [handle.known for handle in self.handles if handle.known is not None]


def known_folders(run: RunConfig, inputs: Mapping[str, Handle]) -> dict[str, Path]:
    """Return role → folder of every input whose output is known."""
    store = run.open_store()
    refs = {role: handle.ref for role, handle in inputs.items()}
    return {role: folder_of(store, ref) for role, ref in refs.items() if ref is not None}


def known_locations(inputs: Mapping[str, Handle]) -> dict[str, Path]:
    """Return role → where the model lies, of every input that is known and describes one."""
    refs = {role: handle.ref for role, handle in inputs.items()}
    return {role: Path(ref.location) for role, ref in refs.items() if ref and ref.location}
