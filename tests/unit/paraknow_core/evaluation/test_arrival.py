"""What of novel directions a trained matrix has, against the dense computation."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paraknow_core.errors import NumericsError, ShapeError
from paraknow_core.evaluation import arrival as module
from paraknow_core.evaluation.arrival import arrival
from paraknow_core.initialisation.novel_tokens import novel_tokens, token_rows


def drawn(seed: int, *shape: int) -> Tensor:
    source = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=source, dtype=torch.float64)


def directions(seed: int, rows: int, count: int, *, missing: int = 0) -> Tensor:
    """Orthonormal and centred, with zero rows for tokens without a partner."""
    found = drawn(seed, rows - missing, count)
    basis = torch.linalg.qr(found - found.mean(0))[0]
    return torch.cat([basis[:3], torch.zeros(missing, count).double(), basis[3:]])


@settings(max_examples=20, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    width=st.integers(1, 8),
    count=st.integers(1, 6),
    rank=st.integers(1, 4),
    missing=st.integers(0, 5),
    spread=st.sampled_from([0.0, 3.0]),
)
def test_it_is_the_dense_computation(
    seed: int, width: int, count: int, rank: int, missing: int, spread: float
) -> None:
    rows = 30
    weight = (drawn(seed, rows, width) * torch.logspace(0, -spread, width)).float()
    b, a = drawn(seed + 1, rows, rank).float(), drawn(seed + 2, rank, width).float()
    novel = directions(seed + 3, rows, count, missing=missing)
    found = arrival(weight, b, a, novel.float())
    kept = novel.abs().sum(1) > 0
    delta = b.double() @ a.double()
    trained = (weight.double() + delta)[kept]
    trained = trained - trained.mean(0)
    u, s, _ = torch.linalg.svd(trained, full_matrices=False)
    cosines = torch.linalg.svdvals(u[:, s > 1e-6 * s[0]].T @ novel[kept])
    cosines = torch.nn.functional.pad(cosines, (0, count - len(cosines)))
    torch.testing.assert_close(torch.tensor(found.cosines).double(), cosines, rtol=0, atol=1e-5)
    inside = float((novel.T @ delta).square().sum() / delta.square().sum())
    assert found.change_share == pytest.approx(inside, abs=1e-6)
    own = float((novel[kept].T @ trained).square().sum() / trained.square().sum())
    assert found.weight_share == pytest.approx(own, abs=1e-6)
    assert found.change_ratio == pytest.approx(float(delta.norm() / weight.double().norm()))
    assert found.share_by_chance == pytest.approx(count / (rows - missing - 1))


def test_pieces_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    given = drawn(0, 60, 5), drawn(1, 60, 2), drawn(2, 2, 5), directions(3, 60, 4)
    whole = arrival(*given)
    monkeypatch.setattr(module, "_BLOCK_ELEMENTS", 100)
    pieces = arrival(*given)
    assert pieces.cosines == pytest.approx(whole.cosines, rel=1e-9)
    assert pieces.weight_share == pytest.approx(whole.weight_share, rel=1e-9)
    assert pieces.change_ratio == pytest.approx(whole.change_ratio, rel=1e-12)


def test_nothing_is_there_before_training_and_all_of_it_after_the_start_is_added() -> None:
    teacher, student = drawn(0, 80, 20).float(), drawn(1, 80, 8).float()
    made = novel_tokens(token_rows(teacher, student, range(80)), rank=4).factors
    zero = torch.zeros(80, 4)
    before = arrival(student, zero, made.vh_RN, made.u_MR)
    assert max(before.cosines) < 1e-5
    assert before.weight_share < 1e-9
    assert before.change_share is None
    assert before.change_ratio == 0
    start = arrival(student, 1e3 * made.u_MR * made.s_R, made.vh_RN, made.u_MR)
    assert start.change_share == pytest.approx(1)
    assert min(start.cosines) > 0.99
    assert start.weight_share > 0.99


def test_a_drawn_change_has_what_is_said_to_come_by_chance() -> None:
    novel = directions(3, 2000, 40)
    found = arrival(drawn(0, 2000, 30), drawn(1, 2000, 8), drawn(2, 8, 30), novel)
    assert found.change_share == pytest.approx(found.share_by_chance, rel=0.25)
    mean = sum(c * c for c in found.cosines) / len(found.cosines)
    assert mean**0.5 == pytest.approx(found.cosines_by_chance, rel=0.25)


def test_bad_input_is_one_clear_error() -> None:
    weight, b, a, novel = drawn(0, 20, 5), drawn(1, 20, 2), drawn(2, 2, 5), directions(3, 20, 4)
    with pytest.raises(ShapeError, match="must be V×S, V×Q, Q×S and V×R"):
        arrival(weight, b[:-1], a, novel)
    with pytest.raises(ShapeError, match="19 directions of 20 tokens"):
        arrival(weight, b, a, directions(3, 20, 19))
    with pytest.raises(NumericsError, match="NaN"):
        arrival(weight / 0, b, a, novel)
    with pytest.raises(NumericsError, match="same row"):
        arrival(torch.ones(20, 5), torch.zeros(20, 2), a, novel)
