"""Which part of which teacher matrix goes where, against brute force over every position."""

from pathlib import Path

import pytest
import torch
from support.tiny import tiny_model

from paraknow_core.alignment.matrices import check_sizes, match_matrices
from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.errors import ConfigError, ShapeError
from paraknow_core.extraction.cuts import choose_cuts
from paraknow_core.models.describe import MATRIX_ROLES, Role, describe
from paraknow_core.models.matrices import read_matrix

ROLES = [str(role) for role in MATRIX_ROLES]


@pytest.fixture
def teacher(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "teacher", hidden=24, layers=3, heads=4, kv_heads=2, ffn=40)


@pytest.fixture
def student(tmp_path: Path) -> Path:
    return tiny_model(tmp_path / "student", hidden=16, layers=2, heads=4, kv_heads=1, ffn=24)


def brute_force(scores_MN: torch.Tensor, rows: int, cols: int) -> tuple[int, int]:
    best, place = -1.0, (0, 0)
    for row in range(scores_MN.shape[0] - rows + 1):
        for col in range(scores_MN.shape[1] - cols + 1):
            total = float(scores_MN[row : row + rows, col : col + cols].double().sum())
            if total > best:
                best, place = total, (row, col)
    return place


def test_every_window_is_the_best_of_its_matrix(teacher: Path, student: Path) -> None:
    matches = match_matrices(describe(teacher), describe(student), layers=[0, 2], roles=ROLES)
    with Checkpoint(teacher) as weights:

        class Maps:
            """The teacher's |weights| stand in for sensitivity maps: any positive map will do."""

            def read_slice(self, name: str, rows: slice, cols: slice) -> torch.Tensor:
                return weights.read_slice(name, rows, cols).abs()

        cuts, indices = choose_cuts(
            Maps(),  # type: ignore[arg-type]
            matches,
            teacher=describe(teacher),
            student=describe(student),
        )
        assert indices == {}
        assert [cut.module for cut in cuts] == [match.module for match in matches]
        assert len(cuts) == 2 + 7 * 2
        for cut, match in zip(cuts, matches, strict=True):
            scores_MN = weights.read(cut.tensor).abs()
            if match.role in (Role.EMBED, Role.HEAD):
                scores_MN = scores_MN[: cut.rows]
            assert (cut.row, cut.col) == brute_force(scores_MN, cut.rows, cut.cols)
            inside = scores_MN[cut.row : cut.row + cut.rows, cut.col : cut.col + cut.cols]
            assert cut.score == pytest.approx(float(inside.double().sum()), rel=1e-6)
            assert (cut.rows, cut.cols) == match.student.shape
            assert cut.total == pytest.approx(float(scores_MN.double().sum()), rel=1e-6)


def test_layers_and_modules_are_those_of_the_pair(teacher: Path, student: Path) -> None:
    matches = match_matrices(describe(teacher), describe(student), layers=[0, 2], roles=["k"])
    assert [(m.student_layer, m.teacher_layer) for m in matches] == [(0, 0), (1, 2)]
    assert matches[1].module == "model.layers.1.self_attn.k_proj"
    assert matches[1].teacher.name == "model.layers.2.self_attn.k_proj.weight"
    assert matches[1].student.shape == (4, 16)


def test_rows_of_a_padded_vocabulary_stay_their_tokens(tmp_path: Path, student: Path) -> None:
    padded = tiny_model(tmp_path / "padded", hidden=24, layers=3, heads=4, kv_heads=2, vocab=80)
    scores = {"model.embed_tokens.weight": torch.zeros(80, 24)}
    scores["model.embed_tokens.weight"][70:, 20:] = 9.0  # beyond the student's vocabulary
    scores["model.embed_tokens.weight"][:, 3] = 1.0

    class Maps:
        def read_slice(self, name: str, rows: slice, cols: slice) -> torch.Tensor:
            return scores[name][rows, cols]

    matches = match_matrices(describe(padded), describe(student), layers=[0, 1], roles=["embed"])
    models = {"teacher": describe(padded), "student": describe(student)}
    (cut,), _ = choose_cuts(Maps(), matches, **models)  # type: ignore[arg-type]
    assert (cut.row, cut.rows) == (0, 64)
    assert cut.col <= 3 < cut.col + cut.cols


@pytest.mark.parametrize(("teacher_tied", "student_tied"), [(True, False), (False, True)])
def test_tied_heads(tmp_path: Path, teacher_tied: bool, student_tied: bool) -> None:
    large = describe(tiny_model(tmp_path / "large", hidden=24, tied=teacher_tied))
    small = describe(tiny_model(tmp_path / "small", hidden=16, tied=student_tied))
    found = match_matrices(large, small, layers=[0, 1, 2], roles=["embed", "head"])
    if student_tied:
        assert [m.role for m in found] == [Role.EMBED]
    else:
        assert [m.teacher.name for m in found] == ["model.embed_tokens.weight"] * 2


def test_what_cannot_be_cut_is_named_once_a_role(teacher: Path, student: Path) -> None:
    matches = match_matrices(describe(student), describe(teacher), layers=[0, 1, 1], roles=ROLES)
    with pytest.raises(ShapeError, match=r"q_proj\.weight \[16, 16\] is smaller") as caught:
        check_sizes(matches, by_token=False)
    assert str(caught.value).count("gate:") == 1


def test_unknown_or_absent_roles_are_refused(teacher: Path, student: Path) -> None:
    pair = describe(teacher), describe(student)
    with pytest.raises(ConfigError, match=r"unknown: kv"):
        match_matrices(*pair, layers=[0, 1], roles=["q", "kv"])
    with pytest.raises(ConfigError, match="allowed are embed"):
        match_matrices(*pair, layers=[0, 1], roles=[])


def test_any_rows_and_columns_of_a_matrix_are_read(teacher):
    matrix = describe(teacher).matrix(Role.UP, 1)
    with Checkpoint(teacher) as weights:
        whole = weights.read(matrix.name)
        rows, cols = torch.tensor([7, 3, 3, 30]), torch.tensor([20, 2])
        assert torch.equal(read_matrix(weights, matrix, rows, cols), whole[rows][:, cols])
        assert torch.equal(read_matrix(weights, matrix, rows, slice(2, 5)), whole[rows, 2:5])
        assert read_matrix(weights, matrix, rows[:0], slice(2, 5)).shape == (0, 3)
