"""The steps of one transfer and what each takes from which; flow and plan both follow it."""

from flows.config.transfer import TransferConfig
from flows.graph.benchmarks import acquire_benchmarks, run_benchmark
from flows.graph.judging import judged_arms
from flows.graph.pair import ModelPair, acquire_pair, check_devices, check_teachers
from flows.graph.runner import Handle, Runner
from flows.graph.start_points import shown_of, start_point
from flows.graph.teaching import check_teaching, targets_for
from paraknow_core.errors import DivergedError
from paraknow_core.methods import VANILLA
from tasks.checks.divergence import check_adapter, check_measured
from tasks.evaluate import evaluate
from tasks.finetune import finetune
from tasks.harness.reported import benchmark_role
from tasks.report import ReportConfig, report


def wire(config: TransferConfig, do: Runner) -> None:
    """Run one teacher/student pair: the untouched student, and every arm's start point trained."""
    pair = acquire_pair(config, do)
    check_teaching(pair, config.finetune)
    check_devices(pair, config.finetune)
    arms = config.chosen_arms()
    check_teachers(pair, (name for arm in arms for name in config.methods_used(arm)))
    benchmarks = acquire_benchmarks(pair)
    seed, main = config.finetune.seed, config.transfer_arm
    start_point(main, pair, seed=seed)  # first, so that shared steps come in their usual order
    results = {VANILLA: measure(pair, VANILLA)}
    adapters: dict[str, Handle] = {}
    diverged: dict[str, str] = {}
    for arm in arms:
        start = start_point(arm, pair, seed=seed)
        rate = config.learning_rate(arm)
        try:
            adapter = train(pair, arm, start, learning_rate=rate, seed=seed)
            results[arm] = measure(pair, arm, adapter=adapter)
            beside = {"vanilla": results[VANILLA], "student": pair.student}
            pair.do.check(check_measured, {"measured": results[arm], **beside})
            adapters[arm] = adapter
        except DivergedError as error:  # the other arms go on, and the report says so
            diverged[arm] = str(error)
    shown = shown_of(main, pair, seed=seed)
    drawn = {role: handle for role, handle in shown.items() if role in report.reads}
    # One after another, so that the student is loaded once for all adapters.
    measured: list[tuple[str, dict[str, Handle]]] = [(VANILLA, {})]
    measured += [(arm, {"adapter": adapter}) for arm, adapter in adapters.items()]
    scored = {
        benchmark_role(number, arm): run_benchmark(pair, which, arm, given)
        for number, which in enumerate(benchmarks)
        for arm, given in measured
    }
    verdicts = judged_arms(pair, results, diverged)
    notes = () if config.problems else config.data.notes()
    told = ReportConfig(
        diverged=diverged,
        primary=verdicts.primary(config.evaluate),
        metrics=verdicts.metrics(config.evaluate),
        notes=(*notes, *([verdicts.note] if verdicts.note else [])),
        benchmarks=tuple(which.title for which in benchmarks),
    )
    pair.do(report, told, label="report", **drawn, **(verdicts.measured or results), **scored)


def train(pair: ModelPair, arm: str, start: Handle, *, learning_rate: float, seed: int) -> Handle:
    """Train a start point."""
    how = pair.config.finetune.model_copy(update={"learning_rate": learning_rate, "seed": seed})
    given = {"student": pair.student, "data": pair.data, **targets_for(pair, how)}
    return pair.do(finetune, how, label=f"finetune {arm}", start=start, **given)


def measure_teacher(pair: ModelPair) -> Handle:
    """Measure the teacher itself on the test split."""
    given = {"student": pair.teacher, "data": pair.data}
    return pair.do(evaluate, pair.config.evaluate, label="evaluate teacher", **given)


def measure(pair: ModelPair, arm: str, **adapter: Handle) -> Handle:
    """Measure the student on the test split, with an adapter or as it is.

    Raises:
        DivergedError: if the adapter's training ended in none.
    """
    pair.do.check(check_adapter, adapter)
    given = {"student": pair.student, "data": pair.data, **adapter}
    return pair.do(evaluate, pair.config.evaluate, label=f"evaluate {arm}", **given)
