"""Make a plain model of a quantised checkpoint, tensor by tensor; the other steps read that."""

from collections.abc import Mapping
from typing import Literal

from pydantic import Field

from artifacts.folders import digest_folder
from artifacts.records import folder_digest
from paraknow_core.models.describe import Architecture
from paraknow_core.setting_types import PathOrHubId, Text
from paraknow_core.settings import Settings, execution
from tasks.acquire_model import ModelConfig
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.progress import StepProgress
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source, SourceFiles
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, NotDownloadedError, Step
from tasks.teachers.find import GGUF_ENDING, find_quantised

_GGUF = "weights.gguf"
"""What a GGUF file is called in the digest: its name is not part of the key."""


class DequantiseConfig(Settings):
    """Which quantised model, and what its weights are written as."""

    model: PathOrHubId = execution("", title="Model", description="As of the teacher.")
    revision: Text = execution("main", title="Revision", description="As of the teacher.")
    gguf_file: Text = execution("", title="GGUF file", description="As of the teacher.")
    dtype: Literal["bfloat16", "float32", "float16"] = Field(
        "bfloat16", title="Dtype", description="Of the plain weights."
    )

    @classmethod
    def of(cls, model: ModelConfig) -> "DequantiseConfig":
        """The step's settings, as a model's say them."""
        return cls(
            model=model.model,
            revision=model.revision,
            gguf_file=model.gguf_file,
            dtype=model.dequantise or "bfloat16",
        )


def _source(config: DequantiseConfig, _inputs: Mapping[str, Ref], run: RunConfig) -> Source:
    """Find the checkpoint and digest its files; digests of unchanged files are remembered."""
    model = find_quantised(config.model, config.revision, config.gguf_file, download=run.download)
    files = digest_folder(
        model.folder,
        model.files,
        stamps=run.open_store().stamps,
        progress=StepProgress("digest quantised model"),
    )
    named = {_GGUF if n.endswith(GGUF_ENDING) else n: entry for n, entry in files.items()}
    digests = {name: entry.digest for name, entry in files.items()}
    weights = next((n for n in files if n.endswith(GGUF_ENDING)), "")
    return Source(
        digests={"files": folder_digest(named)},
        location=str(model.folder / weights),
        files={"self": SourceFiles.of_files(model.folder, digests)},
    )


def _compute(job: Job[DequantiseConfig]) -> Facts:
    """Write config, tokenizer, and each weight as a plain one."""
    from paraknow_core.dequantisation.find import open_quantised
    from paraknow_core.dequantisation.quantised_model import type_counts
    from paraknow_core.dequantisation.write import write_plain_model

    files = job.sources["self"]
    gguf = next((name for name in files.digests if name.endswith(GGUF_ENDING)), "")
    model = open_quantised(files.folder, gguf)
    parameters = write_plain_model(model, job.out, dtype=job.config.dtype, progress=job.progress)
    return {
        "kind": model.kind,
        "types": type_counts(model),
        "parameters": parameters,
        "model_type": model.config["model_type"],
        "notes": list(model.notes),
    }


def estimate_of(plain: Architecture) -> Estimate:
    """The plain weights on disk; in memory a shard, and the largest tensor while it is made."""
    from paraknow_core.dequantisation.write import SHARD_BYTES

    largest = max(tensor.num_elements for tensor in plain.tensors)
    shard = min(SHARD_BYTES, plain.weight_bytes)
    return Estimate(memory_bytes=shard + 16 * largest, disk_bytes=plain.weight_bytes)


def _estimate(config: DequantiseConfig, _known: Foreseen) -> Estimate:
    """As ``estimate_of``, where the model is here."""
    from paraknow_core.dequantisation.quantised_model import plain_architecture

    try:
        model = find_quantised(config.model, config.revision, config.gguf_file, download=False)
    except NotDownloadedError:
        return Estimate()
    return estimate_of(plain_architecture(model, config.dtype))


dequantise = Step(
    name="dequantise",
    stage=Stage.ACQUIRE,
    version=1,
    compute=_compute,
    source=_source,
    estimate=_estimate,
    threaded=True,
    retries=2,
)
