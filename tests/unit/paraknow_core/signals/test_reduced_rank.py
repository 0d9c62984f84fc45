"""The shared solver against the obvious dense computation, in float64."""

import pytest
import torch

from paraknow_core.errors import NumericsError, ShapeError
from paraknow_core.signals.reduced_rank import CrossProducts, damping, reduced_rank, ridge_map


def draw(positions: int, rows: int, columns: int, seed: int = 0):
    source = torch.Generator().manual_seed(seed)
    options = {"generator": source, "dtype": torch.float64}
    x = torch.randn(positions, columns, **options) * torch.linspace(0.1, 3, columns).double()
    return torch.randn(positions, rows, **options), x


def sums_of(e, x, pieces: int = 3):
    sums = CrossProducts.zeros(e.shape[1], x.shape[1])
    for part_e, part_x in zip(e.chunk(pieces), x.chunk(pieces), strict=True):
        sums.add(part_e, part_x)
    return sums


def dense(e, x, rank: int, ridge: float):
    """Least squares with the ridge as more rows; then the best rank of the fitted values."""
    lam = ridge * (x.T @ x).diagonal().mean()
    more_x = torch.cat([x, lam.sqrt() * torch.eye(x.shape[1]).double()])
    more_e = torch.cat([e, torch.zeros(x.shape[1], e.shape[1]).double()])
    full = torch.linalg.lstsq(more_x, more_e, driver="gelsd").solution
    _u, _s, vh = torch.linalg.svd(more_x @ full, full_matrices=False)
    return (full @ vh[:rank].T @ vh[:rank]).T


@pytest.mark.parametrize(("rows", "columns"), [(7, 12), (15, 6)])
@pytest.mark.parametrize("ridge", [0.0, 0.05])
def test_it_is_the_optimum_of_its_rank(rows: int, columns: int, ridge: float) -> None:
    e, x = draw(40, rows, columns)
    found = reduced_rank(sums_of(e, x), rank=3, ridge=ridge, what="w")
    delta = found.b @ found.a
    torch.testing.assert_close(delta, dense(e, x, 3, ridge), rtol=1e-8, atol=1e-10)
    lam = damping(x.T @ x, ridge)

    def loss(change: torch.Tensor) -> float:
        return float((e - x @ change.T).square().sum() + lam * change.square().sum())

    source = torch.Generator().manual_seed(1)
    for _ in range(20):
        b, a = (p + 1e-3 * torch.randn(p.shape, generator=source).double() for p in reversed(found))
        assert loss(b @ a) > loss(delta)


def test_fewer_positions_than_unknowns_are_solved_with_the_ridge_alone() -> None:
    e, x = draw(5, 4, 9)
    found = reduced_rank(sums_of(e, x), rank=6, ridge=0.1, what="w")
    torch.testing.assert_close(found.b @ found.a, dense(e, x, 6, 0.1), rtol=1e-7, atol=1e-10)
    assert not found.b[:, 4:].any()  # there are only four directions
    with pytest.raises(NumericsError, match=r"w: 9 unknowns for each output, but 5 positions"):
        reduced_rank(sums_of(e, x), rank=2, ridge=0.0, what="w")


def test_a_whole_map_is_that_of_ridge_regression() -> None:
    e, x = draw(30, 4, 9)
    found = ridge_map(x.T @ x, x.T @ e, positions=30, ridge=0.2)
    torch.testing.assert_close(found, dense(e, x, 4, 0.2).T, rtol=1e-8, atol=1e-10)
    twice = torch.cat([x, x[:, :1]], 1)
    with pytest.raises(NumericsError, match="depend on each other"):
        ridge_map(twice.T @ twice, twice.T @ e, positions=30, ridge=0.0)


def test_what_cannot_be_solved_is_refused() -> None:
    e, x = draw(8, 3, 4)
    with pytest.raises(NumericsError, match="nothing to write"):
        reduced_rank(sums_of(0 * e, x), rank=2, ridge=0.1, what="w")
    with pytest.raises(NumericsError, match="all zero"):
        reduced_rank(sums_of(e, 0 * x), rank=2, ridge=0.1, what="w")
    with pytest.raises(NumericsError, match="the ridge is -1"):
        reduced_rank(sums_of(e, x), rank=2, ridge=-1.0, what="w")
    with pytest.raises(ShapeError, match=r"\(8, 3\).*\(7, 4\)"):
        CrossProducts.zeros(3, 4).add(e, x[1:])
