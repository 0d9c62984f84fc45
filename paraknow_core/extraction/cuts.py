"""Which part of which teacher matrix goes where: the cuts of one teacher/student pair.

A cut says which rows and columns are taken; it never copies weights. Rows of embedding and head are
tokens. If both models have the same tokenizer, row i stays row i (padded vocabularies may differ in
size); if not, rows are matched by token. In both cases a structure chooses the columns only.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from paraknow_core.alignment.matrices import VOCABULARY_ROLES, Match
from paraknow_core.extraction.structures import STRUCTURES
from paraknow_core.extraction.structures.base import Place, Request
from paraknow_core.models.describe import Architecture
from paraknow_core.progress import Progress, no_progress

if TYPE_CHECKING:
    from torch import Tensor

    from paraknow_core.checkpoint.reader import Checkpoint


@dataclass(frozen=True)
class Cut:
    """``rows`` × ``cols`` of a teacher matrix, for one role of a module.

    Attributes:
        row: first of consecutive rows. None: the rows are in the indices; if there are none, all
            rows.
        score: sum of sensitivity inside the cut.
        total: sum of sensitivity of the whole matrix.
        seed: if given, single weights are drawn from those rows and columns.
    """

    role: str
    student_layer: int | None
    teacher_layer: int | None
    tensor: str
    module: str
    row: int | None
    col: int | None
    rows: int
    cols: int
    score: float
    total: float
    seed: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Plain JSON values; a seed only where there is one."""
        fields = asdict(self)
        return fields if self.seed is not None else {k: v for k, v in fields.items() if k != "seed"}


def choose_cuts(
    scores: "Checkpoint",
    matches: Sequence[Match],
    *,
    structure: str = "submatrix",
    teacher: Architecture,
    student: Architecture,
    seed: int = 0,
    tokens: Sequence[int] | None = None,
    device: str = "cpu",
    progress: Progress = no_progress,
) -> tuple[list[Cut], dict[str, "Tensor"]]:
    """Choose the part of each teacher matrix that is taken.

    Args:
        scores: sensitivity maps, float32, under the teacher's tensor names.
        matches: from ``match_matrices``, already checked.
        structure: a key of ``STRUCTURES``.
        teacher: its architecture.
        student: its architecture.
        seed: of structures that draw.
        tokens: the teacher's row for each row of the student's vocabulary, −1 for none; None if
            row i of the one is row i of the other.
        device: where the maps are summed and searched, block by block.
        progress: called after each matrix.

    Returns:
        One cut for each match, and the indices of rows and columns that are not consecutive.

    Raises:
        ConfigError: if there is no such structure.
        ShapeError: if the structure cannot cut this pair.
    """
    asked = [_request(scores, match, seed, tokens, device) for match in matches]
    found = STRUCTURES.choose(structure).find(asked, teacher, student)
    cuts: list[Cut] = []
    indices: dict[str, Tensor] = {}
    for done, (request, place) in enumerate(zip(asked, found, strict=True)):
        progress(done, len(matches), request.match.module)
        cuts.append(_cut(request, place, tokens, indices))
    return cuts, indices


def _request(
    scores: "Checkpoint", match: Match, seed: int, tokens: Sequence[int] | None, device: str
) -> Request:
    """Lay out one matrix's map, restricted to the student's tokens where rows are tokens."""
    import torch

    from paraknow_core.extraction.score_map import ScoreMap
    from paraknow_core.models.matrices import read_matrix

    rows, cols = match.student.shape
    width = slice(0, match.teacher.shape[1])
    name = f"{seed}:{match.module}:{match.role}"
    # 63 bits, as ``random_elements.draw`` takes them.
    own_seed = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") >> 1
    if match.role in VOCABULARY_ROLES and tokens is not None:
        # Sorted: neighbouring rows lie on the same pages, and sums do not depend on the order.
        present = torch.tensor(sorted(row for row in tokens if row >= 0))
        rows = len(present)
    else:
        present = None

    def read(wanted: slice) -> "Tensor":
        taken = wanted if present is None else present[wanted]
        return read_matrix(scores, match.teacher, taken, width).to(device)

    height = rows if match.role in VOCABULARY_ROLES else match.teacher.shape[0]
    return Request(match, ScoreMap((height, width.stop), read), rows, cols, own_seed)


def _cut(
    request: Request,
    place: Place,
    tokens: Sequence[int] | None,
    indices: dict[str, "Tensor"],
) -> Cut:
    """Turn a place into a cut; rows or columns that are not consecutive go to ``indices``."""
    import torch

    match = request.match
    rows, cols = match.student.shape
    by_token = match.role in VOCABULARY_ROLES and tokens is not None
    given: dict[str, slice | Tensor | None]
    given = {"rows": torch.tensor(tokens) if by_token else place.rows, "cols": place.cols}
    drawn = place.seed is not None
    if drawn and match.role not in VOCABULARY_ROLES:
        given["rows"] = None  # from all of them
    if drawn:
        given["cols"] = None
    firsts = {}
    for side, chosen in given.items():
        firsts[side] = chosen.start if isinstance(chosen, slice) else None
        if isinstance(chosen, torch.Tensor):
            indices[f"{match.module}.{match.role}.{side}"] = chosen.to(torch.int32)
    return Cut(
        str(match.role),
        match.student_layer,
        match.teacher_layer,
        match.teacher.name,
        match.module,
        firsts["rows"],
        firsts["cols"],
        rows,
        cols,
        place.score,
        place.total,
        place.seed,
    )
