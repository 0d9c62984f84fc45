"""The benchmarks of a pair: acquired before anything expensive, and run on what was trained."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from flows.graph.pair import ModelPair
from flows.graph.runner import Handle
from tasks.checks.benchmarks import check_chat_template, check_primary, check_room
from tasks.checks.divergence import check_adapter
from tasks.harness.benchmark import BenchmarkConfig, benchmark
from tasks.harness.benchmark_tasks import BenchmarkTasksConfig, benchmark_tasks


@dataclass(frozen=True)
class Benchmark:
    """One benchmark of a pair.

    Attributes:
        title: how it is called.
        config: how a model is asked.
        tasks: its questions, acquired.
    """

    title: str
    config: BenchmarkConfig
    tasks: Handle


def acquire_benchmarks(pair: ModelPair) -> list[Benchmark]:
    """Acquire what the settings name, so that whatever cannot be run is refused at once.

    Raises:
        ConfigError: for an unknown task, a definition with faults, a primary metric that it does
            not have, or a student without the chat template that is asked for, or without room
            for the answers.
        DataError: for data that cannot be had or used.
    """
    settings = pair.config.evaluate
    if not settings.tasks:
        return []
    if settings.harness.chat_template:
        pair.do.check(check_chat_template, {"student": pair.student})
    found: list[Benchmark] = []
    for task in settings.tasks:
        config = BenchmarkConfig.of(task, settings.harness, settings.compute_dtype)
        asked = BenchmarkTasksConfig.of(task, settings.harness.include_path)
        label = f"benchmark tasks {task.title}"
        tasks = pair.do(benchmark_tasks, asked, label=label)
        fits = partial(check_room, max_gen_toks=settings.harness.max_gen_toks)
        pair.do.check(fits, {"student": pair.student, "tasks": tasks})
        if settings.primary_benchmark == len(found):
            about = partial(check_primary, name=settings.primary)
            pair.do.check(about, {"tasks": tasks})
        found.append(Benchmark(task.title, config, tasks))
    return found


def run_benchmark(
    pair: ModelPair,
    which: Benchmark,
    arm: str,
    adapter: Mapping[str, Handle] = MappingProxyType({}),
) -> Handle:
    """Measure the student on a benchmark, with an adapter or as it is.

    Args:
        pair: whose student it is.
        which: of ``acquire_benchmarks``.
        arm: how the adapter is called, or ``vanilla``.
        adapter: what was trained, as an input of the step; nothing for the student as it is.

    Raises:
        DivergedError: if the adapter's training ended in none.
    """
    pair.do.check(check_adapter, adapter)
    given = {"student": pair.student, "tasks": which.tasks, **adapter}
    return pair.do(benchmark, which.config, label=f"benchmark {which.title} {arm}", **given)
