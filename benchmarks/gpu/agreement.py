"""Whether the device computes what the CPU computes, on a small model."""

import copy
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.gpu.models import Shape, write
from benchmarks.gpu.run import Run
from benchmarks.gpu.steps import Rows
from paraknow_core.data.examples import TokenisedExample
from paraknow_core.extraction.window import best_window
from paraknow_core.models.load import load_model
from paraknow_core.sensitivity.accumulate import accumulate
from paraknow_core.sensitivity.streamed.stream import stream
from paraknow_core.svd.truncated import truncated_svd


def agree(run: Run, shape: Shape, rows: Rows, *, side: int) -> None:
    """Say how far maps, windows and a decomposition are from the CPU's.

    Args:
        run: that is told.
        shape: of the model.
        rows: that it is measured on.
        side: of the matrix that is decomposed.
    """
    folder, samples = run.place / "small", rows.drawn(shape.vocabulary)
    write(shape, folder, "cpu")
    for dtype in (torch.float32, torch.bfloat16):
        on_cpu = accumulate(load_model(folder, dtype=dtype), samples)
        there = load_model(folder, dtype=dtype, device=run.device)
        first, again = (accumulate(copy.deepcopy(there), samples) for _ in range(2))
        same = all(torch.equal(first[name], again[name]) for name in first)
        layered = _streamed(folder, samples, dtype, run)
        windows = [name for name, scores in on_cpu.items() if _moved(scores, first[name])]
        run.say(
            f"- Maps in {str(dtype).removeprefix('torch.')}: {_error(on_cpu, first):.1e} from the "
            f"CPU's (relative, Frobenius), {len(windows)} of {len(on_cpu)} windows elsewhere; "
            f"layer by layer {_error(on_cpu, layered):.1e} from it; a second run gives "
            f"{'the same' if same else 'OTHER'} bits."
        )
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(side, side, generator=generator)
    found = truncated_svd(weight.to(run.device), rank=16)
    expected = truncated_svd(weight, rank=16)
    products = [
        f.u_MR.cpu().double() * f.s_R.cpu() @ f.vh_RN.cpu().double() for f in (found, expected)
    ]
    error = float((products[0] - products[1]).norm() / products[1].norm())
    run.say(
        f"- SVD of {side}² at rank 16: products {error:.1e} apart; driver "
        f"{found.certificate['driver']} on the device, {expected.certificate['driver']} on the CPU."
    )


def _streamed(
    folder: Path, samples: list[TokenisedExample], dtype: torch.dtype, run: Run
) -> dict[str, Tensor]:
    scratch, kept = run.place / "layers", {}
    scratch.mkdir(exist_ok=True)

    def take(maps: dict[str, Tensor], _tensors: object) -> list[Path]:
        kept.update({name: scores.cpu() for name, scores in maps.items()})
        return []

    stream(folder, samples, take=take, out=scratch, scratch=scratch, dtype=dtype, device=run.device)
    return kept


def _error(expected: dict[str, Tensor], found: dict[str, Tensor]) -> float:
    apart = sum(
        float((found[name].cpu().double() - scores).square().sum())
        for name, scores in expected.items()
    )
    whole = sum(float(scores.double().square().sum()) for scores in expected.values())
    return (apart / whole) ** 0.5


def _moved(expected: Tensor, found: Tensor) -> bool:
    if expected.dim() != 2:
        return False
    rows, cols = (max(1, side // 2) for side in expected.shape)
    places = [best_window(scores, rows=rows, cols=cols) for scores in (expected, found)]
    return (places[0].row, places[0].col) != (places[1].row, places[1].col)
