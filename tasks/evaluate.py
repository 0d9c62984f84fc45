"""Measure a model on the test split: answer NLL, perplexity, exact match, each item kept."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from paraknow_core.data import read_split
from paraknow_core.errors import NumericsError
from paraknow_core.evaluation.match import MATCHES
from paraknow_core.inspection.cost import logits_bytes
from paraknow_core.setting_types import BatchSize, Count, OneOf
from paraknow_core.settings import Settings, execution
from tasks.engine.estimates import Estimate, Foreseen, bytes_each, longest_row, tokens_of
from tasks.engine.json_files import finite, write_json
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step


class EvaluateConfig(Settings):
    """How the test split is measured, through lm-evaluation-harness."""

    match: Annotated[str, OneOf("match", MATCHES)] = Field(
        "exact", title="Match", description="What counts as correct: exact, or last_number (GSM8K)."
    )
    max_new_tokens: Count = Field(256, title="Longest answer", description="Tokens generated.")
    compute_dtype: Literal["float32", "bfloat16"] = Field("float32", title="Compute dtype")
    batch_size: BatchSize = execution(16, title="Batch size", description="Rows a forward pass.")


def _compute(job: Job[EvaluateConfig]) -> Facts:
    """Measure answer NLL, perplexity and exact match of greedy answers, item by item.

    A number that is not finite is stored as missing, beside how many items are to blame.
    """
    from paraknow_core.evaluation.evaluate import evaluate as measure
    from paraknow_core.evaluation.items import write_items
    from paraknow_core.models.load import load_tokenizer

    result = measure(
        _model(job),
        load_tokenizer(job.locations["student"]),
        read_split(job.inputs["data"] / "test.parquet"),
        match=job.config.match,
        max_new_tokens=job.config.max_new_tokens,
        batch_size=job.config.batch_size,
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
    write_items(job.out / "items.parquet", result.items)
    write_json(job.out / "metrics.json", metrics)
    return dict(metrics)


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
    """The student and the logits of a batch in memory; what is written is small."""
    student = known.architecture("student")
    batch = logits_bytes(student, config.batch_size * longest_row(known, "test"))
    return Estimate(
        memory_bytes=student.num_parameters * bytes_each(config.compute_dtype) + batch,
        disk_bytes=1_000_000,
        tokens=tokens_of(known, "test"),
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
