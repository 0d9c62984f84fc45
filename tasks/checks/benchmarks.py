"""What can be known of benchmarks before anything expensive runs."""

from collections.abc import Mapping
from pathlib import Path

from paraknow_core.errors import ConfigError


def check_chat_template(_known: Mapping[str, Path], locations: Mapping[str, Path]) -> None:
    """Refuse a chat template that the student does not have.

    Args:
        locations: where the ``student`` lies; nothing is checked without it.

    Raises:
        ConfigError: if its tokenizer has none.
    """
    if "student" not in locations:
        return
    from paraknow_core.models.load import load_tokenizer

    folder = locations["student"]
    if not getattr(load_tokenizer(folder), "chat_template", None):
        raise ConfigError(
            f"evaluate.harness.chat_template is true, but the tokenizer in {folder} has no chat "
            "template; take the instruction-tuned student, or set it to false"
        )
