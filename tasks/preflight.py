"""What can be known to fail before anything expensive runs."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from paraknow_core.errors import RankError, ShapeError
from paraknow_core.extraction import check_vocabularies
from paraknow_core.pairing import check_cuts, match_matrices
from tasks.acquire_model import load_architecture
from tasks.files import read_json

Check = Callable[[Mapping[str, Path]], None]
"""Takes role → folder of what is known so far, and raises what cannot work."""


def check_pair(
    known: Mapping[str, Path], *, roles: Sequence[str], rank: int, max_rank: int
) -> None:
    """Refuse a pair whose matrices cannot be cut, whose tokenizers differ, or a rank too high.

    Args:
        known: folders of the acquired ``teacher`` and ``student``; nothing is checked without both.
        roles: kinds of matrix to transfer.
        rank: of the adapter.
        max_rank: of the decomposition.

    Raises:
        ShapeError: if the student is deeper or wider than the teacher.
        TokenizerError: if embedding or head rows would land on other tokens.
        RankError: if a rank is above the smallest dimension of a matrix.
    """
    if not {"teacher", "student"} <= known.keys():
        return
    teacher = load_architecture(known["teacher"])
    student = load_architecture(known["student"])
    if student.num_layers > teacher.num_layers:
        raise ShapeError(
            f"The student has {student.num_layers} layers, the teacher only {teacher.num_layers}; "
            "each student layer needs a teacher layer of its own. Take a deeper teacher."
        )
    matches = match_matrices(teacher, student, layers=range(student.num_layers), roles=roles)
    check_cuts(matches)
    check_vocabularies(
        read_json(known["teacher"] / "tokenizer.json"),
        read_json(known["student"] / "tokenizer.json"),
        roles=[str(match.role) for match in matches],
    )
    narrow = min(matches, key=lambda match: min(match.student.shape))
    for setting, value in (("lora.rank", rank), ("decompose.max_rank", max_rank)):
        if value > min(narrow.student.shape):
            raise RankError(
                f"{setting} is {value}, but {narrow.student.name} of shape "
                f"{list(narrow.student.shape)} allows 1..{min(narrow.student.shape)}. Lower it, or "
                f"leave {narrow.role} out of extract.roles."
            )
