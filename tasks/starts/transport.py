"""An update of the student from a teacher's parameters: Theseus, weight transport, LaTen."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from pydantic import Field

from artifacts.folders import digest_folder
from paraknow_core.alignment.tokens import check_share
from paraknow_core.data import read_split, tokenise_all
from paraknow_core.errors import ModelFolderError
from paraknow_core.methods import METHODS
from paraknow_core.models.describe import Role
from paraknow_core.setting_types import (
    Count,
    LearningRate,
    OneOf,
    PathOrHubId,
    Rank,
    Scale,
    Seed,
    Share,
    Tokens,
)
from paraknow_core.settings import Settings, execution
from tasks.acquire_model import load_architecture
from tasks.checks.cut_rows import tell_cut
from tasks.checks.teacher_base import check_teacher_base
from tasks.engine.estimates import Estimate, Foreseen, adapter_bytes, tokens_of
from tasks.engine.json_files import kind_of, write_json
from tasks.engine.progress import logger
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source, SourceFiles
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step
from tasks.extract import ExtractConfig, Roles
from tasks.rows.shared_tokens import least_vocabulary_share, tokenizer_digests
from tasks.vocabulary import match_tokenizers

_ALL_ROLES = ExtractConfig().roles
_BUILDER = "transport"
_ADAPTER = ("adapter_config.json", "adapter_model.safetensors")
_MODEL = ("manifest.json", "architecture.json")


class TransportOptionsConfig(Settings):
    """How updates from a teacher's parameters are made, and how large."""

    scale: Scale | None = Field(
        None,
        title="Scale",
        description="Of the update; of weight-transport the α of (1 − α) W + α Ŵ. Unset, the one "
        "with the least loss of answers on the half of the seed texts that no gradient is taken "
        "of.",
    )
    maps: Annotated[str, OneOf("map", dict.fromkeys(("procrustes", "ridge")))] = Field(
        "procrustes",
        title="Maps",
        description="How the activations of teacher and student are brought together: procrustes "
        "(orthogonal), ridge.",
    )
    ridge: Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)] = Field(
        1e-2, title="Ridge", description="Of ridge maps, over the mean of the diagonal of XᵀX."
    )
    gradfix: bool = Field(
        True,
        title="GradFix",
        description="theseus: keep only what goes down the student's loss on the seed samples.",
    )
    layers: Annotated[str, OneOf("layers", dict.fromkeys(("uniform", "first", "last")))] = Field(
        "uniform", title="Layers", description="Which teacher layer goes with a student layer."
    )
    neuron_share: Annotated[float, Field(gt=0, le=1)] = Field(
        0.1,
        title="LaTen: neurons",
        description="How many of a layer are translated, over the student's width.",
    )
    neuron_rate: LearningRate = Field(3e-5, title="LaTen: learning rate of the translators")
    neuron_steps: Count = Field(20, title="LaTen: steps of training the translators")
    neuron_penalty: Annotated[float, Field(ge=0, le=1e9)] = Field(
        1000.0, title="LaTen: penalty", description="Weight of the update's mean square."
    )
    cutoff: Tokens = Field(2048, title="Cut-off", description="Tokens kept of each seed sample.")


class TransportConfig(Settings):
    """Which update is made, for which matrices."""

    method: Annotated[
        str,
        OneOf("transport", METHODS, fits=lambda m: m.builder == _BUILDER and m.is_transfer),
    ] = Field(title="Method")
    rank: Rank = Field(16, title="Rank")
    alpha: Scale = Field(16.0, title="Alpha", description="PEFT scales B·A by alpha / rank.")
    roles: Roles = Field(_ALL_ROLES, min_length=1, title="Roles")
    options: TransportOptionsConfig = Field(TransportOptionsConfig(), title="The methods' settings")
    adapter: PathOrHubId = execution(
        "",
        title="Teacher's adapter",
        description="PEFT folder of what tuning added to the teacher, in place of a base. Identity "
        "is its content.",
    )
    shuffled: bool = Field(
        False,
        title="Shuffled matrices",
        description="A control: rows and columns of the teacher's matrices lose their order.",
    )
    drawn: bool = Field(
        False,
        title="Drawn task vectors",
        description="A control: what tuning changed is drawn at random, as large in each matrix.",
    )
    instead: Annotated[str, OneOf("update", dict.fromkeys(("", "scaled-down")))] = Field(
        "",
        title="Instead",
        description="A control: scaled-down takes the student's own matrix away, as much as the "
        "update is large.",
    )
    seed: Seed = Field(0, title="Seed", description="Of what is drawn.")
    min_vocabulary_share: Share = least_vocabulary_share()


def _source(config: TransportConfig, inputs: Mapping[str, Ref], run: RunConfig) -> Source:
    """Which token a row belongs to is what the tokenizers say; an adapter is its two files."""
    digests = tokenizer_digests(inputs)
    if not config.adapter:
        return Source(digests=digests)
    folder = Path(config.adapter).expanduser().resolve()
    _check_adapter(folder)
    found = digest_folder(folder, _ADAPTER, stamps=run.open_store().stamps)
    read = {name: entry.digest for name, entry in found.items()}
    digests |= {f"adapter.{name}": digest for name, digest in read.items()}
    return Source(digests=digests, files={"adapter": SourceFiles.of_files(folder, read)})


def _check_adapter(folder: Path) -> None:
    for name in _ADAPTER:
        if kind_of(folder / name) != "file":
            raise ModelFolderError(
                f"teacher_adapter {str(folder)[:300]!r} has no {name}. Give the folder of a PEFT "
                f"adapter that was tuned on the teacher, with {' and '.join(_ADAPTER)}."
            )


def _compute(job: Job[TransportConfig]) -> Facts:
    """Carry the teacher's parameters over to the student, a matrix at a time."""
    from paraknow_core.lora.adapter_reader import read_adapter
    from paraknow_core.models.load import load_tokenizer, pick_device
    from paraknow_core.signals.request import both_read
    from paraknow_core.transport.material import TransportOptions
    from paraknow_core.transport.request import TransportRequest
    from paraknow_core.transport.update import transported_update

    config, options, where = job.config, job.config.options, job.locations
    check_teacher_base(job.inputs, where)
    teacher, student = (load_architecture(job.inputs[who]) for who in ("teacher", "student"))
    match, _ = match_tokenizers(where, teacher, student)
    check_share(match, least=config.min_vocabulary_share)
    rows = read_split(job.inputs["data"] / "seeds.parquet")
    tokenizer = load_tokenizer(where["student"])
    kept = tokenise_all(rows, tokenizer, cutoff=options.cutoff)
    tell_cut(kept, label=job.label, split="seeds")
    samples = kept.examples
    texts = both_read(samples, match, answers_only=False)
    request = TransportRequest(
        method=config.method,
        teacher=where["teacher"],
        base=where.get("base"),
        teacher_adapter=read_adapter(where["adapter"].parent) if "adapter" in where else None,
        student=where["student"],
        texts=texts,
        match=match,
        roles=[Role(role) for role in config.roles],
        rank=config.rank,
        alpha=config.alpha,
        scale=options.scale,
        layers=options.layers,
        shuffled=config.shuffled,
        drawn=config.drawn,
        instead=config.instead,
        seed=config.seed,
        options=TransportOptions(**options.model_dump(exclude={"scale", "layers", "cutoff"})),
        device=pick_device(job.run.device),
    )
    made = transported_update(request, job.out, progress=job.progress)
    facts = {
        "method": config.method,
        "rank": config.rank,
        "modules": len(made.adapter.added),
        "plain_modules": list(made.plain),
        "texts": len(texts),
        "texts_left_out": len(samples) - len(texts),
        **made.facts,
    }
    if facts.get("maps_with_more_unknowns_than_positions"):
        logger.warning(
            "%d of %d maps have more unknowns than positions: up to %d, but %d positions. What the "
            "texts say nothing of is left as it is (procrustes), or decided by the ridge. Give "
            "more seed texts (data.sizes.seeds).",
            *(facts["maps_with_more_unknowns_than_positions"], facts["maps"]),
            *(facts["most_unknowns"], facts["positions"]),
        )
    write_json(job.out / "update.json", facts)
    return facts


def _numerics(_config: TransportConfig, run: RunConfig) -> Mapping[str, str | bool]:
    return {"compute": "float32", "device": run.device_type(), "tf32": False}


def _estimate(config: TransportConfig, known: Foreseen) -> Estimate:
    """The models in float32, the student's gradients, the moments in float64; factors on disk."""
    student, teacher = known.architecture("student"), known.architecture("student")
    if "teacher" in known.folders:
        teacher = known.architecture("teacher")
    share = teacher.hidden_size / student.hidden_size
    moments = sum(
        8 * share * (rows**2 + columns**2)
        for matrix in student.matrices
        if matrix.layer is not None
        for rows, columns in (matrix.shape,)
    )
    needs_base = "base" in known.folders or config.adapter
    models = teacher.num_parameters * (2 if needs_base else 1)
    own = share + 1 / share if config.options.maps == "ridge" else 0
    return Estimate(
        memory_bytes=int(4 * models + 8 * student.num_parameters + (2 + own) * moments),
        disk_bytes=adapter_bytes(student, config.roles, config.rank),
        tokens=tokens_of(known, "seeds"),
    )


transport = Step(
    name="transport",
    stage=Stage.LORA,
    version=2,  # 2: scales below 1/8 are tried too
    compute=_compute,
    reads={"teacher": _MODEL, "base": _MODEL, "student": _MODEL, "data": ("seeds.parquet",)},
    opens=("teacher", "base", "student"),
    source=_source,
    numerics=_numerics,
    estimate=_estimate,
    threaded=True,
    sized_by=("student",),
)
