"""The generation settings that a checkpoint comes with."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from paraknow_core.errors import ModelFolderError
from paraknow_core.printable import printable

if TYPE_CHECKING:
    from transformers import GenerationConfig

FILE = "generation_config.json"


def load_generation_config(folder: Path) -> "GenerationConfig | None":
    """Read a model folder's generation settings, such as a repetition penalty; None without any.

    Raises:
        ModelFolderError: if Transformers does not accept them.
    """
    from transformers import GenerationConfig

    if not (folder / FILE).is_file():
        return None
    untyped: Any = GenerationConfig
    try:
        return untyped.from_pretrained(str(folder), local_files_only=True)  # type: ignore[no-any-return]
    except (OSError, ValueError, TypeError) as error:
        raise ModelFolderError(
            f"{folder / FILE}: Transformers does not accept it: {printable(str(error))[:300]}"
        ) from error
