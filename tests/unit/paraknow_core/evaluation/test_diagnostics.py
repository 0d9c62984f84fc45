"""Start points against weights, and layers against layers, each against a slow reference."""

import itertools
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.tiny import tiny_model
from torch import Tensor

from paraknow_core.errors import DataError, NumericsError, ShapeError
from paraknow_core.evaluation import diagnostics
from paraknow_core.evaluation.diagnostics import StartFact, linear_cka, pooled_states, start_fact
from paraknow_core.models.load import load_model


def drawn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@given(
    rows=st.integers(1, 9), cols=st.integers(1, 9), rank=st.integers(1, 4), seed=st.integers(0, 99)
)
def test_start_fact_is_that_of_the_whole_product(
    rows: int, cols: int, rank: int, seed: int
) -> None:
    weight, b, a = (
        drawn(rows, cols, seed=seed),
        drawn(rows, rank, seed=1),
        drawn(rank, cols, seed=2),
    )
    product, w = 0.25 * (b.double() @ a.double()), weight.double()
    found = start_fact(weight, b, a, scale=0.25)
    assert found.norm_ratio == pytest.approx(float(product.norm() / w.norm()), rel=1e-9)
    cosine = float((product * w).sum() / product.norm() / w.norm())
    assert found.cosine == pytest.approx(cosine, abs=1e-9)


def test_weight_in_pieces_gives_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    weight, b, a = drawn(50, 7), drawn(50, 3, seed=1), drawn(3, 7, seed=2)
    whole = start_fact(weight, b, a)
    monkeypatch.setattr(diagnostics, "_PIECE", 16)
    pieces = start_fact(weight, b, a)
    assert pieces.norm_ratio == pytest.approx(whole.norm_ratio, rel=1e-12)
    assert pieces.cosine == pytest.approx(whole.cosine, rel=1e-12)


def test_the_weights_own_svd_has_cosine_of_its_energy() -> None:
    weight = drawn(12, 8)
    u, s, vh = torch.linalg.svd(weight.double(), full_matrices=False)
    found = start_fact(weight, u[:, :3] * s[:3], vh[:3])
    kept = float((s[:3].square().sum() / s.square().sum()).sqrt())
    assert found.cosine == pytest.approx(kept, rel=1e-6)
    assert found.norm_ratio == pytest.approx(kept, rel=1e-6)


def test_zeros_have_no_direction() -> None:
    b, a = torch.zeros(4, 2), drawn(2, 3)
    assert start_fact(drawn(4, 3), b, a) == StartFact(0.0, None)
    assert start_fact(torch.zeros(4, 3), drawn(4, 2), a) == StartFact(None, None)


def test_start_fact_refuses_what_does_not_fit() -> None:
    with pytest.raises(ShapeError, match=r"\(4, 3\).*\(5, 2\)"):
        start_fact(drawn(4, 3), drawn(5, 2), drawn(2, 3))
    with pytest.raises(ShapeError, match="M×R"):
        start_fact(drawn(4, 3), drawn(4, 2), drawn(3, 3))
    broken = drawn(4, 3)
    broken[1, 1] = torch.nan
    with pytest.raises(NumericsError, match="NaN"):
        start_fact(broken, drawn(4, 2), drawn(2, 3))


def slow_hsic(one: Tensor, other: Tensor) -> float:
    """The U-statistic itself: the mean over all quadruples of different texts."""
    k, ell = one.double() @ one.double().T, other.double() @ other.double().T
    terms = [
        float(k[i, j] * (ell[i, j] + ell[q, r] - 2 * ell[i, q]))
        for i, j, q, r in itertools.permutations(range(len(one)), 4)
    ]
    return sum(terms) / len(terms)


def slow_cka(one: Tensor, other: Tensor) -> float:
    cross, own, others = slow_hsic(one, other), slow_hsic(one, one), slow_hsic(other, other)
    return cross / (own * others) ** 0.5


def test_cka_is_that_of_the_u_statistics() -> None:
    ones = [drawn(7, 5, seed=1) + 3.0, drawn(7, 2, seed=2)]
    others = [drawn(7, 4, seed=3), ones[0] @ drawn(5, 6, seed=4), drawn(7, 1, seed=5)]
    found = linear_cka(ones, others)
    wanted = [[slow_cka(one, other) for other in others] for one in ones]
    assert torch.tensor(found).numpy() == pytest.approx(torch.tensor(wanted).numpy(), abs=1e-9)


def test_cka_knows_rotations_scales_and_shifts_as_the_same() -> None:
    states = drawn(20, 6)
    turn, _ = torch.linalg.qr(drawn(6, 6, seed=1))
    assert linear_cka([states], [5.0 * states @ turn - 2.0]) == [[pytest.approx(1.0, abs=1e-5)]]


def test_unrelated_layers_get_about_zero_even_with_fewer_texts_than_features() -> None:
    """The plain estimate would say about .7 here."""
    found = [
        linear_cka([drawn(24, 60, seed=s)], [drawn(24, 60, seed=99 + s)])[0][0] for s in range(40)
    ]
    values = torch.tensor(found)
    assert abs(float(values.mean())) < 4 * float(values.std()) / 40**0.5
    assert float(values.std()) < 0.2


def test_cka_without_variation_and_bad_input() -> None:
    same = torch.full((6, 3), 0.1)
    assert linear_cka([same], [drawn(6, 3)]) == [[None]]
    with pytest.raises(DataError, match="at least 4"):
        linear_cka([drawn(3, 2)], [drawn(3, 2)])
    with pytest.raises(DataError, match="5, 6"):
        linear_cka([drawn(5, 2)], [drawn(6, 2)])
    with pytest.raises(NumericsError, match="float32"):
        linear_cka([torch.full((5, 2), torch.inf)], [drawn(5, 2)])


def test_pooled_states_are_the_models_own_hidden_states(tmp_path: Path) -> None:
    model = load_model(tiny_model(tmp_path / "m", "qwen3"))
    texts = [(1, 20, 21, 22), (1, 30), (1,), (1, 5, 6, 7, 8, 9, 1)]
    found = pooled_states(model, texts, ignore=(1,), batch_size=3)
    assert [tuple(states.shape) for states in found] == [(4, 32)] * 3
    for row, tokens in enumerate(texts):
        states = model(input_ids=torch.tensor([tokens]), output_hidden_states=True).hidden_states
        wanted = [place for place, token in enumerate(tokens) if token != 1] or [0]
        for layer in (0, 1):  # Transformers normalises the last one
            mean = states[layer + 1][0, wanted].mean(0)
            assert torch.allclose(found[layer][row], mean, atol=1e-5)


def test_hooks_are_gone_after_a_failure(tmp_path: Path) -> None:
    model = load_model(tiny_model(tmp_path / "m"))
    with pytest.raises(IndexError):
        pooled_states(model, [(1, 9999)])
    assert not any(layer._forward_hooks for layer in model.get_decoder().layers)
