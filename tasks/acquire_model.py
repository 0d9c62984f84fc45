"""Acquire a model: find its folder, digest every file, and read its sizes. No weight is copied."""

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import model_validator

from artifacts.canonical import canonical_bytes
from artifacts.disk.digests import digest_bytes
from artifacts.folders import digest_folder
from artifacts.records import folder_digest
from paraknow_core.checkpoint.model_folder import MODEL_FILES, lacks_weights, model_files
from paraknow_core.demo.language import vocabulary
from paraknow_core.demo.pretrain_recipe import PretrainingRecipe, model_fields
from paraknow_core.errors import HubUnreachableError, ModelFolderError
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

FORESEEN_TOKENS = "foreseen-tokens.json"
"""In a plan, of a model that is yet to be trained: token → row. No artifact has this file."""

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


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


def find_model(model: str, revision: str, *, download: bool) -> Path:
    """Return the folder of a model; a Hub id is downloaded first if ``download`` allows it.

    Raises:
        ModelFolderError: if it is neither a folder nor a Hub id, or the Hub does not have it.
        NotDownloadedError: if it is not here and ``download`` is false.
    """
    folder = Path(model).expanduser()
    if kind_of(folder) == "folder":
        return folder.resolve()
    if kind_of(folder) or not _HUB_ID.fullmatch(model):
        raise ModelFolderError(
            f"Model {model[:300]!r} is no folder (looked at {str(folder.absolute())[:300]}) and no "
            "Hub id of the form organisation/name. Give a folder with config.json and "
            "*.safetensors, or a Hub id."
        )
    return _from_hub(model, revision, download=download)


def _from_hub(model: str, revision: str, *, download: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            model,
            revision=revision,
            allow_patterns=list(MODEL_FILES),
            local_files_only=not download,
        )
    except LocalEntryNotFoundError as error:
        raise (HubUnreachableError if download else NotDownloadedError)(
            f"Model {model!r} is no local folder, and revision {revision!r} of it is not in the "
            "Hub's local cache and cannot be downloaded now. Check the spelling and the connection."
        ) from error
    except HFValidationError as error:
        raise ModelFolderError(f"Model {model!r} is no Hub id: {error}") from error
    except HfHubHTTPError as error:
        raise ModelFolderError(
            f"The Hub does not give out {model!r} at revision {revision!r}: {error}. Check the "
            "spelling; for a gated model accept its licence and set HF_TOKEN."
        ) from error
    return Path(found)


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
    except NotDownloadedError:
        return False
    tokenizer = load_tokenizer(folder)
    model = foreseen(read_config(folder))
    _write_foreseen(out, model, tokenizer.get_vocab(), size=len(tokenizer))
    return True


def _write_foreseen(out: Path, model: Architecture, tokens: Mapping[str, int], size: int) -> None:
    write_json(out / "architecture.json", model.to_json())
    digest = str(digest_bytes(canonical_bytes(tokens)))
    write_json(out / "tokenizer.json", {"size": size, "vocabulary": digest})
    write_json(out / FORESEEN_TOKENS, tokens)


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
