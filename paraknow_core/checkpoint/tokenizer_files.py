"""The files of a tokenizer, looked at before a library reads them: it would wait for a pipe.

Needs no torch.
"""

from pathlib import Path

from paraknow_core.errors import TokenizerError
from paraknow_core.strict_data import open_regular, read_json_object

_JSON = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
)
_OTHERS = ("chat_template.jinja", "merges.txt", "vocab.txt", "tokenizer.model", "spiece.model")


def check_tokenizer_files(folder: Path) -> None:
    """Check that what is there of a tokenizer's files are regular files, and strict JSON.

    Raises:
        TokenizerError: names the file, and the line.
    """
    for name in _JSON:
        if (folder / name).exists():
            read_json_object(folder / name, refuse=TokenizerError)
    for name in _OTHERS:
        if (folder / name).exists():
            open_regular(folder / name, refuse=TokenizerError).close()
