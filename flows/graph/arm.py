"""One method of a comparison on one pair and task: tune its rate, then run every seed."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial

from flows.config.compare import ArmConfig, CompareConfig
from flows.config.transfer import TransferConfig
from flows.graph.pair import ModelPair
from flows.graph.runner import Handle, TrialRunner
from flows.graph.side_by_side import Together, one_by_one
from flows.graph.start_points import shown_of, start_point
from flows.graph.teaching import targets_for
from flows.graph.transfer_steps import measure
from paraknow_core.errors import ConfigError, DivergedError
from paraknow_core.statistics.rate_search import RateSearch
from tasks.checks.divergence import check_trial
from tasks.diagnose import DiagnoseConfig, diagnose
from tasks.engine.ref import Ref
from tasks.engine.workers import WorkersClosedError
from tasks.finetune import FinetuneConfig, finetune


@dataclass
class RateTrial:
    """One learning rate tried with one seed; ``nll`` is the loss on validation.

    Attributes:
        diverged: by which rule its training diverged: an outcome, where ``reason`` is a
            failure.
    """

    rate: float
    seed: int
    nll: float | None = None
    reason: str = ""
    diverged: str = ""
    adapter: Handle | None = None


@dataclass
class SeedRun:
    """One seed on the test split, or the reason why it has no result that counts.

    Attributes:
        untrained: the measured student with the start product added, if that is asked for.
        diverged: by which rule its training diverged: an outcome, where ``reason`` is a
            failure.
        scored: place of a benchmark → its result.
    """

    seed: int
    start: Handle | None = None
    adapter: Handle | None = None
    measured: Handle | None = None
    untrained: Handle | None = None
    reason: str = ""
    diverged: str = ""
    scored: dict[int, Handle] = field(default_factory=dict)


@dataclass
class ArmOutcome:
    """What came of one method.

    Attributes:
        at_edge: whether the best rate is the least or greatest one tried: a better may lie beyond.
        diverged: why no seed was run, if every learning rate diverged.
        looks: outputs of diagnostic steps, by the name that the report knows them by.
        lost_scores: which benchmark gave no result → why.
        refs: every step's output, those that were shared among them.
    """

    name: str
    start: str
    trials: list[RateTrial] = field(default_factory=list)
    rate: float | None = None
    at_edge: bool = False
    runs: list[SeedRun] = field(default_factory=list)
    reason: str = ""
    diverged: str = ""
    looks: dict[str, Handle] = field(default_factory=dict)
    look_reason: str = ""
    lost_scores: dict[str, str] = field(default_factory=dict)
    refs: list[Ref] = field(default_factory=list)


@dataclass(frozen=True)
class Arm:
    """One method with its settings on one pair and task."""

    config: ArmConfig
    settings: TransferConfig
    search: RateSearch
    seeds: Sequence[int]
    step_zero: bool = False

    @classmethod
    def of(cls, config: CompareConfig, arm: ArmConfig, settings: TransferConfig) -> "Arm":
        """Give a method the comparison's tuning and seeds."""
        search, zero = config.search_of(arm), config.proof.step_zero
        return cls(arm, settings, search, config.seeds, zero)

    def training(self, seed: int, rate: float) -> FinetuneConfig:
        """Return the settings of one training."""
        return self.settings.finetune.model_copy(update={"seed": seed, "learning_rate": rate})


def run_arm(
    arm: Arm, pair: ModelPair, do: TrialRunner, together: Together = one_by_one
) -> ArmOutcome:
    """Tune one method and run its seeds; what fails is noted, and the rest continues.

    Without tuning seeds there are no trials, and the one rate that is given is used.

    Args:
        arm: the method.
        pair: models and data, with this method's settings.
        do: the runner below ``pair.do``.
        together: runs trials, and then seeds, side by side.
    """
    outcome = ArmOutcome(arm.config.name, arm.config.start)
    _tune(arm, pair, do, together, outcome)
    if outcome.rate is None and not (do.plans and _is_open(outcome.trials)):
        _tell_why(outcome)
        return outcome
    outcome.runs = [SeedRun(seed) for seed in arm.seeds]
    together(
        [
            partial(attempt, run, partial(_run, arm, pair, do, run, outcome.rate))
            for run in outcome.runs
        ]
    )

    def look() -> None:
        outcome.look_reason = reason_of(partial(_look, arm, pair, outcome))

    together([look])
    return outcome


def _tune(
    arm: Arm, pair: ModelPair, do: TrialRunner, together: Together, outcome: ArmOutcome
) -> None:
    """Try learning rates until the search is over; a plan ends where losses are not known."""
    if not arm.search.seeds:
        outcome.rate = arm.search.rates[0]
        return
    while wanted := arm.search.wanted(losses_of(outcome.trials)):
        trials = [RateTrial(rate, seed) for rate, seed in wanted]
        outcome.trials += trials
        together([partial(attempt, trial, partial(_try, arm, pair, do, trial)) for trial in trials])
        if _is_open(trials):
            _foresee(arm, pair, do, outcome)
            return
    found = losses_of(outcome.trials)
    outcome.rate, outcome.at_edge = arm.search.best(found), arm.search.at_edge(found)


def _foresee(arm: Arm, pair: ModelPair, do: TrialRunner, outcome: ArmOutcome) -> None:
    """Plan the trials of further seeds: how many is known, with which rates is not."""
    planned = {(trial.rate, trial.seed) for trial in outcome.trials}
    for rate, seed in arm.search.without_surprise():
        if (rate, seed) not in planned:
            with do.undecided(undecided=True):
                trial = RateTrial(rate, seed)
                attempt(trial, partial(_try, arm, pair, do, trial))


def losses_of(trials: Sequence[RateTrial]) -> dict[tuple[float, int], float]:
    """Loss of every trial that ended; infinite for one that failed or diverged."""
    ended = [t for t in trials if t.nll is not None or t.reason or t.diverged]
    return {
        (t.rate, t.seed): math.inf if t.reason or t.diverged or t.nll is None else t.nll
        for t in ended
    }


def _is_open(trials: Sequence[RateTrial]) -> bool:
    """Whether a trial is neither done, nor failed, nor diverged, as in a plan."""
    return any(t.nll is None and not t.reason and not t.diverged for t in trials)


def _tell_why(outcome: ArmOutcome) -> None:
    """Say why no rate is left: all diverged, or what failed."""
    told = [
        f"{trial.rate:g} ({trial.diverged.removeprefix('diverged: ')})"
        for trial in outcome.trials
        if trial.diverged
    ]
    failed = sorted({trial.reason for trial in outcome.trials if trial.reason})
    if failed:
        outcome.reason = f"no learning rate could be trained: {'; '.join(failed)}"
        if told:
            outcome.reason += f"; diverged: {'; '.join(told)}"
    else:
        outcome.diverged = f"every learning rate that was tried diverged: {'; '.join(told)}"


def attempt(of: RateTrial | SeedRun, work: Callable[[], None]) -> None:
    """Do the work of a trial or seed, and note there whether it failed or diverged."""

    def watched() -> None:
        try:
            work()
        except DivergedError as error:
            of.diverged = str(error)

    of.reason = reason_of(watched)


def reason_of(work: Callable[[], None]) -> str:
    """Do the work; return why it failed, or nothing. A cancelled run is not a failed one."""
    try:
        work()
    except WorkersClosedError:
        raise
    except Exception as error:
        from prefect.exceptions import Abort, CancelledRun  # plans go without Prefect

        if isinstance(error, Abort | CancelledRun):
            raise
        return f"{type(error).__name__}: {error}"
    return ""


def _try(arm: Arm, pair: ModelPair, do: TrialRunner, trial: RateTrial) -> None:
    start = start_point(arm.config.start, pair, seed=trial.seed)
    label = f"{arm.config.name} lr {trial.rate:g} seed {trial.seed}"
    trial.adapter = _train(pair, start, arm.training(trial.seed, trial.rate), label)
    pair.do.check(check_trial, {"adapter": trial.adapter, "student": pair.student})
    facts = do.facts(trial.adapter)
    if not facts:
        return  # a plan does not know it yet
    if facts.get("validation_nll") is None:
        raise ConfigError(
            "a learning rate is chosen by the loss on the validation split, which is empty; give "
            "it rows (data.sizes.validation)"
        )
    trial.nll = float(facts["validation_nll"])


def _run(arm: Arm, pair: ModelPair, do: TrialRunner, run: SeedRun, rate: float | None) -> None:
    run.start = start_point(arm.config.start, pair, seed=run.seed)
    label = f"{arm.config.name} seed {run.seed}"
    with do.undecided(rate is None):  # a plan may not know the rate yet: any stands for it
        training = arm.training(run.seed, rate or arm.search.rates[0])
        run.adapter = _train(pair, run.start, training, label)
        run.measured = measure(pair, label, adapter=run.adapter)


def _look(arm: Arm, pair: ModelPair, outcome: ArmOutcome) -> None:
    """Look at start points untrained, and at what of a teacher the first seed's comes from."""
    if arm.step_zero:
        for run in outcome.runs:
            if run.start is not None:
                told = f"{arm.config.name} seed {run.seed} untrained"
                run.untrained = measure(pair, told, adapter=run.start)
    start = next((run.start for run in outcome.runs if run.start is not None), None)
    if start is None:
        return
    outcome.looks |= shown_of(arm.config.start, pair, seed=arm.seeds[0])
    label = f"diagnose {arm.config.name}"
    given = {"student": pair.student, "start": start}
    outcome.looks["diagnose"] = pair.do(diagnose, DiagnoseConfig(), label=label, **given)


def _train(pair: ModelPair, start: Handle, training: FinetuneConfig, label: str) -> Handle:
    given = {"student": pair.student, "start": start, "data": pair.data}
    given |= targets_for(pair, training)
    return pair.do(finetune, training, label=f"finetune {label}", **given)
