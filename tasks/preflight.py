"""What can be known to fail before anything expensive runs."""

from collections.abc import Callable, Mapping
from pathlib import Path

from paraknow_core.alignment.layers import check_layers
from paraknow_core.alignment.matrices import check_sizes, match_matrices
from paraknow_core.alignment.tokens import check_share
from paraknow_core.errors import RankError, ShapeError
from paraknow_core.extraction.structures import STRUCTURES
from tasks.acquire_model import load_architecture
from tasks.align import AlignConfig
from tasks.extract import ExtractConfig
from tasks.vocabulary import match_vocabularies

Check = Callable[[Mapping[str, Path], Mapping[str, Path]], None]
"""Takes role → folder of what is known so far, and role → where that model lies; raises what
cannot work."""


def check_pair(
    known: Mapping[str, Path],
    locations: Mapping[str, Path],
    *,
    align: AlignConfig,
    extract: ExtractConfig,
    rank: int,
    max_rank: int,
) -> None:
    """Refuse a pair that cannot be cut as asked, or a rank too high.

    Args:
        known: folders of the acquired ``teacher`` and ``student``; nothing is checked without both.
        locations: where the two models lie.
        align: which layers are taken.
        extract: what of them is taken.
        rank: of the adapter.
        max_rank: of the decomposition.

    Raises:
        ShapeError: if the student is deeper or wider than the teacher, or does not fit the
            structure.
        ConfigError: if layers are listed that are not there.
        TokenizerError: if the tokenizers have too little in common.
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
    if align.layers is not None:
        sizes = {"num_teacher": teacher.num_layers, "num_student": student.num_layers}
        check_layers(align.layers, **sizes)
    layers = range(student.num_layers)
    matches = match_matrices(teacher, student, layers=layers, roles=extract.roles)
    roles = [str(match.role) for match in matches]
    tokens = match_vocabularies(known, locations, roles=roles)
    check_sizes(matches, by_token=tokens is not None)
    if tokens is not None:
        check_share(tokens, least=extract.min_vocabulary_share)
    STRUCTURES[extract.structure].check(teacher, student, roles)
    narrow = min(matches, key=lambda match: min(match.student.shape))
    for setting, value in (("lora.rank", rank), ("decompose.max_rank", max_rank)):
        if value > min(narrow.student.shape):
            raise RankError(
                f"{setting} is {value}, but {narrow.student.name} of shape "
                f"{list(narrow.student.shape)} allows 1..{min(narrow.student.shape)}. Lower it, or "
                f"leave {narrow.role} out of extract.roles."
            )
