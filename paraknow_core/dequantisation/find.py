"""Which kind of quantised checkpoint a place holds."""

from pathlib import Path

from paraknow_core.dequantisation.gguf_model import GgufModel
from paraknow_core.dequantisation.packed_folder import PackedFolder, quantisation_of
from paraknow_core.dequantisation.quantised_model import QuantisedModel
from paraknow_core.errors import ModelFolderError
from paraknow_core.models.config import read_raw_config

GGUF_ENDING = ".gguf"


def gguf_in(folder: Path) -> str:
    """The name of the one GGUF file in a folder without safetensors; empty if there is none.

    Raises:
        ModelFolderError: if it is not clear which is meant.
    """
    if any(folder.glob("*.safetensors")):
        return ""
    names = sorted(path.name for path in folder.glob(f"*{GGUF_ENDING}") if path.is_file())
    if len(names) > 1:
        raise ModelFolderError(
            f"{folder}: holds {len(names)} GGUF files ({', '.join(names[:4])}). Say which: set "
            "gguf_file to its name, or give the path of the file itself."
        )
    return names[0] if names else ""


def holds_quantised(folder: Path) -> bool:
    """Whether a folder holds a quantised checkpoint and no plain one."""
    if gguf_in(folder):
        return True
    there = (folder / "config.json").is_file()
    return there and quantisation_of(read_raw_config(folder)) is not None


def open_quantised(folder: Path, gguf_file: str = "") -> QuantisedModel:
    """Open a quantised checkpoint; reads metadata and headers, no weights.

    Args:
        folder: that holds it.
        gguf_file: the name of a GGUF file in it; empty: the only one there.

    Raises:
        ModelFolderError: if there is no quantised checkpoint.
        ConfigError: if a library is missing that reads it.
        CheckpointError, ArchitectureError: if it is damaged, or of a kind that is not supported.
    """
    name = gguf_file or gguf_in(folder)
    if not name and holds_quantised(folder):
        return PackedFolder(folder)
    if not name:
        raise ModelFolderError(
            f"{folder}: holds no quantised weights; take dequantise out of the settings."
        )
    if not (folder / name).is_file():
        raise ModelFolderError(f"{folder / name}: no such file. Is the name spelt as it is there?")
    return GgufModel(folder / name)
