"""Measure a model on a benchmark, by lm-evaluation-harness's own filters and metrics."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Literal

from paraknow_core.inspection.cost import logits_bytes
from paraknow_core.setting_types import Count
from paraknow_core.settings import execution
from tasks.engine.estimates import Estimate, Foreseen, bytes_each
from tasks.engine.json_files import read_json, write_json
from tasks.engine.kept import kept
from tasks.engine.progress import logger
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step
from tasks.harness.benchmark_tasks import FOLDERS, TASKS, BenchmarkTasksConfig
from tasks.harness.config import HarnessConfig, HarnessTask, PromptConfig, title_of

_ROW_TOKENS = 1024
"""Of a prompt with examples and its answer, as far as a plan knows."""


class BenchmarkConfig(PromptConfig):
    """How a model is asked. Which tasks it is asked is in the step's input, by content."""

    limit: Count | None = None
    compute_dtype: Literal["float32", "bfloat16"] = "float32"
    task: BenchmarkTasksConfig = execution(..., description="Where definitions and data lie.")

    @classmethod
    def of(cls, task: HarnessTask, shared: HarnessConfig, dtype: str) -> "BenchmarkConfig":
        """Put one benchmark's settings and those of all together."""
        said = {name: getattr(shared, name) for name in PromptConfig.model_fields}
        where = BenchmarkTasksConfig.of(task, shared.include_path)
        return cls(**said, limit=task.limit, compute_dtype=dtype, task=where)


def _compute(job: Job[BenchmarkConfig]) -> Facts:
    """Ask every question, and keep every score and every answer."""
    from paraknow_core.evaluation.benchmarks.described import check_same
    from paraknow_core.evaluation.benchmarks.opened import opened
    from paraknow_core.evaluation.benchmarks.run import run_benchmark
    from paraknow_core.evaluation.benchmarks.scores import (
        ANSWERS,
        SCORES,
        score_name,
        scores_json,
        write_answers,
    )
    from paraknow_core.evaluation.benchmarks.wanted import Asking
    from paraknow_core.models.load import load_tokenizer

    config, acquired = job.config, job.inputs["tasks"]
    seeds = config.seeds
    asking = Asking(
        limit=config.limit,
        chat_template=config.chat_template,
        multiturn=config.multiturn,
        system=config.system,
        max_gen_toks=config.max_gen_toks,
        batch_size=config.batch_size,
        max_batch_size=config.max_batch_size,
        seeds=(seeds.random, seeds.numpy, seeds.torch, seeds.fewshot),
    )
    with opened(config.task.wanted, read_json(acquired / FOLDERS)) as asked:
        check_same(asked, read_json(acquired / TASKS))
        with _model(job) as model:
            tokenizer = load_tokenizer(job.locations["student"])
            found = run_benchmark(model, tokenizer, asked, asking, progress=job.progress)
    write_json(job.out / SCORES, scores_json(found))
    write_answers(job.out / ANSWERS, found.answers)
    if found.cut:
        logger.warning(
            "%s: %d prompts lost their beginning, as the model takes no more", job.label, found.cut
        )
    title = title_of(config.task.task, config.task.shots, config.limit)
    return {
        "benchmark": title,
        "scores": {score_name(title, s): s.value for s in found.scores if s.is_root},
        "answers": len(found.answers),
        "prompts_cut": found.cut,
        "lm_eval": found.harness,
    }


@contextmanager
def _model(job: Job[BenchmarkConfig]) -> Iterator[Any]:
    """The student with the adapter, if there is one; the student is loaded once for several."""
    from paraknow_core.models.load import pick_device

    device, dtype = pick_device(job.run.device), job.config.compute_dtype
    source = job.sources["student"]
    made_of = (str(source.place), sorted(source.digests.items()), dtype, device)
    with kept(_compute, made_of, partial(_load, source.place, dtype, device)) as base:
        if "adapter" not in job.inputs:
            yield base
            return
        from peft import PeftModel

        from paraknow_core.lora.anchored_model import quiet_peft

        with quiet_peft():
            adapted = PeftModel.from_pretrained(base, str(job.inputs["adapter"])).eval()
        yield adapted
        adapted.unload()  # the student as it was: its own weights are never changed
        if hasattr(base, "peft_config"):
            del base.peft_config


def _load(folder: Path, dtype: str, device: str) -> Any:
    """Load the student as the harness does: with the generation settings that it comes with."""
    from paraknow_core.models.generation import load_generation_config
    from paraknow_core.models.load import load_model, parse_dtype

    model = load_model(folder, dtype=parse_dtype(dtype), device=device)
    own = load_generation_config(folder)
    if own is not None:
        model.generation_config = own
    return model


def _numerics(config: BenchmarkConfig, run: RunConfig) -> Mapping[str, str | bool]:
    return {"compute": config.compute_dtype, "device": run.device_type(), "tf32": False}


def _estimate(config: BenchmarkConfig, known: Foreseen) -> Estimate:
    """The student and the logits of a batch in memory; answers on disk are a few kB each."""
    student = known.architecture("student")
    asked = config.batch_size if isinstance(config.batch_size, int) else config.max_batch_size
    questions = 1000
    if "tasks" in known.folders:
        tasks = read_json(known.folders["tasks"] / TASKS)["tasks"].values()
        questions = sum(min(one["questions"], config.limit or one["questions"]) for one in tasks)
    batch = logits_bytes(student, asked * _ROW_TOKENS, whole=True)
    return Estimate(
        memory_bytes=student.num_parameters * bytes_each(config.compute_dtype) + batch,
        disk_bytes=2048 * questions,
        tokens=_ROW_TOKENS * questions,
    )


benchmark = Step(
    name="benchmark",
    stage=Stage.EVALUATE,
    version=1,
    compute=_compute,
    reads={
        "student": ("manifest.json",),
        "adapter": ("adapter_model.safetensors", "adapter_config.json"),
        "tasks": (TASKS,),
    },
    opens=("student",),
    numerics=_numerics,
    estimate=_estimate,
    threaded=True,
    sized_by=("student",),
)
