"""What is done with a gradient: torch's operations, and Triton's kernels where Triton is there."""

import os
import subprocess
import sys

import pytest
import torch
from support.patience import PATIENCE
from support.tiny import tiny_model
from support.tiny import tiny_samples as samples

from paraknow_core.models.load import load_model
from paraknow_core.sensitivity import gradient_sums, tile
from paraknow_core.sensitivity.accumulate import accumulate
from paraknow_core.sensitivity.repeatable import _refuses, repeatable


def drawn(*shape, seed=0):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_a_gradients_absolute_value_is_added_and_its_total_told(dtype):
    gradient, sums = drawn(7, 5).to(dtype), drawn(7, 5, seed=1).abs()
    expected = sums.double() + gradient.double().abs()
    total = tile.add_absolute(sums, gradient.clone())
    assert torch.allclose(sums.double(), expected, rtol=1e-6)
    assert total.dtype == torch.float32
    assert float(total) == pytest.approx(float(gradient.double().abs().sum()), rel=1e-6)
    gradient[3, 1] = float("nan")
    assert not tile.add_absolute(sums, gradient).isfinite()


@pytest.mark.parametrize("places", [[0, 2, 0, 2, 2], []])
def test_rows_are_added_where_they_belong_on_a_gpu_as_on_a_cpu(places):
    """On any device by ``add_at``; the product that a GPU uses is written out here."""
    places_T, rows_TH = torch.tensor(places, dtype=torch.long), drawn(len(places), 4)
    found, product = drawn(3, 4, seed=1), drawn(3, 4, seed=1)
    tile.add_at(found, places_T, rows_TH)
    product.addmm_((torch.arange(3)[:, None] == places_T).float(), rows_TH)
    assert torch.allclose(found, product)


@pytest.mark.parametrize("family", ["llama", "gpt2", "gemma2"])
@pytest.mark.parametrize("tied", [False, True])
def test_the_way_without_a_tile_gives_the_same_maps(tmp_path, monkeypatch, family, tied):
    """A head sets the rows aside that its embedding shares, and adds zeros there."""
    folder = tiny_model(tmp_path, family, tied=tied)
    expected = accumulate(load_model(folder), samples())
    seen = []

    def add(sums_MN, dy_TM, x_TN):
        seen.append(tuple(sums_MN.shape))
        return tile.add_absolute(sums_MN, dy_TM.T @ x_TN)

    monkeypatch.setattr(gradient_sums, "is_fused", lambda dy: True)
    monkeypatch.setattr(gradient_sums, "add_absolute_product", add)
    found = accumulate(load_model(folder), samples())
    assert seen
    for name, scores in expected.items():
        assert torch.allclose(found[name], scores, rtol=1e-5, atol=1e-9), name


def test_a_cpu_needs_nothing_to_be_repeatable():
    with repeatable("cpu"):
        assert not torch.are_deterministic_algorithms_enabled()


def test_what_a_process_can_do_in_a_fixed_order_is_asked_of_torch(monkeypatch):
    """On the CPU here, which can do all of it, and where an operation refuses."""
    cpu = torch.device("cpu")
    assert not _refuses.__wrapped__(cpu)
    asked = []

    def refuse(*_args):
        asked.append(torch.are_deterministic_algorithms_enabled())
        raise RuntimeError("does not have a deterministic implementation")

    monkeypatch.setattr(torch.nn.functional, "cross_entropy", refuse)
    assert _refuses.__wrapped__(cpu)
    assert asked == [True]
    assert not torch.are_deterministic_algorithms_enabled()


# Of the interpreter's bfloat16 the factors would be their bit patterns, so here it is float16.
INTERPRETED = """
import torch
from paraknow_core.sensitivity import kernels, tile
problem = tile.differs(kernels, "cpu", torch.float16)
assert not problem, problem
real = kernels.add_absolute_product
# One that misses a token is noticed.
kernels.add_absolute_product = lambda sums, dy, x: real(sums, dy[:-1], x[:-1])
assert "off by" in tile.differs(kernels, "cpu", torch.float16)
"""

COMPILED = """
from triton import compile
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource
from paraknow_core.sensitivity import kernels

def assembly(kernel, types, sizes):
    names = kernel.arg_names
    aligned = {(i,): [["tt.divisibility", 16]] for i, name in enumerate(names) if name in types}
    kinds = {name: types.get(name, "constexpr") for name in names}
    constants = {(names.index(name),): size for name, size in sizes.items()}
    source = ASTSource(fn=kernel, signature=kinds, constexprs=constants, attrs=aligned)
    options = {"num_warps": kernels._WARPS, "num_stages": kernels._STAGES}
    return compile(source, target=GPUTarget("cuda", 90, 32), options=options).asm["ptx"]

sizes = dict.fromkeys(("size_T", "size_M", "size_N"), "i32")
factors = {"sums": "*fp32", "dy": "*bf16", "x": "*bf16", "totals": "*fp32", **sizes}
blocks = {f"BLOCK_{side}": getattr(kernels, f"_BLOCK_{side}") for side in "MNT"}
assert "wgmma" in assembly(kernels._product, factors, blocks)
whole = {"sums": "*fp32", "gradient": "*fp32", "totals": "*fp32", "size": "i32"}
assert "st.global" in assembly(kernels._absolute, whole, {"BLOCK": kernels._BLOCK})
"""


@pytest.mark.parametrize(
    ("code", "interpret"), [(INTERPRETED, "1"), (COMPILED, "0")], ids=["interpreted", "compiled"]
)
def test_the_kernels_where_triton_is_there(tmp_path, code, interpret):
    """No GPU: interpreted on the CPU, and compiled for the tensor cores of an H100 but not run."""
    pytest.importorskip("triton")
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        env={**os.environ, "TRITON_INTERPRET": interpret, "TRITON_CACHE_DIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stderr[-2000:]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_a_gpu_gives_the_same_bits_every_time_and_a_cpus_numbers(tmp_path, dtype):
    folder = tiny_model(tmp_path, tied=True)
    first, again = (
        accumulate(load_model(folder, dtype=dtype, device="cuda"), samples()) for _ in range(2)
    )
    on_cpu = accumulate(load_model(folder, dtype=dtype), samples())
    error = 1e-4 if dtype == torch.float32 else 3e-2
    for name, scores in on_cpu.items():
        assert torch.equal(first[name], again[name]), name
        off = (first[name].cpu().double() - scores).norm() / scores.double().norm()
        assert off < error, (name, float(off))
