"""What of a comparison is stored: its wiring followed by lookups, and nothing computed."""

from collections.abc import Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any

from artifacts.names import StepKey
from artifacts.records import Record
from flows.config.cells import PairConfig, TaskConfig
from flows.config.compare import CompareConfig
from flows.graph.arm import Arm, ArmOutcome, reason_of, run_arm
from flows.graph.cell import Cell, CellOutcome
from flows.graph.pair import ModelPair
from flows.graph.runner import Handle, known_folders, known_locations
from flows.graph.shared_steps import Once
from paraknow_core.errors import ParaknowError
from tasks.checks.preflight import Check
from tasks.engine.code.drift import must_rebuild
from tasks.engine.ref import Ref, ref_of
from tasks.engine.run import RunConfig
from tasks.engine.step import C, NotDownloadedError, Step, payload_of


class NotComputedError(ParaknowError):
    """A result is neither in this store nor in what it shares with others."""


class ElsewhereRun(RunConfig):
    """How steps are run on other machines; their device need not be here."""

    def device_type(self) -> str:
        """As set; ``auto`` is what this machine has."""
        return super().device_type() if self.device == "auto" else self.device


@dataclass
class StoredRunner:
    """A runner of which every step is a lookup; whatever is not stored fails with the reason.

    Of a result in the shared tier only the record is asked for, until somebody opens its files.

    Attributes:
        run: store and device.
        why: why what is not stored is lacking, as an error says it after the step's name.
        before: keys that were stored before; any other counts as computed meanwhile. None: all.
        missing: label → key of each step that was asked for and is not stored; "" for a key that
            is not known yet.
        refs: what is stored, in the order of the wiring.
    """

    run: RunConfig
    why: str = "not computed yet"
    before: Collection[str] | None = None
    missing: dict[str, str] = field(default_factory=dict)
    refs: list[Ref] = field(default_factory=list)
    plans: bool = field(default=False, init=False)

    def start(self, step: Step[C], config: C, *, label: str, **inputs: Handle) -> Handle:
        """Look a step's result up.

        Raises:
            NotComputedError: if it is not stored, the run is to rebuild it, or its key cannot be
                made as something of the Hub is not here.
        """
        given = {role: ref for role, handle in inputs.items() if (ref := handle.ref) is not None}
        try:
            source = step.source(config, given, self.run)
        except NotDownloadedError as error:
            self.missing[label] = ""
            raise NotComputedError(f"{label}: {error}") from error
        payload = payload_of(step, config=config, inputs=given, source=source, run=self.run)
        key, store = payload.key(), self.run.open_store()
        record = store.lookup_here(key) or store.record_elsewhere(key)
        if record is None or self._drifted(step, record, label):
            self.missing[label] = key
            raise NotComputedError(f"{label}: {self.why}")
        ref = ref_of(label, record, source, cached=self.before is None or key in self.before)
        self.refs.append(ref)
        return Handle(label, known=ref)

    def _drifted(self, step: Step[C], record: Record, label: str) -> bool:
        """Whether it is to be computed again; one that is used all the same was warned of."""
        mode = self.run.drift
        return mode != "warn" and must_rebuild(step.compute, record, mode, label=label)

    def __call__(self, step: Step[C], config: C, *, label: str, **inputs: Handle) -> Handle:
        """As `start`."""
        return self.start(step, config, label=label, **inputs)

    def check(
        self,
        check: Check,
        inputs: Mapping[str, Handle],
        *,
        before: Step[Any] | None = None,  # noqa: ARG002 - all stages are asked for
    ) -> None:
        """Run the check on the inputs' folders."""
        check(known_folders(self.run, inputs), known_locations(inputs))

    def facts(self, handle: Handle) -> Mapping[str, Any]:
        """Return the facts of a stored output."""
        if handle.known is None:
            return {}
        key, store = StepKey(handle.known.key), self.run.open_store()
        record = store.lookup_here(key) or store.record_elsewhere(key)
        return dict(record.facts) if record else {}

    def undecided(self, undecided: bool) -> AbstractContextManager[None]:  # noqa: ARG002
        """Nothing is undecided: what is not stored fails."""
        return nullcontext()


@dataclass(frozen=True)
class StoredCell:
    """What is stored of one pair on one task.

    Attributes:
        outcome: as if it had been run here; what is missing has failed in it.
        missing: label → key of the steps that are not stored.
        keys: of all that is stored of it.
    """

    outcome: CellOutcome
    missing: Mapping[str, str]
    keys: frozenset[str]


def stored_cell(
    config: CompareConfig,
    pair: PairConfig,
    task: TaskConfig,
    *,
    why: str = "not computed yet",
    before: Collection[str] | None = None,
    download: bool = False,
) -> StoredCell:
    """Look up all results of one pair on one task, as its methods would compute them.

    Args:
        config: of the comparison.
        pair: of it.
        task: of it.
        why: why what is not stored is lacking.
        before: keys that were stored before; any other counts as computed meanwhile. None: all.
        download: whether models and data sets of the Hub may be downloaded, if the run allows it:
            keys are made of their contents.
    """
    allowed = download and config.run.download
    run = ElsewhereRun(**{**dict(config.run), "download": allowed})
    do = StoredRunner(run, why, before)
    runners = [do]

    def run_arms(arms: Sequence[Arm], acquired: ModelPair) -> list[ArmOutcome]:
        runners.extend(StoredRunner(run, why, before) for _arm in arms)
        return [_arm(arm, acquired, own) for arm, own in zip(arms, runners[1:], strict=True)]

    outcome = Cell(config, pair, task).run(do, run_arms)
    outcome.refs = do.refs
    missing = {label: key for runner in runners for label, key in runner.missing.items()}
    keys = frozenset(ref.key for runner in runners for ref in runner.refs)
    return StoredCell(outcome, missing, keys)


def _arm(arm: Arm, acquired: ModelPair, do: StoredRunner) -> ArmOutcome:
    pair = replace(acquired, config=arm.settings, do=Once(do))
    found: list[ArmOutcome] = []

    def look() -> None:
        found.append(run_arm(arm, pair, do))

    reason = reason_of(look)
    outcome = found[0] if found else ArmOutcome(arm.config.name, arm.config.start, reason=reason)
    outcome.refs = do.refs
    return outcome
