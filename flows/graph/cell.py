"""One pair on one task of a comparison: what its methods share, and then the methods."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial

from artifacts.errors import StoreError
from flows.config.cells import PairConfig, TaskConfig
from flows.config.compare import ArmConfig, CompareConfig
from flows.graph.arm import Arm, ArmOutcome, SeedRun, attempt, reason_of
from flows.graph.benchmarks import Benchmark, acquire_benchmarks, run_benchmark
from flows.graph.judging import Verdicts, judged_seeds, seed_label
from flows.graph.pair import ModelPair, acquire_pair, check_devices, check_teachers
from flows.graph.runner import Handle, TrialRunner
from flows.graph.side_by_side import Together, one_by_one
from flows.graph.start_points import FOLLOWED
from flows.graph.teaching import check_teaching
from flows.graph.transfer_steps import measure, measure_teacher
from paraknow_core.errors import ParaknowError
from paraknow_core.methods import METHODS, TRANSFER
from tasks.checks.divergence import check_measured
from tasks.contamination import ContaminationConfig, check_contamination, contamination
from tasks.diagnose import LikenessConfig, likeness
from tasks.engine.ref import Ref
from tasks.teaching.arrival import ArrivalConfig, arrival

RunArms = Callable[[Sequence[Arm], ModelPair], list[ArmOutcome]]
"""Runs methods on what they share; what fails in one is noted in its outcome."""


@dataclass
class CellOutcome:
    """What came of one pair on one task; ``reason`` says why not even the methods began.

    Attributes:
        looks: outputs of diagnostic steps, by the name that the report knows them by.
        benchmarks: that are measured, in the order of the settings.
        scored: place of a benchmark → the untouched student's result.
        verdicts: what a judge says of the answers.
        refs: every shared step's output.
    """

    pair: PairConfig
    task: TaskConfig
    shared: ModelPair | None = None
    vanilla: Handle | None = None
    arms: list[ArmOutcome] = field(default_factory=list)
    reason: str = ""
    looks: dict[str, Handle] = field(default_factory=dict)
    look_reason: str = ""
    benchmarks: list[Benchmark] = field(default_factory=list)
    scored: dict[int, Handle] = field(default_factory=dict)
    verdicts: Verdicts = field(default_factory=Verdicts)
    refs: list[Ref] = field(default_factory=list)

    def failed(self, *, arms: int, seeds: int) -> int:
        """Count the seeds of methods that have no result; a diverged one has."""
        begun = [arm for arm in self.arms if not arm.reason]
        lost = sum(bool(run.reason) for arm in begun for run in arm.runs)
        return lost + seeds * (arms - len(begun))

    @property
    def first_reason(self) -> str:
        """Why the first result that is lacking is lacking."""
        runs = (run for arm in self.arms for run in arm.runs)
        told = (self.reason, *(a.reason for a in self.arms), *(r.reason for r in runs))
        return next((reason for reason in told if reason), "")


@dataclass(frozen=True)
class Cell:
    """One pair on one task, within its comparison."""

    config: CompareConfig
    pair: PairConfig
    task: TaskConfig

    def arm(self, arm: ArmConfig) -> Arm:
        """Return one method of the cell."""
        settings = self.config.transfer(self.pair, self.task, arm)
        return Arm.of(self.config, arm, settings)

    def run(
        self, do: TrialRunner, run_arms: RunArms, together: Together = one_by_one
    ) -> CellOutcome:
        """Acquire what the methods share, measure the untouched student, and run the methods.

        Args:
            do: carries the steps out.
            run_arms: runs the methods.
            together: runs benchmarks side by side.
        """
        outcome = CellOutcome(self.pair, self.task)
        outcome.reason = reason_of(partial(self._share, do, outcome))
        if outcome.shared is not None and not outcome.reason:
            outcome.arms = run_arms([self.arm(a) for a in self.config.arms], outcome.shared)
            self._find_diverged(do, outcome, outcome.shared)
            self._judge(do, outcome, outcome.shared)
            self._follow(outcome, outcome.shared)
            together(list(self._scoring(outcome, outcome.shared)))
        return outcome

    @staticmethod
    def _scoring(outcome: CellOutcome, pair: ModelPair) -> Iterator[Callable[[], None]]:
        """What measures the benchmarks: all adapters after each other, on a student loaded once.

        One that fails is noted with its method, and costs only itself; but a seed without the one
        that the verdict is about has no result.
        """
        sound = [
            (arm, run, run.adapter)
            for arm in outcome.arms
            for run in arm.runs
            if run.adapter is not None and not (run.reason or run.diverged)
        ]
        for number, which in enumerate(outcome.benchmarks):
            yield partial(_score_vanilla, outcome, pair, number)
            for arm, run, adapter in sound:
                label = f"{arm.name} seed {run.seed}"
                begin = partial(run_benchmark, pair, which, label, {"adapter": adapter})
                needed = pair.config.evaluate.primary_benchmark == number
                yield partial(_score, arm, run, number, which.title, begin, needed=needed)

    @staticmethod
    def _find_diverged(do: TrialRunner, outcome: CellOutcome, shared: ModelPair) -> None:
        """Find the seeds that diverged, by their answers against the untouched student's."""
        given = {"student": shared.student, "vanilla": outcome.vanilla}
        for run in (run for arm in outcome.arms for run in arm.runs):
            if run.reason or run.diverged:
                continue
            asked = {**given, "measured": run.measured}
            known = {role: handle for role, handle in asked.items() if handle is not None}
            attempt(run, partial(do.check, check_measured, known))

    def _judge(self, do: TrialRunner, outcome: CellOutcome, shared: ModelPair) -> None:
        """Have the answers of every seed judged; its items then hold what the judge says."""
        runs = {
            (arm.name, run.seed): run
            for arm in outcome.arms
            for run in arm.runs
            if run.measured is not None and not (run.reason or run.diverged)
        }
        answers = {which: run.measured for which, run in runs.items() if run.measured is not None}
        plain = next((a.name for a in self.config.arms if METHODS[a.start].is_plain), "")
        if outcome.vanilla is None or not answers:
            return
        try:
            outcome.verdicts = judged_seeds(shared, answers, outcome.vanilla, plain)
        except (ParaknowError, StoreError) as error:
            if do.plans:
                raise
            outcome.verdicts = Verdicts(reason=str(error).rstrip("."))
        for which, run in runs.items():
            run.measured = outcome.verdicts.measured.get(seed_label(*which), run.measured)

    def _follow(self, outcome: CellOutcome, pair: ModelPair) -> None:
        """Look for the teacher's novel directions in what every method's first seed delivered.

        Whatever a method started from, it is the same directions: so plain LoRA and the controls
        say how much of them comes with any training.
        """
        shown = (arm.looks.get(FOLLOWED) for arm in outcome.arms)
        directions = next((handle for handle in shown if handle is not None), None)
        if directions is None:
            return
        for config, arm in zip(self.config.arms, outcome.arms, strict=True):
            ended = (run for run in arm.runs if not (run.reason or run.diverged))
            adapter = next((run.adapter for run in ended if run.adapter is not None), None)
            if adapter is not None:
                how = ArrivalConfig(rank=self.arm(config).settings.lora.rank)
                given = {"student": pair.student, "novel": directions, "adapter": adapter}
                look = partial(pair.do, arrival, how, label=f"arrival {arm.name}", **given)
                arm.look_reason = arm.look_reason or reason_of(partial(_put, arm, look))

    def _share(self, do: TrialRunner, outcome: CellOutcome) -> None:
        settings = self.config.transfer(
            self.pair, self.task, ArmConfig(name="shared", method=TRANSFER)
        )
        used = {name: None for arm in self.config.arms for name in self._used_by(arm)}
        cuts = any(METHODS[name].cuts for name in used)
        outcome.shared = acquire_pair(settings, do, methods=(), cuts=cuts)
        pair = outcome.shared
        check_teachers(pair, used)
        for arm in self.config.arms:
            how = self.arm(arm).settings.finetune
            check_teaching(pair, how)
            if not self.config.fan_out.deployment:  # whose workers have GPUs of their own
                check_devices(pair, how)
        data = {"data": pair.data}
        overlap = pair.do(contamination, ContaminationConfig(), label="contamination", **data)
        allowed = partial(check_contamination, allow=self.config.may_overlap(self.task))
        pair.do.check(allowed, {"overlap": overlap})
        outcome.looks["overlap"] = overlap
        outcome.benchmarks = acquire_benchmarks(pair)
        outcome.vanilla = measure(pair, "vanilla")
        outcome.look_reason = reason_of(partial(self._look, pair, outcome))

    def _used_by(self, arm: ArmConfig) -> tuple[str, ...]:
        """The methods that an arm's start point comes from; a single role may have another's."""
        return self.arm(arm).settings.methods_used(arm.start)

    def _look(self, pair: ModelPair, outcome: CellOutcome) -> None:
        if self.config.proof.orders_pair(self.pair.name):
            outcome.looks["teacher-items"] = measure_teacher(pair)
        given = {"teacher": pair.teacher, "student": pair.student, "data": pair.data}
        outcome.looks["likeness"] = pair.do(likeness, LikenessConfig(), label="likeness", **given)


def _put(arm: ArmOutcome, look: Callable[[], Handle]) -> None:
    arm.looks["arrival"] = look()


def _score_vanilla(outcome: CellOutcome, pair: ModelPair, number: int) -> None:
    which = outcome.benchmarks[number]

    def begin() -> None:
        outcome.scored[number] = run_benchmark(pair, which, "vanilla")

    if reason := reason_of(begin):
        for arm in outcome.arms:
            arm.lost_scores[f"benchmark {which.title}, untouched student"] = reason


def _score(
    arm: ArmOutcome,
    run: SeedRun,
    number: int,
    title: str,
    begin: Callable[[], Handle],
    *,
    needed: bool,
) -> None:
    def put() -> None:
        run.scored[number] = begin()

    reason = reason_of(put)
    if reason and needed:
        run.reason = f"benchmark {title}: {reason}"
    elif reason:
        arm.lost_scores[f"benchmark {title}, seed {run.seed}"] = reason
