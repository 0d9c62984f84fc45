import json
import math

import pytest
import torch
from threadpoolctl import threadpool_info
from torch import Tensor

from paraknow_core.errors import ConfigError, NumericsError, RankError, ShapeError
from paraknow_core.svd import subspace
from paraknow_core.svd import truncated as lowrank
from paraknow_core.svd.certificate import Triplets, deflated_sigma
from paraknow_core.svd.lanczos import KrylovBasis, krylov_bases
from paraknow_core.svd.limits import PADDING
from paraknow_core.svd.truncated import Svd, truncated_svd


def gaussian(rows: int, cols: int, seed: int = 0) -> Tensor:
    return 0.02 * torch.randn((rows, cols), generator=torch.Generator().manual_seed(seed))


def with_spectrum(rows: int, cols: int, sigmas: Tensor, seed: int = 0) -> Tensor:
    """Float64 matrix of exactly these leading singular values, the rest 0."""
    u = torch.linalg.qr(gaussian(rows, len(sigmas), seed).double()).Q
    v = torch.linalg.qr(gaussian(cols, len(sigmas), seed + 1).double()).Q
    return u * sigmas.double() @ v.T


def product(found: Svd) -> Tensor:
    return found.u_MR.double() * found.s_R.double() @ found.vh_RN.double()


def best_product(weight: Tensor, rank: int) -> Tensor:
    u, s, vh = torch.linalg.svd(weight.double(), full_matrices=False)
    return u[:, :rank] * s[:rank] @ vh[:rank]


def error(found: Svd, weight: Tensor, rank: int) -> float:
    """How far the product is from the best one of that rank, relative (Frobenius)."""
    best = best_product(weight, rank)
    return float((product(found) - best).norm() / best.norm())


SHAPES = [(40, 40), (90, 30), (30, 90), (1, 7), (7, 1), (1, 1)]


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("driver", ["auto", "gram", "full"])
def test_the_product_is_the_best_of_its_rank(shape: tuple[int, int], driver: str) -> None:
    weight = gaussian(*shape)
    for rank in {1, max(1, min(shape) // 3), min(shape)}:
        found = truncated_svd(weight, rank=rank, driver=driver)
        assert (found.u_MR.shape, found.s_R.shape) == ((shape[0], rank), (rank,))
        assert found.vh_RN.shape == (rank, shape[1])
        assert error(found, weight, rank) < 1e-6


@pytest.fixture(scope="module")
def large() -> dict[str, Tensor]:
    """Flat, spiked and decaying spectra, where auto takes the iterative driver."""
    decay = torch.arange(1, 301).double() ** -1.0
    return {
        "flat": gaussian(1100, 1024),
        "spiked": gaussian(1024, 1100) + with_spectrum(1024, 1100, torch.linspace(9, 2, 24)),
        "decaying": with_spectrum(1024, 1024, decay).float(),
        "steep": with_spectrum(1024, 1024, torch.logspace(0, -6, 200)).float(),
    }


@pytest.mark.parametrize("kind", ["flat", "spiked", "decaying", "steep"])
def test_the_iterative_driver_gives_the_best_product_too(
    large: dict[str, Tensor], kind: str
) -> None:
    found = truncated_svd(large[kind], rank=16)
    assert found.certificate["driver"] == "krylov"
    assert not found.certificate["fell_back"]
    assert found.residual <= 1e-5
    exact = error(found, large[kind], 16)
    assert exact < 1e-5
    assert found.certificate["product_error"] <= 1e-5


@pytest.mark.parametrize("kind", ["flat", "spiked", "decaying", "steep"])
def test_the_driver_of_gpus_gives_the_best_product_as_well(
    large: dict[str, Tensor], kind: str
) -> None:
    found = truncated_svd(large[kind], rank=16, driver="subspace")
    assert (found.certificate["driver"], found.certificate["fell_back"]) == ("subspace", False)
    assert error(found, large[kind], 16) < 1e-6
    assert found.certificate["product_error"] <= 1e-5


@pytest.mark.parametrize("count", [12, 0])
def test_the_driver_of_gpus_takes_a_matrix_of_lower_rank(count: int) -> None:
    weight = with_spectrum(500, 480, torch.ones(count))
    found = truncated_svd(weight, rank=16, driver="subspace")
    assert error(found, weight, 16) < 1e-6 if count else not found.s_R.any()


def test_the_driver_of_gpus_says_what_it_cannot_do(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RankError, match=r"Rank 40 .* 'subspace' .* at most 4"):
        truncated_svd(gaussian(400, 400), rank=40, driver="subspace")
    monkeypatch.setattr(subspace, "_ROUNDS", 1)
    with pytest.raises(NumericsError, match="no convergence within 1 rounds"):
        truncated_svd(gaussian(500, 480), rank=16, driver="subspace")


def test_factors_are_orthonormal_sorted_and_of_canonical_sign(large: dict[str, Tensor]) -> None:
    for weight, rank in ((large["spiked"], 16), (gaussian(50, 80), 12), (gaussian(80, 50), 50)):
        found = truncated_svd(weight, rank=rank)
        identity = torch.eye(rank)
        assert torch.allclose(found.u_MR.T @ found.u_MR, identity, atol=1e-5)
        assert torch.allclose(found.vh_RN @ found.vh_RN.T, identity, atol=1e-5)
        assert bool((found.s_R.diff() <= 0).all())
        assert bool((found.vh_RN.amax(1) >= -found.vh_RN.amin(1)).all())
        assert {t.dtype for t in (found.u_MR, found.s_R, found.vh_RN)} == {torch.float32}
        assert found.u_MR.is_contiguous()
        assert found.vh_RN.is_contiguous()


def test_a_lower_rank_is_the_beginning_of_a_higher_one() -> None:
    weight = gaussian(60, 45)
    low, high = truncated_svd(weight, rank=4), truncated_svd(weight, rank=20)
    assert torch.allclose(low.u_MR, high.u_MR[:, :4], atol=1e-6)
    assert torch.allclose(low.vh_RN, high.vh_RN[:4], atol=1e-6)


def test_drivers_agree_up_to_rounding_signs_included(large: dict[str, Tensor]) -> None:
    iterative, direct = (
        truncated_svd(large["spiked"], rank=16, driver=driver) for driver in ("krylov", "gram")
    )
    assert torch.allclose(iterative.u_MR, direct.u_MR, atol=1e-5)
    assert torch.allclose(iterative.vh_RN, direct.vh_RN, atol=1e-5)
    assert torch.allclose(iterative.s_R, direct.s_R, rtol=1e-6)


def test_repeats_give_the_same_bits(large: dict[str, Tensor]) -> None:
    for weight in (large["flat"], gaussian(64, 48)):
        first, second = truncated_svd(weight, rank=8), truncated_svd(weight.clone(), rank=8)
        assert torch.equal(first.u_MR, second.u_MR)
        assert torch.equal(first.vh_RN, second.vh_RN)


def test_scipys_blas_gets_the_threads_that_torch_has() -> None:
    before = torch.get_num_threads()
    try:
        for number in (1, 2, 1):
            torch.set_num_threads(number)
            truncated_svd(gaussian(64, 48), rank=8)
            pools = {p["num_threads"] for p in threadpool_info() if "scipy" in p["filepath"]}
            if not pools:
                pytest.skip("SciPy's BLAS here has no threads that can be set; NOT tested")
            assert pools == {number}
    finally:
        torch.set_num_threads(before)


def test_energy_is_the_share_of_the_squared_norm() -> None:
    weight = with_spectrum(30, 20, torch.tensor([3.0, 2.0, 1.0])).float()
    assert truncated_svd(weight, rank=1).energy == pytest.approx(9 / 14, rel=1e-5)
    assert truncated_svd(weight, rank=2).energy == pytest.approx(13 / 14, rel=1e-5)
    assert truncated_svd(weight, rank=20).energy == pytest.approx(1, rel=1e-6)


@pytest.mark.parametrize("shape", [(20, 12), (1024, 1024)])
def test_a_zero_matrix(shape: tuple[int, int]) -> None:
    found = truncated_svd(torch.zeros(shape), rank=3)
    assert float(product(found).abs().max()) == 0
    assert torch.allclose(found.u_MR.T @ found.u_MR, torch.eye(3), atol=1e-5)
    assert found.energy == 1


@pytest.mark.parametrize("shape", [(40, 30), (30, 40), (1030, 1024)])
def test_a_matrix_of_lower_rank_than_asked_for(shape: tuple[int, int]) -> None:
    weight = with_spectrum(*shape, torch.tensor([5.0, 4.0, 3.0, 0.1])).float()
    found = truncated_svd(weight, rank=10)
    assert float((product(found) - weight).norm() / weight.norm()) < 1e-6
    assert torch.allclose(found.u_MR.T @ found.u_MR, torch.eye(10), atol=1e-5)


@pytest.mark.parametrize("size", [60, 1024])
def test_a_tie_at_the_rank_gives_one_of_the_equally_best(size: int) -> None:
    sigmas = torch.tensor([4.0, 3.0, 2.0, 2.0, 2.0, 1.0, 0.5])
    weight = with_spectrum(size, size, sigmas)
    found = truncated_svd(weight, rank=3)
    left = float((weight - product(found)).square().sum())
    assert left == pytest.approx(4 + 4 + 1 + 0.25, rel=1e-6)
    assert found.certificate["gap"] == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(64, 40), (1024, 1056)])
def test_other_dtypes(dtype: torch.dtype, shape: tuple[int, int]) -> None:
    weight = (gaussian(*shape) + with_spectrum(*shape, torch.linspace(9, 3, 12))).to(dtype)
    before = weight.clone()
    found = truncated_svd(weight, rank=8)
    assert torch.equal(weight, before)  # the argument is never written to
    assert found.u_MR.dtype == torch.float32
    reference = truncated_svd(before.double(), rank=8, driver="gram")
    assert float((product(found) - product(reference)).norm() / found.s_R.norm()) < 1e-5


def test_layout_and_gradient_do_not_matter() -> None:
    stored = torch.nn.Parameter(gaussian(200, 300))
    window = stored[20:140, 33:133]
    found = truncated_svd(window, rank=5)
    assert not found.u_MR.requires_grad
    assert error(found, window.detach(), 5) < 1e-6
    assert error(truncated_svd(window.T, rank=5), window.detach().T, 5) < 1e-6


def test_the_certificate_is_plain_json_and_true(large: dict[str, Tensor]) -> None:
    weight = large["flat"]
    found = truncated_svd(weight, rank=16)
    certificate = found.certificate
    assert json.loads(json.dumps(certificate, allow_nan=False)) == certificate
    sigmas = torch.linalg.svdvals(weight.double())
    assert certificate["sigma_r"] == pytest.approx(float(sigmas[15]), rel=1e-8)
    assert certificate["sigma_next"] == pytest.approx(float(sigmas[16]), rel=1e-6)
    assert certificate["gap"] == pytest.approx(1 - float(sigmas[16] / sigmas[15]), abs=1e-6)
    u, s, v = found.u_MR.double(), found.s_R.double(), found.vh_RN.double().T
    right, left = weight.double() @ v - u * s, weight.double().T @ u - v * s
    largest = max(float(rest.norm(dim=0).max() / s[0]) for rest in (right, left))
    assert found.residual <= largest + 1e-7  # float32 storage adds its own rounding


def test_a_missed_triplet_shows_in_the_deflated_matrix() -> None:
    weight = with_spectrum(300, 200, torch.tensor([9.0, 8.0, 7.0, 6.0, 1.0]))
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    for kept, left in (([0, 1, 3], 7.0), ([0, 1, 2], 6.0)):
        triplets = Triplets(u[:, kept], s[kept], vh[kept].T)
        assert deflated_sigma(weight, triplets) == pytest.approx(left, rel=1e-5)


def _misses_the_second(matrix_PQ: Tensor, *, rank: int, keep: int) -> list[KrylovBasis]:
    matrix = matrix_PQ.double()
    leading = torch.linalg.eigh(matrix.T @ matrix).eigenvectors.flip(1)
    chosen = [0, *range(2, keep + 1)]
    return [KrylovBasis(leading[:, chosen].contiguous(), 1, converged=True)]


def _stops_early(matrix_PQ: Tensor, *, rank: int, keep: int) -> list[KrylovBasis]:
    start = torch.eye(matrix_PQ.shape[1], keep, dtype=torch.float64)
    return [KrylovBasis(start, 1, converged=False)]


@pytest.mark.parametrize(
    ("broken", "reason"),
    [(_misses_the_second, "was left out, above"), (_stops_early, "no convergence within 1 passes")],
)
def test_where_the_iteration_fails_auto_falls_back_and_says_so(
    broken: object, reason: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    weight = gaussian(1024, 1024) + with_spectrum(1024, 1024, torch.linspace(9, 2, 6))
    monkeypatch.setattr(lowrank, "krylov_bases", broken)
    found = truncated_svd(weight, rank=4)
    assert found.certificate["driver"] == "gram"
    assert found.certificate["fell_back"]
    assert reason in found.certificate["reason"]
    assert error(found, weight, 4) < 1e-6
    with pytest.raises(NumericsError, match="'krylov' does not hold"):
        truncated_svd(weight, rank=4, driver="krylov")


@pytest.mark.parametrize("shape", [(1024, 1024), (1024, 1100)])
def test_the_iteration_goes_on_where_the_last_values_are_far_below_the_first(
    shape: tuple[int, int],
) -> None:
    weight = (gaussian(*shape) + with_spectrum(*shape, torch.linspace(40, 20, 6))).float()
    matrix_PQ = weight if shape[0] >= shape[1] else weight.T
    first, second = krylov_bases(matrix_PQ, rank=16, keep=16 + PADDING)
    assert first.passes < second.passes
    found = truncated_svd(weight, rank=16)
    assert (found.certificate["driver"], found.certificate["fell_back"]) == ("krylov", False)
    assert error(found, weight, 16) < 1e-5


def test_a_large_rank_takes_the_direct_driver() -> None:
    weight = gaussian(1024, 1024)
    assert truncated_svd(weight, rank=200).certificate["driver"] == "gram"
    with pytest.raises(RankError, match=r"Rank 200 .* 'krylov' .* at most 16"):
        truncated_svd(weight, rank=200, driver="krylov")


def test_values_whose_products_overflow_float32_take_the_direct_driver() -> None:
    weight = 1e22 * gaussian(1024, 1024)
    found = truncated_svd(weight, rank=4)
    assert found.certificate["driver"] == "gram"
    assert error(found, weight, 4) < 1e-6
    with pytest.raises(NumericsError, match=r"'krylov' computes in float32.*'gram'"):
        truncated_svd(weight, rank=4, driver="krylov")


@pytest.mark.parametrize("rank", [0, 31, -1])
def test_a_rank_out_of_range_is_refused(rank: int) -> None:
    with pytest.raises(RankError, match=rf"Rank {rank} is outside 1\.\.30.*\(40, 30\)"):
        truncated_svd(gaussian(40, 30), rank=rank)


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_numbers_that_are_not_finite_are_refused(bad: float) -> None:
    weight = gaussian(40, 30)
    weight[3, 4] = bad
    with pytest.raises(NumericsError, match=r"\(40, 30\) holds NaN or infinity"):
        truncated_svd(weight, rank=2)


def test_what_is_no_matrix_and_an_unknown_driver_are_refused() -> None:
    with pytest.raises(ShapeError, match=r"\(4, 4, 4\)"):
        truncated_svd(torch.rand(4, 4, 4), rank=1)
    with pytest.raises(ShapeError, match="int64"):
        truncated_svd(torch.ones(4, 4, dtype=torch.int64), rank=1)
    with pytest.raises(ConfigError, match=r"'lapack'.*auto, gram, krylov, full"):
        truncated_svd(torch.rand(4, 4), rank=1, driver="lapack")


@pytest.mark.gpu
@pytest.mark.parametrize("shape", [(1500, 1100), (60, 90)])
def test_a_gpu_gives_the_same_product(shape: tuple[int, int]) -> None:
    weight = gaussian(*shape)
    found = truncated_svd(weight.cuda(), rank=8)
    assert found.u_MR.is_cuda
    on_cpu = truncated_svd(weight, rank=8)
    assert torch.allclose(product(found).cpu(), product(on_cpu), atol=1e-5)
