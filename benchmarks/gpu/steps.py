"""The steps of a transfer on one pair of models, each with what it has to do at least."""

import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.gpu.models import Shape, write, write_outline
from benchmarks.gpu.run import Run
from paraknow_core.alignment.layers import choose_layers
from paraknow_core.alignment.matrices import match_matrices
from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.extraction.cuts import Cut, choose_cuts
from paraknow_core.extraction.weights import cuts_by_module, module_weight
from paraknow_core.lora.adapter import Adapter, LoraFactors
from paraknow_core.lora.anchored_model import quiet_peft, trainable_model
from paraknow_core.lora.start_point import start_factors, write_start
from paraknow_core.models.describe import MATRIX_ROLES, Role, describe
from paraknow_core.models.load import load_model
from paraknow_core.sensitivity.accumulate import accumulate, answer_loss
from paraknow_core.sensitivity.maps import score_table
from paraknow_core.sensitivity.streamed.stream import stream
from paraknow_core.svd.truncated import truncated_svd

RANK, LARGEST_RANK = 16, 32
START = ("weights read", "sensitivity in memory", "layers and windows", "SVD", "start point")
"""The steps from weights on disk to the start point."""


@dataclass(frozen=True)
class Rows:
    """How many rows of how many tokens; the second half of each is the answer."""

    count: int
    tokens: int

    def drawn(self, vocabulary: int) -> list[TokenisedExample]:
        """The same rows every time."""
        generator = torch.Generator().manual_seed(0)
        found = []
        for _ in range(self.count):
            ids = tuple(torch.randint(vocabulary, (self.tokens,), generator=generator).tolist())
            half = self.tokens // 2
            found.append(TokenisedExample(ids, (NO_LOSS,) * half + ids[half:]))
        return found

    @property
    def total(self) -> int:
        """Tokens of all."""
        return self.count * self.tokens


class Held:
    """Tensors on the device, with what ``Checkpoint`` offers to read matrices."""

    def __init__(self, tensors: Mapping[str, Tensor]) -> None:
        self._tensors = tensors

    def read_slice(self, name: str, rows: slice, cols: slice) -> Tensor:
        """As ``Checkpoint.read_slice``."""
        return self._tensors[name][rows, cols]


def measure(run: Run, name: str, shape: Shape, to: Shape, rows: Rows) -> None:
    """Run all steps of a pair; the teacher's files are gone afterwards."""
    folder, outline = _folders(run)
    size, work = 2 * shape.parameters, 2.0 * shape.matrices * rows.total
    try:
        made = run.step(
            name,
            "weights made and written",
            lambda: write(shape, folder, run.device),
            needs=10 + size / 3e8,
            moved=size,
        )
        if made is None:
            return
        write_outline(to, outline)
        samples = rows.drawn(shape.vocabulary)
        model: Any = run.step(
            name,
            START[0],
            lambda: load_model(folder, dtype=torch.bfloat16, device=run.device),
            needs=10 + size / 5e8,
            moved=size,
        )
        if model is not None:
            _in_memory(run, name, shape, model, samples=samples, work=work)
            del model
        run.step(
            name,
            "sensitivity layer by layer, reading included",
            lambda: _streamed(folder, samples, run),
            needs=10 + 2 * size / 1e9 + 4 * work / 5e13,
            flop=4 * work,
            moved=2 * size,
        )
    finally:
        for each in (folder, outline):
            shutil.rmtree(each, ignore_errors=True)


def _in_memory(
    run: Run, name: str, shape: Shape, model: Any, *, samples: list[TokenisedExample], work: float
) -> None:
    scores: Any = run.step(
        name,
        START[1],
        lambda: accumulate(model, samples),
        needs=10 + 3 * work / 5e13,
        flop=3 * work,
        moved=8.0 * shape.parameters * len(samples),  # each sum is read and written once a row
    )
    if scores is not None:
        teacher, student = map(describe, _folders(run))
        cuts: Any = run.step(
            name,
            START[2],
            lambda: _windows(scores, teacher, student),
            needs=15,
            moved=4.0 * shape.parameters,
        )
        del scores
        values = {t.name: p for t, p in _by_tensor(model, teacher)}
        factors: Any = None
        if cuts is not None:
            factors = run.step(
                name,
                START[3],
                lambda: _decompose(Held(values), teacher, student, cuts),
                needs=5 + 0.3 * len(cuts),
            )
        if factors is not None:
            run.step(
                name, START[4], lambda: _start(factors, student, run.place / "start"), needs=10
            )
    run.step(
        name, "evaluation", lambda: _evaluate(model, samples), needs=10 + work / 5e13, flop=work
    )
    # Forwards, and backwards for the inputs alone: the weights are frozen.
    train = _training(model, describe(_folders(run)[0]), samples, run.device)
    run.step(name, "a training step (first)", train, needs=15 + 2 * work / 5e13, flop=2 * work)
    run.step(
        name,
        "a training step",
        lambda: [train() for _ in range(3)],
        needs=10 + 6 * work / 5e13,
        flop=2 * work,
        times=3,
    )


def _folders(run: Run) -> tuple[Path, Path]:
    """Of the teacher's weights, and of the student's shapes."""
    return run.place / "teacher", run.place / "student"


def _windows(scores: Mapping[str, Tensor], teacher: Any, student: Any) -> list[Cut]:
    table = score_table(scores, teacher)
    layers = choose_layers(
        "sensitivity",
        scores=table["layers"],
        num_teacher=teacher.num_layers,
        num_student=student.num_layers,
        seed=0,
    )
    matches = match_matrices(teacher, student, layers=layers, roles=[*map(str, MATRIX_ROLES)])
    held: Any = Held({t.name: scores[t.parameter] for t in teacher.tensors})
    return choose_cuts(held, matches, teacher=teacher, student=student)[0]


def _by_tensor(model: Any, teacher: Any) -> list[tuple[Any, Tensor]]:
    parameters = dict(model.named_parameters())
    return [(t, parameters[t.parameter].detach()) for t in teacher.tensors]


def _decompose(
    weights: Any, teacher: Any, student: Any, cuts: list[Cut]
) -> dict[str, tuple[Tensor, Tensor]]:
    factors = {}
    for module, mine in cuts_by_module(cuts).items():
        weight_MN = module_weight(weights, teacher, student, mine, {})
        rank = min(LARGEST_RANK, *weight_MN.shape)
        found = truncated_svd(weight_MN, rank=rank)
        factors[module] = start_factors(
            found.u_MR, found.s_R, found.vh_RN, rank=min(RANK, rank), alpha=RANK
        )
    return factors


def _start(factors: Mapping[str, tuple[Tensor, Tensor]], student: Any, folder: Path) -> Adapter:
    embedding = student.module_of(Role.EMBED)
    return write_start(
        folder,
        factors={module: (a.cpu(), b.cpu()) for module, (a, b) in factors.items()},
        embeddings=[embedding],
        rank=RANK,
        alpha=RANK,
        tied_head=student.module_of(Role.HEAD) if student.tied else None,
    )


def _streamed(folder: Path, samples: list[TokenisedExample], run: Run) -> object:
    scratch = run.place / "scratch"
    scratch.mkdir(exist_ok=True)
    return stream(
        folder,
        samples,
        take=lambda *_: [],
        out=scratch,
        scratch=scratch,
        dtype=torch.bfloat16,
        device=run.device,
        boundary_bytes=2**34,
    )


@torch.no_grad()
def _evaluate(model: Any, samples: list[TokenisedExample]) -> list[float]:
    """The answers' likelihood, row by row."""
    return [float(answer_loss(model, sample)) for sample in samples]


def _training(
    model: Any, architecture: Any, samples: list[TokenisedExample], device: str
) -> Callable[[], float]:
    """A step of AdamW on all rows at once, from a start point that is subtracted from the weights.

    What is trained has the rank and the modules of a transfer; its values are random.
    """
    generator = torch.Generator().manual_seed(0)
    factors = {}
    for module, (matrix, *_) in architecture.modules(MATRIX_ROLES).items():
        rows, cols = matrix.whole
        a_RN, b_MR = (
            torch.randn(shape, generator=generator) * 0.01 for shape in ((RANK, cols), (rows, RANK))
        )
        factors[module] = LoraFactors(a_RN, b_MR)
    embedding, head = (architecture.module_of(role) for role in (Role.EMBED, Role.HEAD))
    start = Adapter(
        factors=factors,
        embeddings=frozenset([embedding]),
        rank=RANK,
        alpha=RANK,
        dropout=0.0,
        tied_head=head if architecture.tied else None,
        base_model=None,
        fan_in_fan_out=False,
    )
    state: dict[str, Any] = {}
    ids = torch.tensor([sample.input_ids for sample in samples], device=device)
    labels = torch.tensor([sample.labels for sample in samples], device=device)

    def train() -> float:
        if not state:
            with quiet_peft():
                state["model"] = trainable_model(model, start, dropout=0.0)
            trained = [p for p in state["model"].parameters() if p.requires_grad]
            state["optimizer"] = torch.optim.AdamW(trained, lr=1e-4)
        total = 0.0
        for row in range(len(ids)):  # as gradient accumulation does: one row's activations at once
            loss = state["model"](input_ids=ids[row : row + 1], labels=labels[row : row + 1]).loss
            (loss / len(ids)).backward()
            total += float(loss.detach())
        state["optimizer"].step()
        state["optimizer"].zero_grad()
        return total

    return train
