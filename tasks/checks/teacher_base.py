"""Whether a model can be what a teacher was tuned from, as far as sizes and tokens tell."""

from collections.abc import Mapping
from pathlib import Path

from paraknow_core.errors import TokenizerError
from paraknow_core.transport.teacher_base import check_base
from tasks.acquire_model import load_architecture
from tasks.engine.json_files import read_json


def check_teacher_base(known: Mapping[str, Path], _locations: Mapping[str, Path]) -> None:
    """Refuse a base of other sizes or tokens than the teacher.

    Args:
        known: folders of the acquired ``teacher`` and ``base``; nothing is checked without both.

    Raises:
        ConfigError: if a size differs; names the first.
        TokenizerError: if their vocabularies differ: row i of both must be the same token.
    """
    if not {"teacher", "base"} <= known.keys():
        return
    teacher, base = (load_architecture(known[who]) for who in ("teacher", "base"))
    tokens = {who: read_json(known[who] / "tokenizer.json") for who in ("teacher", "base")}
    if tokens["base"]["vocabulary"] != tokens["teacher"]["vocabulary"]:
        raise TokenizerError(
            f"teacher_base has another tokenizer than the teacher ({tokens['base']['size']} "
            f"tokens, {tokens['teacher']['size']} in that), so it is not what the teacher was "
            "tuned from. Give the model that the teacher's tuning began with."
        )
    check_base(teacher, base)
