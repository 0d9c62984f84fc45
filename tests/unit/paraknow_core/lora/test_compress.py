from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from support.adapters_in_store import moved
from support.starts import transfer_start
from support.tiny import tiny_model

from paraknow_core.errors import ConfigError, RankError
from paraknow_core.lora.adapter import Adapter, LoraFactors
from paraknow_core.lora.combine import combine
from paraknow_core.lora.compress import compress, product_svd, without_modules


def adapter_of(m: int, n: int, rank: int, *, seed: int = 0, alpha: float = 6.0) -> Adapter:
    generator = torch.Generator().manual_seed(seed)
    a, b = torch.randn(rank, n, generator=generator), torch.randn(m, rank, generator=generator)
    return Adapter({"layer": LoraFactors(a, b)}, frozenset(), rank=rank, alpha=alpha)


def full_product(adapter: Adapter, module: str) -> torch.Tensor:
    a, b = adapter.factors[module]
    return adapter.scale * (b.double() @ a.double())


@settings(max_examples=40)
@given(st.integers(2, 20), st.integers(2, 20), st.integers(1, 12), st.integers(1, 12))
def test_the_result_is_the_best_of_its_rank(m: int, n: int, rank: int, wanted: int) -> None:
    adapter = adapter_of(m, n, rank, seed=m * n)
    whole = full_product(adapter, "layer")
    u, s, vh = torch.linalg.svd(whole, full_matrices=False)
    best = (u[:, :wanted] * s[:wanted]) @ vh[:wanted]
    found = compress(adapter, rank=wanted)
    error = (full_product(found.adapter, "layer") - whole).norm()
    # Equal singular values leave the approximation open, never its distance.
    assert error <= (best - whole).norm() + 1e-5 * whole.norm()
    kept = float(s[:wanted].square().sum() / s.square().sum())
    assert found.kept["layer"] == pytest.approx(1.0 if wanted >= rank else kept, abs=1e-9)
    assert found.adapter.rank == min(wanted, rank)


def test_the_singular_values_are_those_of_the_product_in_float64() -> None:
    adapter = adapter_of(300, 70, 9)
    u, s, vh = product_svd(adapter, "layer")
    whole = full_product(adapter, "layer")
    torch.testing.assert_close(s, torch.linalg.svdvals(whole)[:9], rtol=1e-10, atol=1e-10)
    torch.testing.assert_close((u * s) @ vh, whole, rtol=1e-10, atol=1e-10)


def test_a_rank_that_is_no_lower_loses_nothing_at_all() -> None:
    adapter = adapter_of(12, 8, 4)
    for rank in (4, 5, 100):
        found = compress(adapter, rank=rank)
        assert found.adapter is adapter
        assert (found.total, found.kept) == (1.0, {"layer": 1.0})


def test_the_total_weighs_modules_by_their_change() -> None:
    large, small = adapter_of(9, 9, 4, seed=1), adapter_of(9, 9, 4, seed=2)
    a, b = small.factors["layer"]
    factors = {"large": large.factors["layer"], "small": LoraFactors(a * 1e-3, b)}
    found = compress(Adapter(factors, frozenset(), rank=4, alpha=4.0), rank=1)
    assert found.total == pytest.approx(found.kept["large"], rel=1e-4)
    assert found.kept["small"] == pytest.approx(compress(small, rank=1).kept["layer"], rel=1e-6)


def test_no_change_is_kept_whole() -> None:
    zero = LoraFactors(torch.ones(4, 6), torch.zeros(5, 4))
    found = compress(Adapter({"layer": zero}, frozenset(), rank=4, alpha=4.0), rank=2)
    assert found.total == 1.0
    assert not found.adapter.delta("layer").any()


def test_a_rank_below_one_is_refused() -> None:
    with pytest.raises(RankError, match=r"Rank 0 .* at least 1"):
        compress(adapter_of(4, 4, 2), rank=0)


def test_left_out_modules_are_measured(tmp_path: Path) -> None:
    student = tiny_model(tmp_path / "student", "qwen2", tied=True, layers=1)
    start = transfer_start(student, tmp_path / "start")
    adapter = combine(start, moved(start))
    found = without_modules(adapter, {"model.embed_tokens", "lm_head"})
    norms = {m: float(full_product(adapter, m).square().sum()) for m in adapter.factors}
    lost = norms["model.embed_tokens"] / sum(norms.values())
    assert found.total == pytest.approx(1 - lost, rel=1e-6)
    assert found.adapter.tied_head is None
    assert not found.adapter.embeddings
    assert set(found.adapter.factors) == set(adapter.factors) - {"model.embed_tokens"}


def test_an_adapter_of_nothing_else_is_refused() -> None:
    with pytest.raises(ConfigError, match="only layer"):
        without_modules(adapter_of(4, 4, 2), ["layer"])
