"""The files of a tokenizer, checked before a library opens them.

A file of one of these names may be a named pipe, on which a library would wait for ever. Needs no
torch.
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

TOKENIZER_FILES = _JSON + _OTHERS
"""Every file that a tokenizer may consist of."""


def check_tokenizer_files(folder: Path) -> None:
    """Check that the tokenizer files of a folder are regular files, and its JSON files strict JSON.

    Raises:
        TokenizerError: names the file, and the line.
    """
    for name in _JSON:
        if (folder / name).exists():
            read_json_object(folder / name, refuse=TokenizerError)
    for name in _OTHERS:
        if (folder / name).exists():
            open_regular(folder / name, refuse=TokenizerError).close()
