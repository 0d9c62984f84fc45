"""Novel token directions against the dense formula, with two vocabularies, and what is refused."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from paraknow_core.errors import NumericsError, RankError, ShapeError
from paraknow_core.initialisation.novel_tokens import novel_tokens, token_rows


def drawn(seed: int, *shape: int) -> torch.Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def dense(teacher_PT: torch.Tensor, student_PS: torch.Tensor) -> torch.Tensor:
    """N as the formula has it: an orthonormal basis of W̃, and a projector of the size P × P."""
    basis_PS = torch.linalg.qr(student_PS.double() - student_PS.double().mean(0))[0]
    centred_PT = teacher_PT.double() - teacher_PT.double().mean(0)
    return centred_PT - basis_PS @ (basis_PS.T @ centred_PT)


@settings(max_examples=25, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    width=st.integers(2, 12),
    wide=st.integers(2, 20),
    spread=st.sampled_from([0.0, 4.0]),
    partners=st.booleans(),
)
def test_it_is_the_dense_formula(seed, width, wide, spread, partners):
    """Badly conditioned students and tokens without a partner among them."""
    rank, rows = 2, 40
    teacher = drawn(seed, rows, wide).float()
    student = (drawn(seed + 1, rows, width) * torch.logspace(0, -spread, width)).float()
    tokens = [(7 * row) % rows if row % 3 or not partners else -1 for row in range(rows)]
    made = novel_tokens(token_rows(teacher, student, tokens), rank=rank)
    kept = [row for row in range(rows) if tokens[row] >= 0]
    expected = dense(teacher[[tokens[row] for row in kept]], student[kept])
    u, s, _ = torch.linalg.svd(expected, full_matrices=False)
    ours = made.factors.u_MR.double()
    torch.testing.assert_close(made.factors.s_R.double(), s[:rank], rtol=1e-5, atol=0)
    torch.testing.assert_close(
        ours[kept] @ (made.factors.s_R.double()[:, None] * ours[kept].T),
        u[:, :rank] @ (s[:rank, None] * u[:, :rank].T),
        rtol=0,
        atol=1e-4
        * float(s[0])
        / max(1e-3, float((s[rank - 1] - s[rank]) / s[0]) if len(s) > rank else 1),
    )
    assert not ours[[row for row in range(rows) if row not in kept]].any()
    assert ours.sum(0).abs().max() < 1e-5
    assert (student[kept].double().T @ ours[kept]).abs().max() < 1e-5 * student.norm()
    centred = teacher[[tokens[row] for row in kept]].double()
    whole = float((centred - centred.mean(0)).square().sum())
    assert math.isclose(made.share, float(expected.square().sum()) / whole, rel_tol=1e-6)


def test_a_is_where_the_student_has_room():
    student = drawn(1, 60, 8).float()
    made = novel_tokens(token_rows(drawn(0, 60, 16).float(), student, range(60)), rank=3)
    least = torch.linalg.svd(student.double() - student.double().mean(0))[2][-3:].flip(0)
    torch.testing.assert_close(
        (made.factors.vh_RN.double() * least).sum(1).abs(),
        torch.ones(3).double(),
        rtol=0,
        atol=1e-5,
    )
    assert (
        made.factors.vh_RN.gather(1, made.factors.vh_RN.abs().argmax(1, keepdim=True)) > 0
    ).all()


def test_controls_keep_the_sizes_and_lose_the_directions():
    teacher, student = drawn(0, 60, 16).float(), drawn(1, 60, 8).float()
    rows = token_rows(teacher, student, range(60))
    method = novel_tokens(rows, rank=4)
    for name in ("top", "random"):
        control = novel_tokens(rows, rank=4, directions=name)
        assert torch.equal(control.factors.s_R, method.factors.s_R)
        assert torch.equal(control.factors.vh_RN, method.factors.vh_RN)
        assert (control.factors.u_MR - method.factors.u_MR).abs().max() > 0.05
        torch.testing.assert_close(control.factors.u_MR.T @ control.factors.u_MR, torch.eye(4))
    leading = torch.linalg.svd((teacher - teacher.mean(0)).double(), full_matrices=False)[0][:, :4]
    top = novel_tokens(rows, rank=4, directions="top").factors.u_MR.double()
    torch.testing.assert_close((top.T @ leading).abs(), torch.eye(4).double(), rtol=0, atol=1e-4)
    drawn_again = [novel_tokens(rows, rank=4, directions="random", seed=s) for s in (0, 0, 1)]
    assert torch.equal(drawn_again[0].factors.u_MR, drawn_again[1].factors.u_MR)
    assert not torch.equal(drawn_again[0].factors.u_MR, drawn_again[2].factors.u_MR)


def test_shuffled_rows_are_the_same_rows_in_other_places():
    teacher, student = drawn(0, 60, 16).float(), drawn(1, 60, 8).float()
    tokens = [row if row < 50 else -1 for row in range(60)]
    plain, shuffled = (token_rows(teacher, student, tokens, shuffle=s) for s in (None, 3))
    assert sorted(shuffled.teachers_P.tolist()) == plain.teachers_P.tolist()
    assert not torch.equal(shuffled.teachers_P, plain.teachers_P)
    assert torch.equal(shuffled.students_P, plain.students_P)


def test_the_scale_multiplies_the_sizes_alone():
    rows = token_rows(drawn(0, 60, 16).float(), drawn(1, 60, 8).float(), range(60))
    once, twice = (novel_tokens(rows, rank=4, scale=scale).factors for scale in (1.0, 2.0))
    assert torch.equal(twice.s_R, 2 * once.s_R)
    assert torch.equal(twice.u_MR, once.u_MR)


def test_what_is_less_than_the_rank_is_returned():
    """N has no more directions than the teacher is wide."""
    made = novel_tokens(
        token_rows(drawn(0, 60, 3).float(), drawn(1, 60, 8).float(), range(60)), rank=8
    )
    assert made.factors.s_R.shape == (3,)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_no_novelty_is_refused(dtype):
    student = drawn(1, 60, 8).float()
    with pytest.raises(NumericsError, match="needs more tokens than the student is wide"):
        novel_tokens(token_rows(drawn(0, 8, 16), student[:8], range(8)), rank=2)
    with pytest.raises(NumericsError, match="nothing but rounding"):
        novel_tokens(token_rows(student.to(dtype), student, range(60)), rank=2)
    with pytest.raises(NumericsError, match="distinguish no tokens"):
        novel_tokens(token_rows(torch.ones(60, 16), student, range(60)), rank=2)


def test_bad_input_is_one_clear_error():
    teacher, student = drawn(0, 60, 16).float(), drawn(1, 60, 8).float()
    with pytest.raises(RankError, match=r"allows 1\.\.8"):
        novel_tokens(token_rows(teacher, student, range(60)), rank=9)
    with pytest.raises(ShapeError, match="no row is matched"):
        token_rows(teacher, student, [-1] * 60)
    with pytest.raises(ShapeError, match="Row 60 of the teacher"):
        token_rows(teacher, student, [60])
    teacher[3, 3] = float("nan")
    with pytest.raises(NumericsError, match="NaN"):
        novel_tokens(token_rows(teacher, student, range(60)), rank=2)
