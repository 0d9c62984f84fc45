"""Reading JSON files that come with models: small, regular, and one object."""

import json
from pathlib import Path
from typing import Any

from paraknow_core.errors import ModelFolderError

MAX_CONFIG_BYTES = 1024**2


def read_json_object(path: Path) -> dict[str, Any]:
    """Read a small JSON object, strictly: no key twice, no NaN or Infinity.

    Raises:
        ModelFolderError: if the file is missing, larger than 16 MiB (1 MiB for a config.json), or
            not such an object.
    """
    limit = MAX_CONFIG_BYTES if path.name == "config.json" else 16 * MAX_CONFIG_BYTES

    def unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        if len(dict(pairs)) < len(pairs):
            names = [name for name, _ in pairs]
            twice = next(name for name in names if names.count(name) > 1)
            raise ValueError(f"the key {twice[:80]!r} appears twice")
        return dict(pairs)

    def no_constant(word: str) -> object:
        raise ValueError(f"{word} is not a JSON number")

    try:
        with path.open("rb") as file:
            data = file.read(limit + 1)
    except OSError as error:
        raise ModelFolderError(
            f"{path}: cannot be read ({error.strerror}). Give a model folder in the Transformers "
            "layout: config.json, safetensors weights, tokenizer files."
        ) from error
    if len(data) > limit:
        raise ModelFolderError(f"{path}: larger than {limit} bytes, which no honest file of it is.")
    try:
        value = json.loads(data.decode(), object_pairs_hook=unique, parse_constant=no_constant)
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(f"{path}: not a valid JSON file ({error}).") from error
    if not isinstance(value, dict):
        raise ModelFolderError(f"{path}: holds a {type(value).__name__}, not a JSON object.")
    return value
