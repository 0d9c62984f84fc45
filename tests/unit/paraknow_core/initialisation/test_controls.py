"""Controls take one thing away and keep the rest, by seed."""

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from paraknow_core.errors import ConfigError
from paraknow_core.initialisation.controls import FACTOR_CONTROLS, SvdFactors, apply_control
from paraknow_core.methods import METHODS
from paraknow_core.svd.truncated import truncated_svd

SHAPES = {"embed": (40, 12), "head": (40, 12), "q": (12, 12), "up": (20, 12)}
RANK = 5
VOCABULARY = ("embed", "head")


def random_matrices(seed: int = 0) -> dict[str, torch.Tensor]:
    source = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=source) for name, shape in SHAPES.items()}


def factors(seed: int = 0) -> dict[str, SvdFactors]:
    found = {m: truncated_svd(w, rank=RANK) for m, w in random_matrices(seed).items()}
    return {m: SvdFactors(svd.u_MR, svd.s_R, svd.vh_RN) for m, svd in found.items()}


def product(f: SvdFactors) -> torch.Tensor:
    return (f.u_MR * f.s_R) @ f.vh_RN


def control(name: str, seed: int = 0, **changes: object) -> dict[str, SvdFactors]:
    made = factors() | changes
    return apply_control(name, made, vocabulary=VOCABULARY, seed=seed)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", FACTOR_CONTROLS)
def test_every_control_keeps_the_spectrum_and_orthonormal_vectors(name: str) -> None:
    given, made = factors(), control(name)
    assert made.keys() == given.keys()
    for module, f in made.items():
        assert torch.equal(f.s_R, given[module].s_R)
        assert (f.u_MR.shape, f.vh_RN.shape) == (
            given[module].u_MR.shape,
            given[module].vh_RN.shape,
        )
        eye = torch.eye(RANK)
        torch.testing.assert_close(f.u_MR.T @ f.u_MR, eye, rtol=0, atol=1e-6)
        torch.testing.assert_close(f.vh_RN @ f.vh_RN.T, eye, rtol=0, atol=1e-6)
        values = torch.linalg.svdvals(product(f).double())[:RANK]
        torch.testing.assert_close(values, f.s_R.double(), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("name", FACTOR_CONTROLS)
def test_a_seed_gives_the_same_bits_and_another_seed_others(name: str) -> None:
    first, again, other = control(name), control(name), control(name, seed=1)
    for module, f in first.items():
        assert torch.equal(product(f), product(again[module]))
    assert any(not torch.equal(product(f), product(other[m])) for m, f in first.items())


def test_same_spectrum_has_nothing_of_the_teachers_directions() -> None:
    """Random in 40 and 12 dimensions: the mean squared overlap is 5/40 and 5/12 of a vector's."""
    overlaps = []
    for seed in range(200):
        f = control("same-spectrum", seed)["embed"]
        overlaps.append((f.u_MR.T @ factors()["embed"].u_MR).square().sum() / RANK)
    assert float(torch.stack(overlaps).mean()) == pytest.approx(RANK / 40, rel=0.1)


def test_same_spectrum_draws_each_matrix_apart_from_the_others() -> None:
    both = control("same-spectrum")
    assert not torch.equal(both["embed"].u_MR, both["head"].u_MR)
    alone = apply_control("same-spectrum", {"q": factors()["q"]}, vocabulary=(), seed=0)
    assert torch.equal(alone["q"].u_MR, both["q"].u_MR)


@given(seed=st.integers(0, 2**31))
@settings(max_examples=20)
def test_shuffling_the_factors_is_shuffling_the_cut(seed: int) -> None:
    """The best fit of the permuted cut is the permuted best fit: decompose it again, and see."""
    given, made = factors(), control("shuffled-teacher", seed)
    for module, weight in random_matrices().items():
        rows = find_permutation(given[module].u_MR, made[module].u_MR)
        cols = find_permutation(given[module].vh_RN.T, made[module].vh_RN.T)
        again = truncated_svd(weight[rows][:, cols], rank=RANK)
        torch.testing.assert_close(
            product(made[module]), (again.u_MR * again.s_R) @ again.vh_RN, rtol=1e-4, atol=1e-5
        )


def find_permutation(before: torch.Tensor, after: torch.Tensor) -> torch.Tensor:
    """Which row of `before` each row of `after` is; every row is there once."""
    where = (before[None] == after[:, None]).all(2)
    assert where.sum(0).tolist() == where.sum(1).tolist() == [1] * len(before)
    return where.int().argmax(1)


def test_shuffled_vocabulary_moves_the_same_rows_in_both_tables_and_nothing_else() -> None:
    given, made = factors(), control("shuffled-vocabulary")
    orders = [find_permutation(given[m].u_MR, made[m].u_MR) for m in VOCABULARY]
    assert torch.equal(*orders)
    assert orders[0].tolist() != sorted(orders[0].tolist())
    for module in VOCABULARY:
        assert torch.equal(product(made[module]), product(given[module])[orders[0]])
    assert all(torch.equal(product(made[m]), product(given[m])) for m in ("q", "up"))


def test_shuffled_vocabulary_leaves_tokens_without_a_partner_alone() -> None:
    given = factors()
    for module in VOCABULARY:
        given[module].u_MR[10:20] = 0.0
    made = apply_control("shuffled-vocabulary", given, vocabulary=VOCABULARY, seed=0)
    for module in VOCABULARY:
        assert not made[module].u_MR[10:20].any()
        kept = made[module].u_MR.any(1)
        find_permutation(given[module].u_MR[kept], made[module].u_MR[kept])


def test_shuffled_vocabulary_of_a_tied_student_shuffles_its_one_table() -> None:
    tied = {m: f for m, f in factors().items() if m != "head"}
    made = apply_control("shuffled-vocabulary", tied, vocabulary=VOCABULARY, seed=0)
    find_permutation(tied["embed"].u_MR, made["embed"].u_MR)


def test_what_would_be_no_control_is_refused() -> None:
    without = {"q": factors()["q"]}
    with pytest.raises(ConfigError, match="it would be the transfer itself"):
        apply_control("shuffled-vocabulary", without, vocabulary=VOCABULARY, seed=0)
    with pytest.raises(ConfigError, match="did you mean 'same-spectrum'"):
        control("same-spektrum")


def test_the_registry_of_methods_knows_exactly_these() -> None:
    assert {name for name, method in METHODS.items() if method.is_factor_control} == set(
        FACTOR_CONTROLS
    )
