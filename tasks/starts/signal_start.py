"""An update from a teacher's signals: what the student should become, before any training."""

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import Field

from paraknow_core.alignment.tokens import check_share
from paraknow_core.data import read_split, tokenise_all
from paraknow_core.methods import METHODS
from paraknow_core.models.describe import Role
from paraknow_core.setting_types import OneOf, Rank, Scale, Seed, Share, Tokens
from paraknow_core.settings import Settings
from tasks.acquire_model import load_architecture
from tasks.checks.cut_rows import tell_cut
from tasks.engine.estimates import Estimate, Foreseen, adapter_bytes, tokens_of
from tasks.engine.json_files import write_json
from tasks.engine.progress import logger
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step
from tasks.extract import ExtractConfig, Roles
from tasks.rows.shared_tokens import least_vocabulary_share, tokenizer_digests
from tasks.vocabulary import match_tokenizers

_ALL_ROLES = ExtractConfig().roles
_BUILDER = "signals"
METHODS_OWN = "update"
"""Role of the method's own update, whose size a control's gets."""


class SignalOptionsConfig(Settings):
    """How signals are turned into an update."""

    scale: Scale | None = Field(
        None,
        title="Scale",
        description="Of the whole update. Unset, methods that look at outputs take the scale with "
        "the least divergence from the teacher on the half of the seed texts that the update was "
        "not made of; others take 1.",
    )
    ridge: Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)] = Field(
        0.01,
        title="Ridge",
        description="Against large changes, over the mean square of the inputs; 0 is refused where "
        "there are more unknowns than positions.",
    )
    answers_only: bool = Field(
        False,
        title="Answers only",
        description="Count only positions that predict an answer token: then the seeds' labels "
        "are looked at.",
    )
    cutoff: Tokens = Field(2048, title="Cut-off", description="Tokens kept of each seed sample.")


class SignalStartConfig(Settings):
    """Which signals, and how large the adapter is."""

    method: Annotated[
        str,
        OneOf("signal", METHODS, fits=lambda m: m.builder == _BUILDER and m.is_transfer),
    ] = Field(title="Method")
    rank: Rank = Field(16, title="Rank")
    alpha: Scale = Field(16.0, title="Alpha", description="PEFT scales B·A by alpha / rank.")
    roles: Roles = Field(_ALL_ROLES, min_length=1, title="Roles")
    options: SignalOptionsConfig = Field(SignalOptionsConfig(), title="Options")
    shuffle: bool = Field(
        False,
        title="Shuffled signals",
        description="A control: the teacher's signals are those of other positions or tokens.",
    )
    seed: Seed = Field(0, title="Seed", description="Of shuffled signals, and of plain parts.")
    min_vocabulary_share: Share = least_vocabulary_share()


def _source(_config: SignalStartConfig, inputs: Mapping[str, Ref], _run: RunConfig) -> Source:
    """Which tokens the models share is what the tokenizers say."""
    return Source(digests=tokenizer_digests(inputs))


def _compute(job: Job[SignalStartConfig]) -> Facts:
    """Let both models read the seed texts, and write what the student lacks as an adapter."""
    from paraknow_core.lora.adapter_reader import read_adapter
    from paraknow_core.models.load import load_tokenizer, pick_device
    from paraknow_core.signals.request import SignalOptions, SignalRequest, both_read
    from paraknow_core.signals.write import modules_with_roles, signal_start

    config, where = job.config, job.locations
    teacher, student = (load_architecture(job.inputs[who]) for who in ("teacher", "student"))
    match, _names = match_tokenizers(where, teacher, student)
    check_share(match, least=config.min_vocabulary_share)
    rows = read_split(job.inputs["data"] / "seeds.parquet")
    tokenizer = load_tokenizer(where["student"])
    kept = tokenise_all(rows, tokenizer, cutoff=config.options.cutoff)
    tell_cut(kept, label=job.label, split="seeds")
    samples = kept.examples
    texts = both_read(samples, match, answers_only=config.options.answers_only)
    request = SignalRequest(
        teacher_folder=where["teacher"],
        student_folder=where["student"],
        student=student,
        modules=modules_with_roles(where["student"], [Role(role) for role in config.roles]),
        texts=texts,
        match=match,
        rank=config.rank,
        options=SignalOptions(config.options.ridge, config.options.answers_only),
        shuffle=config.seed if config.shuffle else None,
        device=pick_device(job.run.device),
        progress=job.progress,
    )
    made = signal_start(
        request,
        job.out,
        method=config.method,
        alpha=config.alpha,
        scale=config.options.scale,
        seed=config.seed,
        as_large_as=read_adapter(job.inputs[METHODS_OWN]) if METHODS_OWN in job.inputs else None,
    )
    facts = _facts(request, made) | {"texts_left_out": len(samples) - len(texts)}
    write_json(job.out / "update.json", facts)
    return facts


def _facts(request: Any, made: Any) -> dict[str, Any]:
    """What was made of how much; a fit with more unknowns than positions is said as well."""
    positions = sum(int(text.counts_T.sum()) for text in request.texts)
    widths = [made.adapter.factors[name].a.shape[1] for name in made.adapter.added]
    unknowns = max(widths, default=0)
    if unknowns > positions:
        logger.warning(
            "up to %d unknowns for each output, but %d positions: the ridge of %g decides the "
            "rest. Give more seed texts (data.sizes.seeds).",
            unknowns,
            positions,
            request.options.ridge,
        )
    return {
        "rank": request.rank,
        "modules": len(made.adapter.added),
        "plain_modules": list(made.plain),
        "texts": len(request.texts),
        "positions": positions,
        "unknowns": unknowns,
        "scale": made.scale,
        "divergences": {f"{scale:.10g}": value for scale, value in made.divergences.items()},
    }


def _numerics(_config: SignalStartConfig, run: RunConfig) -> Mapping[str, str | bool]:
    return {"compute": "float32", "device": run.device_type(), "tf32": False}


def _estimate(config: SignalStartConfig, known: Foreseen) -> Estimate:
    """Both models in float32, the sums of each layer in float64, and the adapter."""
    student = known.architecture("student")
    teacher = student
    if "teacher" in known.folders:
        teacher = known.architecture("teacher")
    shapes = [matrix.whole for matrix, *_ in student.modules(config.roles).values()]
    sums = sum(8 * cols * (rows + cols) for rows, cols in shapes)
    return Estimate(
        memory_bytes=4 * (student.num_parameters + teacher.num_parameters) + 2 * sums,
        disk_bytes=adapter_bytes(student, config.roles, config.rank),
        tokens=tokens_of(known, "seeds"),
    )


signal_start = Step(
    name="signal-start",
    stage=Stage.LORA,
    version=2,  # 2: scales below 1/8 are tried too
    compute=_compute,
    reads={
        "teacher": ("manifest.json", "architecture.json"),
        "student": ("manifest.json", "architecture.json"),
        "data": ("seeds.parquet",),
        METHODS_OWN: ("adapter_model.safetensors", "adapter_config.json"),
    },
    opens=("teacher", "student"),
    source=_source,
    numerics=_numerics,
    estimate=_estimate,
    threaded=True,
    sized_by=("student",),
)
