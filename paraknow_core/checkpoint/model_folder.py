"""Which files of a model folder hold its weights, and what their headers say.

Needs no torch.
"""

import re
from collections.abc import Mapping
from pathlib import Path

from paraknow_core.checkpoint.safetensors_header import TensorHeader, read_header
from paraknow_core.errors import CheckpointError, ModelFolderError
from paraknow_core.strict_data import read_json_object

SINGLE = "model.safetensors"
INDEX = "model.safetensors.index.json"
_PICKLES = (".bin", ".pt", ".pth", ".ckpt")
_OTHERS = (".gguf", ".h5", ".msgpack", ".onnx", ".npz")
_PLAIN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,127}")
_CHUNK = 16 * 1024**2
MAX_INDEX_BYTES = 16 * 1024**2

MODEL_FILES = ("*.json", "*.safetensors", "*.txt", "*.model", "*.jinja")
"""Every kind of file that loading a model or its tokenizer may read."""

Headers = dict[str, tuple[TensorHeader, str]]
"""Tensor name → its header, and the name of the file that holds it."""


def weight_files(folder: Path) -> tuple[str, ...]:
    """Name the safetensors files that hold a model's weights, sorted.

    Args:
        folder: a model folder in the Transformers layout: ``model.safetensors``, or shards with
            ``model.safetensors.index.json``. Other safetensors files are not part of the model.

    Raises:
        ModelFolderError: if the folder is missing or empty, holds weights only in another format,
            or holds both layouts at once.
        CheckpointError: if the index names a file that is missing or not a plain file name.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise ModelFolderError(
            f"{folder}: no such folder. Give a model folder in the Transformers layout."
        )
    names = {path.name for path in folder.iterdir() if path.is_file()}
    if SINGLE in names and INDEX in names:
        raise ModelFolderError(
            f"{folder}: holds both {SINGLE} and {INDEX}; it is not clear which weights are meant. "
            "Remove one of them."
        )
    if INDEX in names:
        return tuple(sorted(set(_weight_map(folder).values())))
    if SINGLE in names:
        return (SINGLE,)
    raise ModelFolderError(f"{folder}: {_why_no_weights(names)}")


def lacks_weights(folder: Path) -> bool:
    """Whether a folder has a config.json, but no weights in any format: not even a part of them.

    Its index may be there.
    """
    names = {path.name for path in Path(folder).iterdir() if path.is_file()}
    held = (*_PICKLES, *_OTHERS, ".safetensors")
    return "config.json" in names and not any(name.endswith(held) for name in names)


def model_files(folder: Path) -> list[str]:
    """Name the files of a model folder that loading it or its tokenizer may read, sorted.

    Stray files are left out: a file whose name is not plain (it has a space or an accent, or
    begins with ``._``) belongs to the model only if the index names it.

    Raises:
        ModelFolderError, CheckpointError: if there is an index that cannot be read.
    """
    folder = Path(folder)
    named = set(_weight_map(folder).values()) if (folder / INDEX).is_file() else set()
    return sorted(
        path.name
        for pattern in MODEL_FILES
        for path in folder.glob(pattern)
        if (_PLAIN.fullmatch(path.name) and not path.is_dir()) or path.name in named
    )


def _why_no_weights(names: set[str]) -> str:
    """Say what is there instead of weights, and what to do."""
    pickles = sorted(n for n in names if n.endswith(_PICKLES))
    others = sorted(n for n in names if n.endswith(_OTHERS))
    shards = sorted(n for n in names if n.endswith(".safetensors"))
    if shards:
        return (
            f"no {SINGLE} and no {INDEX}, only {', '.join(shards[:4])}. Rename a single file to "
            f"{SINGLE}; for shards, add their index."
        )
    if pickles:
        return (
            f"holds weights only as pickles ({', '.join(pickles[:4])}), which can run code when "
            "read and are refused. Convert them where you trust them: load the model with "
            "Transformers and call model.save_pretrained(NEW_FOLDER), which writes safetensors."
        )
    if others:
        gguf = " Of a teacher in GGUF set dequantise." if others[0].endswith(".gguf") else ""
        return f"holds weights only as {', '.join(others[:4])}; needed is {SINGLE}.{gguf}"
    return f"holds no weights: neither {SINGLE} nor {INDEX}. Is the download complete?"


def read_headers(folder: Path, files: tuple[str, ...]) -> Headers:
    """Read the headers of a model's files, and check them against the index if there is one.

    Args:
        folder: the model folder.
        files: as ``weight_files`` names them.

    Raises:
        CheckpointError: if a file is corrupt, or the index and the files disagree about where a
            tensor is.
    """
    folder = Path(folder)
    found: Headers = {}
    for file in files:
        for name, header in read_header(folder / file).items():
            if name in found:
                raise CheckpointError(
                    f"{folder}: tensor {name!r} is in {found[name][1]} and again in {file}."
                )
            found[name] = (header, file)
    if (folder / INDEX).is_file() and SINGLE not in files:
        _check_index(_weight_map(folder), found, folder / INDEX)
    return found


def _weight_map(folder: Path) -> dict[str, str]:
    path = folder / INDEX
    index = read_json_object(path, refuse=ModelFolderError, max_bytes=MAX_INDEX_BYTES)
    weight_map = index.get("weight_map")
    if not isinstance(weight_map, dict) or not weight_map:
        raise CheckpointError(f"{path}: has no weight_map from tensors to files.")
    for name, file in weight_map.items():
        if not isinstance(file, str) or not _is_file_name(file):
            raise CheckpointError(
                f"{path}: tensor {name[:80]!r} is said to be in {str(file)[:80]!r}, which is not "
                "the plain name of a safetensors file."
            )
        if not (folder / file).is_file():
            raise CheckpointError(
                f"{path}: names {file}, which is not in the folder. Is the download complete?"
            )
    return weight_map


def _is_file_name(name: str) -> bool:
    """Whether a name is a safetensors file of this folder itself, on any operating system."""
    return name.endswith(".safetensors") and len(name) <= 255 and not set(name) & set("/\\\0")


def _check_index(weight_map: Mapping[str, str], found: Headers, path: Path) -> None:
    for name in sorted(weight_map.keys() | found.keys()):
        said = weight_map.get(name, "no file")
        held = found[name][1] if name in found else "no file"
        if said != held:
            raise CheckpointError(
                f"{path}: puts tensor {name!r} in {said}, but it is in {held}. Download the "
                "model again, or write it again with save_pretrained."
            )


def same_bytes(folder: Path, one: tuple[TensorHeader, str], two: tuple[TensorHeader, str]) -> bool:
    """Whether two tensors of a folder have the same type, shape and bytes.

    Args:
        folder: the model folder.
        one: header and file name of the first.
        two: header and file name of the second.

    Returns:
        True only if every byte is the same; reads both in pieces of 16 MiB.
    """
    if (one[0].dtype, one[0].shape) != (two[0].dtype, two[0].shape):
        return False
    size = one[0].offsets[1] - one[0].offsets[0]
    with (Path(folder) / one[1]).open("rb") as first, (Path(folder) / two[1]).open("rb") as second:
        first.seek(one[0].offsets[0])
        second.seek(two[0].offsets[0])
        for done in range(0, size, _CHUNK):
            piece = min(_CHUNK, size - done)
            if first.read(piece) != second.read(piece):
                return False
    return True
