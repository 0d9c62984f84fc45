"""Whether a teacher's outputs mean the same tokens as the student's."""

from collections.abc import Mapping
from pathlib import Path

from paraknow_core.errors import TokenizerError
from tasks.engine.json_files import read_json


def check_one_tokenizer(known: Mapping[str, Path], _locations: Mapping[str, Path]) -> None:
    """Refuse to distil between two tokenizers: the outputs would be probabilities of other tokens.

    Args:
        known: folders of the acquired ``teacher`` and ``student``; nothing is checked without both.

    Raises:
        TokenizerError: if their vocabularies differ.
    """
    if not {"teacher", "student"} <= known.keys():
        return
    told = {who: read_json(known[who] / "tokenizer.json") for who in ("teacher", "student")}
    if told["teacher"]["vocabulary"] != told["student"]["vocabulary"]:
        sizes = ", ".join(f"{who} {said['size']} tokens" for who, said in told.items())
        raise TokenizerError(
            f"The teacher and the student have two tokenizers ({sizes}), so the teacher's outputs "
            "are probabilities of other tokens than the student's, and distillation of outputs "
            "needs the same ones. Leave finetune.distillation out for this pair, or take a pair "
            "with one tokenizer."
        )
