import math
from fractions import Fraction

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from paraknow_core.errors import NumericsError, ShapeError
from paraknow_core.extraction import window as submatrix
from paraknow_core.extraction.score_map import ScoreMap
from paraknow_core.extraction.window import best_window


def by_brute_force(scores_MN: Tensor, rows: int, cols: int) -> tuple[int, int, Fraction]:
    """Every window's sum in exact arithmetic; the first greatest, row by row."""
    exact = [[Fraction(value) for value in line] for line in scores_MN.tolist()]
    best = (-1, -1, Fraction(-1))
    for row in range(len(exact) - rows + 1):
        for col in range(len(exact[0]) - cols + 1):
            total = sum(sum(line[col : col + cols]) for line in exact[row : row + rows])
            if total > best[2]:
                best = (row, col, Fraction(total))
    return best


@st.composite
def maps_and_windows(draw: st.DrawFn) -> tuple[Tensor, int, int]:
    """Random, flat and sparse maps, some with many ties, of up to 9×9."""
    M, N = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    generator = torch.Generator().manual_seed(draw(st.integers(0, 2**31)))
    noise = torch.rand((M, N), generator=generator)
    kind = draw(st.sampled_from(["random", "flat", "ties", "sparse", "wide"]))
    scores = {
        "random": noise,
        "flat": 1 + 0.02 * noise,
        "ties": (3 * noise).floor() * 0.1,
        "sparse": noise * (noise > 0.8),
        "wide": 10 ** (12 * noise - 6),
    }[kind]
    return scores, draw(st.integers(1, M)), draw(st.integers(1, N))


@settings(max_examples=300)
@given(maps_and_windows())
def test_the_window_is_the_first_greatest_of_all(case: tuple[Tensor, int, int]) -> None:
    scores, rows, cols = case
    row, col, score = by_brute_force(scores, rows, cols)
    found = best_window(scores, rows=rows, cols=cols)
    assert (found.row, found.col, found.rows, found.cols) == (row, col, rows, cols)
    assert math.isclose(found.score, score, rel_tol=1e-14)
    assert math.isclose(found.total, math.fsum(scores.flatten().tolist()), rel_tol=1e-14)


@pytest.mark.parametrize(
    ("shape", "rows", "cols"),
    [((300, 210), 200, 150), ((300, 210), 100, 60), ((300, 210), 150, 105), ((64, 300), 64, 80)],
)
def test_collapsing_and_blocks_change_nothing(
    shape: tuple[int, int], rows: int, cols: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    scores = 1 + 0.02 * torch.rand(shape, generator=torch.Generator().manual_seed(1))
    table = torch.zeros((shape[0] + 1, shape[1] + 1), dtype=torch.float64)
    table[1:, 1:] = scores.double().cumsum(0).cumsum(1)
    sums = table[rows:, cols:] - table[:-rows, cols:] - table[rows:, :-cols] + table[:-rows, :-cols]
    row, col = divmod(int(sums.argmax()), sums.shape[1])
    for elements in (1, 7 * shape[1], 2**18):
        monkeypatch.setattr(submatrix, "_BLOCK_ELEMENTS", elements)
        found = best_window(scores, rows=rows, cols=cols)
        assert (found.row, found.col) == (row, col)
        assert math.isclose(found.score, float(sums.max()), rel_tol=1e-12)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e-38, 1e30])
def test_a_constant_map_gives_the_first_position(value: float) -> None:
    found = best_window(torch.full((700, 300), value), rows=500, cols=100)
    assert (found.row, found.col) == (0, 0)
    assert math.isclose(found.total, 210_000 * torch.tensor(value).item(), rel_tol=1e-12)


def test_one_last_bit_in_a_flat_map_of_a_million_is_found() -> None:
    scores = torch.ones(1024, 1024)
    scores[900, 1000] = torch.nextafter(torch.tensor(1.0), torch.tensor(2.0))
    found = best_window(scores, rows=768, cols=512)
    assert (found.row, found.col) == (133, 489)  # the first of those that hold that element


def test_a_window_as_large_as_the_map_is_the_map() -> None:
    scores = torch.rand(5, 4)
    found = best_window(scores, rows=5, cols=4)
    assert (found.row, found.col) == (0, 0)
    assert found.score == pytest.approx(found.total, rel=1e-15)


@pytest.mark.parametrize("rows", [1, 3, 7])
def test_a_single_column(rows: int) -> None:
    scores = torch.tensor([[0.0], [1.0], [5.0], [5.0], [1.0], [5.0], [0.0]])
    expected = {1: 2, 3: 1, 7: 0}[rows]  # 5, 1+5+5, all
    assert best_window(scores, rows=rows, cols=1).row == expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_other_dtypes_and_layouts(dtype: torch.dtype) -> None:
    scores = torch.rand((12, 9), generator=torch.Generator().manual_seed(2)).to(dtype)
    row, col, _ = by_brute_force(scores, 5, 4)
    found = best_window(scores, rows=5, cols=4)
    turned = best_window(scores.T.contiguous().T, rows=5, cols=4)
    assert (found.row, found.col) == (row, col)
    assert turned == found


def test_a_reader_is_read_once_in_blocks_and_only_the_rows_it_offers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(submatrix, "_BLOCK_ELEMENTS", 40)
    stored = torch.rand((50, 10), generator=torch.Generator().manual_seed(3))
    stored[30:] = float("nan")  # padding of the teacher's vocabulary, say
    asked: list[int] = []

    def read(rows: slice) -> Tensor:
        asked.extend(range(rows.start, rows.stop))
        assert rows.stop - rows.start <= 4
        return stored[rows]

    found = best_window(ScoreMap((30, 10), read), rows=30, cols=6)
    assert asked == list(range(30))
    assert found.row == 0
    assert found == best_window(stored[:30], rows=30, cols=6)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), -1e-3])
@pytest.mark.parametrize("place", [(0, 0), (10, 5), (19, 9)])
def test_numbers_that_are_no_sensitivity_are_refused(bad: float, place: tuple[int, int]) -> None:
    scores = torch.rand(20, 10)
    scores[place] = bad
    with pytest.raises(NumericsError, match="finite and not negative"):
        best_window(scores, rows=15, cols=8)


@pytest.mark.parametrize(("rows", "cols"), [(6, 1), (1, 5), (0, 1), (1, 0)])
def test_a_window_that_does_not_fit_is_refused_with_both_shapes(rows: int, cols: int) -> None:
    with pytest.raises(ShapeError, match=rf"{rows}×{cols} .* 5×4"):
        best_window(torch.rand(5, 4), rows=rows, cols=cols)


def test_a_map_must_be_a_matrix() -> None:
    with pytest.raises(ShapeError, match=r"\(5,\).*two dimensions"):
        best_window(torch.rand(5), rows=1, cols=1)


@pytest.mark.gpu
def test_a_gpu_finds_the_same_window() -> None:
    scores = 1 + 0.02 * torch.rand((700, 500), generator=torch.Generator().manual_seed(4))
    on_cpu = best_window(scores, rows=500, cols=300)
    on_gpu = best_window(scores.cuda(), rows=500, cols=300)
    assert (on_gpu.row, on_gpu.col) == (on_cpu.row, on_cpu.col)
    assert math.isclose(on_gpu.score, on_cpu.score, rel_tol=1e-12)
