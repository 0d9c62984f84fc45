"""Measure a model on the test split: the metrics that are asked for, each item kept."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from paraknow_core.data import read_split
from paraknow_core.errors import ConfigError, NumericsError
from paraknow_core.evaluation.long_prompts import LongPrompts
from paraknow_core.evaluation.match import MATCHES
from paraknow_core.evaluation.metric import Metric
from paraknow_core.evaluation.metrics import (
    LOSS,
    METRICS,
    REPORTED,
    EvaluationResult,
    primary_metric,
)
from paraknow_core.inspection.cost import evaluation_work
from paraknow_core.inspection.evaluation_memory import evaluation_bytes
from paraknow_core.setting_types import BatchSize, Count, EachOnce, OneOf, Text
from paraknow_core.settings import Settings, execution, later
from tasks.engine.estimates import (
    Estimate,
    Foreseen,
    bytes_each,
    longest_row,
    rows_of,
    tokens_of,
)
from tasks.engine.json_files import finite, write_json
from tasks.engine.progress import logger
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step
from tasks.harness.config import OWN_BENCHMARK, HarnessConfig, HarnessTask


def _is_measured_here(metric: Metric) -> bool:
    return not (metric.is_judged or metric.source)


MetricName = Annotated[str, OneOf("metric", METRICS, fits=_is_measured_here)]
"""Of those that the evaluation measures itself; the judge's have a step of their own."""


class EvaluateConfig(Settings):
    """How the test split is measured, through lm-evaluation-harness."""

    match: Annotated[str, OneOf("match", MATCHES)] = Field(
        "exact",
        title="Match",
        description="What counts as correct: exact, last_number (GSM8K), or letter (MMLU).",
    )
    max_new_tokens: Count = Field(256, title="Longest answer", description="Tokens generated.")
    primary: Annotated[Text, OneOf("metric", METRICS)] = execution(
        LOSS,
        title="Primary metric",
        description="What the verdict is about; the others are reported beside it. win_rate takes "
        "a judge; a benchmark's metric is named with the benchmark, as in hellaswag:acc_norm or "
        "gsm8k 8-shot:exact_match,strict-match.",
    )
    metrics: Annotated[tuple[MetricName, ...], EachOnce] = later(
        REPORTED,
        title="Metrics",
        description=f"What is measured; the primary one and {LOSS} always are.",
        validate_default=True,
    )
    compute_dtype: Literal["float32", "bfloat16"] = Field("float32", title="Compute dtype")
    long_prompts: LongPrompts = later(
        "refuse",
        title="Long prompts",
        description="Of rows that leave the model no room to answer: refuse; cut: the prompt loses "
        "its beginning; leave-out: the row is not asked. Both are counted.",
    )
    batch_size: BatchSize = execution(16, title="Batch size", description="Rows a forward pass.")
    tasks: tuple[HarnessTask, ...] = execution(
        (),
        title="Benchmarks",
        description="Tasks of lm-evaluation-harness that are measured as well, by its own rules, "
        "such as [gsm8k, {task: mmlu, shots: 5}]. Each is a step of its own. own: the one that the "
        "task's file names.",
    )
    harness: HarnessConfig = execution(HarnessConfig(), title="How benchmarks are run")

    @field_validator("primary")
    @classmethod
    def _can_be_primary(cls, name: str) -> str:
        try:
            return primary_metric(name).name
        except ConfigError as error:
            raise ValueError(str(error)) from error

    @field_validator("tasks", mode="before")
    @classmethod
    def _as_list(cls, given: Any) -> Any:
        """Take a single benchmark as a list of one."""
        if given == OWN_BENCHMARK:
            msg = (
                f"{OWN_BENCHMARK} stands for the harness task that a task's file names, and no "
                "such file is named here; set task, or name the benchmarks"
            )
            raise ValueError(msg)
        return [given] if isinstance(given, str | Mapping) else given

    @field_validator("tasks")
    @classmethod
    def _each_once(cls, tasks: tuple[HarnessTask, ...]) -> tuple[HarnessTask, ...]:
        titles = [task.title for task in tasks]
        if doubles := sorted({title for title in titles if titles.count(title) > 1}):
            msg = f"given twice: {', '.join(doubles)}; each use needs other shots or another limit"
            raise ValueError(msg)
        return tasks

    @model_validator(mode="after")
    def _has_the_primary_benchmark(self) -> Self:
        source, titles = METRICS[self.primary].source, [task.title for task in self.tasks]
        if source and source not in titles:
            near = difflib.get_close_matches(source, titles, n=1, cutoff=0.0)
            hint = f"{', '.join(titles)} (did you mean {near[0]!r}?)" if near else "they are empty"
            msg = (
                f"primary is {self.primary}, a metric of the benchmark {source!r}, which is not "
                f"among evaluate.tasks: {hint}"
            )
            raise ValueError(msg)
        return self

    @property
    def primary_benchmark(self) -> int | None:
        """Place of the benchmark that the verdict is about; None: it is about the test split."""
        source = METRICS[self.primary].source
        return next((n for n, task in enumerate(self.tasks) if task.title == source), None)

    @field_validator("metrics")
    @classmethod
    def _with_the_primary(cls, names: tuple[str, ...], given: ValidationInfo) -> tuple[str, ...]:
        """Add what is always measured; one order, so that equal choices have equal keys."""
        primary = given.data.get("primary", LOSS)
        own = (primary,) if _is_measured_here(METRICS[primary]) else ()
        return METRICS.among((LOSS, *own, *names))


def _compute(job: Job[EvaluateConfig]) -> Facts:
    """Measure the likelihood of the answers, and greedy answers, item by item.

    A number that is not finite is stored as missing, with the number of items that caused it.
    """
    from paraknow_core.evaluation.evaluate import evaluate as measure
    from paraknow_core.evaluation.items import write_items
    from paraknow_core.models.load import load_tokenizer

    result = measure(
        _model(job),
        load_tokenizer(job.locations["student"]),
        read_split(job.inputs["data"] / "test.parquet"),
        match=job.config.match,
        metrics=job.config.metrics,
        max_new_tokens=job.config.max_new_tokens,
        batch_size=job.config.batch_size,
        long_prompts=job.config.long_prompts,
        progress=job.progress,
    )
    if result.not_finite and "adapter" not in job.inputs:
        raise NumericsError(
            f"the untouched student's answer likelihood is NaN or infinite in {result.not_finite} "
            f"of {len(result.items)} test rows: its weights or activations overflow. Evaluate in "
            "float32 (evaluate.compute_dtype), or take another student."
        )
    metrics = finite(result.metrics)
    if result.not_finite:
        metrics["not_finite"] = result.not_finite
    metrics |= _tell_long(job, result)
    write_items(job.out / "items.parquet", result.items)
    write_json(job.out / "metrics.json", metrics)
    return dict(metrics)


def _tell_long(job: Job[EvaluateConfig], result: EvaluationResult) -> dict[str, int]:
    """Warn of rows that were too long, and count them; nothing where there are none."""
    rows = len(result.items) + result.left_out
    found = {}
    for name, count, told in (
        ("prompts_cut", result.cut, "lost the beginning of their prompts"),
        ("left_out", result.left_out, "were too long and not asked"),
    ):
        if count:
            found[name] = count
            logger.warning("%s: %d of %d test rows %s", job.label, count, rows, told)
    return found


def _model(job: Job[EvaluateConfig]) -> Any:
    from paraknow_core.models.load import load_model, parse_dtype, pick_device

    device = pick_device(job.run.device)
    dtype = parse_dtype(job.config.compute_dtype)
    model = load_model(job.locations["student"], dtype=dtype, device=device)
    if "adapter" not in job.inputs:
        return model
    from peft import PeftModel

    from paraknow_core.lora.anchored_model import quiet_peft

    with quiet_peft():
        return PeftModel.from_pretrained(model, str(job.inputs["adapter"])).eval()


def _numerics(config: EvaluateConfig, run: RunConfig) -> Mapping[str, str | bool]:
    return {"compute": config.compute_dtype, "device": run.device_type(), "tf32": False}


def _estimate(config: EvaluateConfig, known: Foreseen) -> Estimate:
    """The student and a batch in memory; what is written is small."""
    student = known.architecture("student")
    rows, read = rows_of(known, "test"), tokens_of(known, "test")
    each = bytes_each(config.compute_dtype)
    return Estimate(
        memory_bytes=evaluation_bytes(
            student,
            element_bytes=each,
            rows=config.batch_size,
            tokens=longest_row(known, "test"),
            answer=config.max_new_tokens,
        ),
        disk_bytes=1_000_000,
        tokens=read,
        work=None
        if rows is None or read is None
        else evaluation_work(
            student,
            rows=rows,
            tokens=read,
            answer=config.max_new_tokens,
            batch=config.batch_size,
            element_bytes=each,
        ),
    )


evaluate = Step(
    name="evaluate",
    stage=Stage.EVALUATE,
    version=1,
    compute=_compute,
    reads={
        "student": ("manifest.json",),
        "adapter": ("adapter_model.safetensors", "adapter_config.json"),
        "data": ("test.parquet",),
    },
    opens=("student",),
    numerics=_numerics,
    estimate=_estimate,
    threaded=True,
    sized_by=("student",),
)
