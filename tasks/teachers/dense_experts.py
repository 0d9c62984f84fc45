"""Make a dense teacher of a mixture of experts, by how the seed samples are routed in it."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from pydantic import Field

from artifacts.folders import digest_folder
from artifacts.records import folder_digest
from paraknow_core.data import read_split, tokenise_all
from paraknow_core.errors import ConfigError
from paraknow_core.setting_types import PathOrHubId, Text, Tokens
from paraknow_core.settings import Settings, execution
from tasks.acquire_model import ModelConfig
from tasks.checks.cut_rows import tell_cut
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.json_files import write_json
from tasks.engine.progress import StepProgress
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source, SourceFiles
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, NotDownloadedError, Step
from tasks.rows.config import SPLIT_FILES
from tasks.teachers.find import find_model

if TYPE_CHECKING:
    from paraknow_core.dequantisation.dense_model import DenseModel


class DenseExpertsConfig(Settings):
    """Which mixture, and what becomes of its experts."""

    model: PathOrHubId = execution("", title="Model", description="As of the teacher.")
    revision: Text = execution("main", title="Revision", description="As of the teacher.")
    experts: Literal["chosen", "blended"] = Field(
        "chosen",
        title="Experts",
        description="Of each layer; chosen: the one to which most of the seeds' tokens are sent; "
        "blended: the mean of all, weighted by how the seeds are routed.",
    )
    cutoff: Tokens = Field(2048, title="Cut-off", description="Tokens kept of each seed sample.")

    @classmethod
    def of(cls, model: ModelConfig) -> "DenseExpertsConfig":
        """The step's settings, as a model's say them.

        Raises:
            ConfigError: if they do not say what is to become of the experts.
        """
        if not model.experts:
            raise ConfigError("What is to become of the experts is not said: set experts.")
        return cls(model=model.model, revision=model.revision, experts=model.experts)


def _source(config: DenseExpertsConfig, _inputs: Mapping[str, Ref], run: RunConfig) -> Source:
    """Find the folder and digest its files; digests of unchanged files are remembered."""
    from paraknow_core.dequantisation.dense_model import DenseModel

    folder = find_model(config.model, config.revision, download=run.download)
    model = DenseModel(folder, way=config.experts)
    files = digest_folder(
        folder,
        model.files,
        stamps=run.open_store().stamps,
        progress=StepProgress("digest mixture of experts"),
    )
    digests = {name: entry.digest for name, entry in files.items()}
    return Source(
        digests={"files": folder_digest(files)},
        location=str(folder),
        files={"self": SourceFiles.of_files(folder, digests)},
    )


def _compute(job: Job[DenseExpertsConfig]) -> Facts:
    """Route the seeds, then write the dense model; ``experts.json`` says how they were routed."""
    from paraknow_core.dequantisation.dense_model import DenseModel
    from paraknow_core.dequantisation.routing import route
    from paraknow_core.dequantisation.write import write_head, write_plain_model
    from paraknow_core.models.load import load_tokenizer, pick_device

    folder, way = job.sources["self"].folder, job.config.experts
    unrouted = DenseModel(folder, way=way)
    write_head(unrouted, job.out)
    samples = tokenise_all(
        read_split(job.inputs["data"] / SPLIT_FILES["seeds"]),
        load_tokenizer(job.out),
        cutoff=job.config.cutoff,
    )
    cut = tell_cut(samples, label=job.label, split="seeds")
    routing = route(
        folder,
        unrouted.mixture,
        samples.examples,
        device=pick_device(job.run.device),
        progress=job.progress,
    )
    model = DenseModel(folder, way=way, routing=routing)
    parameters = write_plain_model(
        model, job.out, dtype=model.dtype, told_in="mixture.json", progress=job.progress
    )
    sent = routing.counts.double() / routing.counts.sum(dim=1, keepdim=True)
    write_json(
        job.out / "experts.json",
        {
            "tokens": routing.tokens,
            "counts": routing.counts.tolist(),
            "weights": routing.weights.tolist(),
            "shared": routing.shared.tolist(),
        },
    )
    return {
        "model_type": model.config["model_type"],
        "experts": model.mixture.experts,
        "parameters": parameters,
        "tokens": routing.tokens,
        "largest_share": float(sent.max(dim=1).values.mean()),
        **cut,
    }


def _numerics(_config: DenseExpertsConfig, run: RunConfig) -> Mapping[str, str | bool]:
    return {"compute": "float32", "device": run.device_type(), "tf32": False}


def needed_for(model: "DenseModel") -> Estimate:
    """One layer with all of its experts in float32, or a shard; the dense weights on disk."""
    from paraknow_core.dequantisation.quantised_model import plain_architecture
    from paraknow_core.dequantisation.write import SHARD_BYTES

    plain, mixture = plain_architecture(model, model.dtype), model.mixture
    hidden = plain.hidden_size
    layer = 3 * hidden * (mixture.experts * mixture.width + mixture.shared_width)
    # A layer is stacked in its stored dtype, then computed with in float32.
    routing = 8 * (layer + 4 * hidden * hidden) + 4 * plain.vocab_size * hidden
    shard = min(SHARD_BYTES, plain.weight_bytes) + 16 * plain.vocab_size * hidden
    return Estimate(memory_bytes=max(routing, shard), disk_bytes=plain.weight_bytes)


def _estimate(config: DenseExpertsConfig, _known: Foreseen) -> Estimate:
    """As ``needed_for``, where the model is here."""
    from paraknow_core.dequantisation.dense_model import DenseModel

    try:
        folder = find_model(config.model, config.revision, download=False)
    except NotDownloadedError:
        return Estimate()
    return needed_for(DenseModel(folder, way=config.experts))


dense_experts = Step(
    name="dense-experts",
    stage=Stage.ACQUIRE,
    version=1,
    compute=_compute,
    reads={"data": (SPLIT_FILES["seeds"],)},
    source=_source,
    numerics=_numerics,
    estimate=_estimate,
    threaded=True,
    retries=2,
)
