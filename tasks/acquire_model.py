"""Acquire a model: find its folder, digest every file, and read its sizes. No weight is copied."""

from collections.abc import Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Literal

from pydantic import model_validator

from artifacts.canonical import canonical_bytes
from artifacts.disk.digests import digest_bytes
from artifacts.folders import digest_folder
from artifacts.records import folder_digest
from paraknow_core.checkpoint.model_folder import lacks_weights, model_files
from paraknow_core.demo.language import vocabulary
from paraknow_core.demo.pretrain_recipe import PretrainingRecipe, model_fields
from paraknow_core.errors import ModelFolderError, TokenizerError
from paraknow_core.models.config import read_config
from paraknow_core.models.describe import Architecture, describe, foreseen
from paraknow_core.setting_types import PathOrHubId, Text
from paraknow_core.settings import Settings, execution
from tasks.engine.json_files import kind_of, read_json, write_json
from tasks.engine.progress import StepProgress
from tasks.engine.ref import Ref, folder_of
from tasks.engine.run import RunConfig
from tasks.engine.source_files import MANIFEST, Source, SourceFiles
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, NotDownloadedError, Step
from tasks.engine.step_names import MODEL_STEP
from tasks.rows.config import DataConfig
from tasks.teachers.find import GGUF_ENDING, find_model, find_quantised

FORESEEN_TOKENS = "foreseen-tokens.json"
"""In a plan, of a model that is yet to be trained: token → row. No artifact has this file."""


class ModelConfig(Settings):
    """Which model: a folder, a Hub id with its revision, or a recipe to train one from scratch."""

    model: PathOrHubId = execution(
        "",
        title="Model",
        description="A local folder with safetensors weights, or a Hub id such as "
        "meta-llama/Llama-3.2-1B. Identity is the content of its files, not this name.",
    )
    revision: Text = execution(
        "main", title="Revision", description="Hub branch, tag or commit; resolved to a commit."
    )
    pretrain: PretrainingRecipe | None = execution(
        None,
        title="Train from scratch",
        description="A recipe, in place of a model (the demo's pair).",
    )
    texts: DataConfig | None = execution(
        None,
        title="Texts to train on",
        description="In place of the demo's; of a student, which gets the teacher's tokenizer. "
        "sizes.train texts are read, and sizes.validation are held out for the loss.",
    )

    dequantise: Literal["", "bfloat16", "float32", "float16"] = execution(
        "",
        title="De-quantise to",
        description="Of a quantised teacher (GGUF, GPTQ, AWQ, …): its weights are written as plain "
        "ones of this dtype, once, and all steps read those. Empty: weights are plain.",
    )
    experts: Literal["", "chosen", "blended"] = execution(
        "",
        title="Experts",
        description="Of a teacher that is a mixture of experts: each layer's become one block; "
        "chosen: the one to which most of the seeds' tokens are sent; blended: the mean of all, "
        "weighted by how the seeds are routed.",
    )
    gguf_file: Text = execution(
        "",
        title="GGUF file",
        description="Its name in the folder or Hub repository, where there are several.",
    )

    @model_validator(mode="after")
    def _quantised(self) -> "ModelConfig":
        named = self.gguf_file or (self.model if self.model.endswith(GGUF_ENDING) else "")
        if named and not self.dequantise:
            msg = (
                f"{named!r} is a GGUF file: say what to make of its weights (dequantise: bfloat16)"
            )
            raise ValueError(msg)
        made = [name for name in ("dequantise", "experts") if getattr(self, name)]
        if made and self.pretrain is not None:
            msg = f"{made[0]} is given for a model that a recipe trains: leave one of them out"
            raise ValueError(msg)
        if len(made) > 1:
            msg = "dequantise and experts are both given; of quantised mixtures none is read"
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _one_source(self) -> "ModelConfig":
        if bool(self.model) == (self.pretrain is not None):
            msg = (
                f"give either model or pretrain, not both and not neither (model is {self.model!r})"
            )
            raise ValueError(msg)
        if self.texts is not None and self.pretrain is None:
            msg = f"texts are given, but no recipe (pretrain) to train {self.model!r} on them"
            raise ValueError(msg)
        return self


class WeightsMissingError(NotDownloadedError):
    """A local folder has a config and no weights: enough for a plan, and for nothing else."""


def _source(config: ModelConfig, inputs: Mapping[str, Ref], run: RunConfig) -> Source:
    """Resolve the folder and digest its files; digests of unchanged files are remembered."""
    store = run.open_store()
    if "built" in inputs:
        folder, digests = folder_of(store, inputs["built"]), inputs["built"].files
        own = {name: digests[name] for name in model_files(folder)}
        return Source(location=str(folder), files={"self": SourceFiles.of_model(folder, own)})
    folder = find_model(config.model, config.revision, download=run.download)
    if not run.download and lacks_weights(folder):
        is_local = kind_of(Path(config.model).expanduser()) == "folder"
        raise (WeightsMissingError if is_local else NotDownloadedError)(
            f"{folder}: has a config.json, and no weights. A plan can be made of it; to run, put "
            "the safetensors files of the model there as well."
        )
    describe(folder)  # a broken folder is refused before gigabytes are hashed
    files = digest_folder(
        folder, model_files(folder), stamps=store.stamps, progress=StepProgress("digest model")
    )
    digests = {name: entry.digest for name, entry in files.items()}
    return Source(
        digests={"files": folder_digest(files)},
        location=str(folder),
        files={"self": SourceFiles.of_model(folder, digests)},
    )


def _compute(job: Job[ModelConfig]) -> Facts:
    """Read a model's sizes from config and headers, and check its tokenizer against them."""
    from paraknow_core.models.blank_weights import refuse_blank_weights
    from paraknow_core.models.load import check_buildable, load_tokenizer

    folder = job.locations["self"]
    architecture = describe(folder)
    check_buildable(folder)
    refuse_blank_weights(folder)
    tokenizer = load_tokenizer(folder)
    vocabulary = canonical_bytes(tokenizer.get_vocab())
    described = architecture.to_json()
    for tensor in described["tensors"]:
        tensor["file"] = ""  # how a model is split into files changes nothing downstream
    write_json(job.out / "architecture.json", described)
    write_json(
        job.out / "tokenizer.json",
        {"size": len(tokenizer), "vocabulary": str(digest_bytes(vocabulary))},
    )
    write_json(job.out / MANIFEST, job.sources["self"].digests)
    return {
        "folder_name": folder.name,  # of a Hub model: the commit that its revision was resolved to
        "model_type": architecture.model_type,
        "parameters": architecture.num_parameters,
        "layers": architecture.num_layers,
        "hidden_size": architecture.hidden_size,
    }


def _foresee(config: ModelConfig, out: Path) -> bool:
    """Write what a recipe says of a model that is yet to be trained, for a plan's checks."""
    if config.dequantise or config.experts:
        return _foresee_plain(config, out)
    if config.texts is not None:
        return False
    if config.pretrain is None:
        return _foresee_folder(config, out)
    tokens = {word: row for row, word in enumerate(vocabulary(config.pretrain.dialect))}
    model = foreseen(model_fields(config.pretrain) | {"model_type": "llama"})
    _write_foreseen(out, model, tokens, size=len(tokens))
    return True


def _foresee_folder(config: ModelConfig, out: Path) -> bool:
    """The same of a model whose config and tokenizer are here, and whose weights need not be."""
    from paraknow_core.models.load import load_tokenizer

    try:
        folder = find_model(config.model, config.revision, download=False)
        tokenizer = load_tokenizer(folder)
        model = foreseen(read_config(folder))
    except NotDownloadedError:
        return False
    except (ModelFolderError, TokenizerError):
        if kind_of(Path(config.model).expanduser()) == "folder":
            raise
        return False  # of a Hub's model not even these files are here, so there is nothing to see
    _write_foreseen(out, model, tokenizer.get_vocab(), size=len(tokenizer))
    return True


def _write_foreseen(out: Path, model: Architecture, tokens: Mapping[str, int], size: int) -> None:
    write_json(out / "architecture.json", model.to_json())
    digest = str(digest_bytes(canonical_bytes(tokens)))
    write_json(out / "tokenizer.json", {"size": size, "vocabulary": digest})
    write_json(out / FORESEEN_TOKENS, tokens)


def _foresee_plain(config: ModelConfig, out: Path) -> bool:
    """Write what is known of the plain model that will be made of another, if that is here."""
    from paraknow_core.dequantisation.dense_model import DenseModel
    from paraknow_core.dequantisation.quantised_model import QuantisedModel, plain_architecture
    from paraknow_core.dequantisation.write import write_head
    from paraknow_core.models.load import load_tokenizer

    model: DenseModel | QuantisedModel
    try:
        if config.experts:
            folder = find_model(config.model, config.revision, download=False)
            model = DenseModel(folder, way=config.experts)
            dtype = model.dtype
        else:
            model = find_quantised(config.model, config.revision, config.gguf_file, download=False)
            dtype = config.dequantise
    except NotDownloadedError:
        return False
    with TemporaryDirectory() as aside:
        write_head(model, Path(aside))
        tokenizer = load_tokenizer(Path(aside))
    plain = plain_architecture(model, dtype)
    _write_foreseen(out, plain, tokenizer.get_vocab(), size=len(tokenizer))
    return True


def load_architecture(folder: Path) -> Architecture:
    """Read the architecture from an acquired model's artifact."""
    return Architecture.from_json(read_json(folder / "architecture.json"))


acquire_model = Step(
    name=MODEL_STEP,
    stage=Stage.ACQUIRE,
    version=1,
    compute=_compute,
    source=_source,
    foresee=_foresee,
    preview=True,
    retries=2,
)
