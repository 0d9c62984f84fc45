"""Where models lie: folders, the Hub's local cache, and which of their files are read."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from paraknow_core.checkpoint.model_folder import MODEL_FILES
from paraknow_core.checkpoint.tokenizer_files import TOKENIZER_FILES
from paraknow_core.errors import HubUnreachableError, ModelFolderError
from tasks.engine.json_files import kind_of
from tasks.engine.step import NotDownloadedError

if TYPE_CHECKING:
    from paraknow_core.dequantisation.quantised_model import QuantisedModel

GGUF_ENDING = ".gguf"

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def find_model(
    model: str, revision: str, *, download: bool, files: Sequence[str] = MODEL_FILES
) -> Path:
    """Return the folder of a model; a Hub id is downloaded first if ``download`` allows it.

    Args:
        model: a folder or a Hub id.
        revision: of the Hub's repository.
        download: whether it may be fetched.
        files: patterns of the files that are fetched.

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
    return _from_hub(model, revision, files, download=download)


def _from_hub(model: str, revision: str, files: Sequence[str], *, download: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        found = snapshot_download(
            model,
            revision=revision,
            allow_patterns=list(files),
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


def find_quantised(
    model: str, revision: str, gguf_file: str, *, download: bool
) -> "QuantisedModel":
    """Open a quantised checkpoint wherever it lies; no weights are read.

    Args:
        model: a folder, a Hub id, or the path of a GGUF file.
        revision: of the Hub's repository.
        gguf_file: name of a GGUF file in the folder or repository; empty if there is but one, or
            none.
        download: whether it may be fetched from the Hub; of a repository with a ``gguf_file``
            only that and the tokenizer are.

    Raises:
        ModelFolderError, NotDownloadedError: as ``find_model``.
        ParaknowError: as ``open_quantised``.
    """
    from paraknow_core.dequantisation.find import open_quantised

    if model.endswith(GGUF_ENDING):
        path = Path(model).expanduser().absolute()
        return open_quantised(path.parent, path.name)
    files = (gguf_file, *TOKENIZER_FILES) if gguf_file else MODEL_FILES
    return open_quantised(find_model(model, revision, download=download, files=files), gguf_file)
