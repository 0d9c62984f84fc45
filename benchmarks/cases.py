"""The measurements: each runs the published algorithm and ours on the same inputs."""

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from benchmarks import inputs, reference
from benchmarks.measure import Timing, in_own_process, timed
from paraknow_core.alignment.layers import choose_layers
from paraknow_core.extraction.window import Window, best_window
from paraknow_core.sensitivity.accumulate import accumulate
from paraknow_core.svd.truncated import Svd, truncated_svd

PROJECTIONS = (
    *(f"self_attn.{name}_proj" for name in "qkvo"),
    *(f"mlp.{name}_proj" for name in ("gate", "up", "down")),
)


@dataclass(frozen=True)
class Row:
    """One line of the report; ``least`` and ``stretch`` are the goals for the ratio, if any."""

    step: str
    case: str
    reference: float
    ours: float
    unit: str
    agreement: str = ""
    runs: str = ""
    wall: str = ""
    least: float | None = None
    stretch: float | None = None
    limit: bool = False  # ``ours`` itself has to stay at or below ``least``

    @property
    def ratio(self) -> float:
        """The reference's value divided by ours."""
        return self.reference / self.ours

    def meets(self, goal: float) -> bool:
        """Whether the ratio, or for a limit the value itself, reaches a goal."""
        return self.ours <= goal if self.limit else self.ratio >= goal


Goals = tuple[float, float | None] | tuple[None, None]
NO_GOALS = (None, None)


def _row(
    step: str,
    case: str,
    theirs: Timing[Any],
    ours: Timing[Any],
    agreement: str,
    *,
    goals: Goals,
) -> Row:
    return Row(
        step,
        case,
        theirs.cpu,
        ours.cpu,
        "CPU s",
        agreement,
        f"{theirs.runs} / {ours.runs}",
        f"{theirs.wall:.3g} / {ours.wall:.3g}",
        *goals,
    )


def windows_13b(shapes: list[tuple[int, int, int, int]]) -> Iterator[Row]:
    """The window search on one matrix each: (M, N, rows, cols)."""
    for M, N, rows, cols in shapes:
        scores = inputs.sensitivity_map(M, N)
        theirs = timed(lambda s=scores, r=rows, c=cols: reference.best_window(s, r, c))  # type: ignore[misc]
        ours = timed(lambda s=scores, r=rows, c=cols: best_window(s, rows=r, cols=c))  # type: ignore[misc]
        # The goals are for a search in both directions; the embedding has only 1,025 windows.
        judged = rows >= 4096 and rows < M
        goals = (45.0, 100.0) if judged else NO_GOALS
        agreement = _same_window(scores, theirs.result, ours.result)
        yield _row("window", f"{M}×{N} → {rows}×{cols}", theirs, ours, agreement, goals=goals)


def _same_window(scores: Tensor, place: tuple[int, int], ours: Window) -> str:
    if place == (ours.row, ours.col):
        return "same window"
    row, col = place
    theirs = float(scores[row : row + ours.rows, col : col + ours.cols].sum(dtype=torch.float64))
    return f"theirs is lower by {1 - theirs / ours.score:.1e} of the sum"


_SPECTRA: dict[str, tuple[Callable[[int, int], Tensor], Goals]] = {
    "flat": (inputs.flat_matrix, (8.0, 30.0)),
    "spiked": (inputs.spiked_matrix, (25.0, 40.0)),
    "power": (inputs.power_matrix, NO_GOALS),
}


def decompositions(shapes: list[tuple[int, int]], kinds: Sequence[str]) -> Iterator[Row]:
    """The SVD of one matrix each, of every kind of spectrum asked for."""
    for M, N in shapes:
        for kind in kinds:
            make, goals = _SPECTRA[kind]
            weight = make(M, N)
            theirs = timed(lambda w=weight: reference.low_rank(w, inputs.RANK))  # type: ignore[misc]
            ours = timed(lambda w=weight: truncated_svd(w, rank=inputs.RANK))  # type: ignore[misc]
            exact = truncated_svd(weight, rank=inputs.RANK, driver="gram")
            agreement = _product_errors(exact, theirs.result, ours.result)
            case = f"{M}×{N} {kind}, rank {inputs.RANK}"
            yield _row("SVD", case, theirs, ours, agreement, goals=goals if N >= 4096 else NO_GOALS)


def libraries(shapes: list[tuple[int, int]], kinds: Sequence[str]) -> Iterator[Row]:
    """Ours with its certificate against what libraries offer without one."""
    others = {"svds": reference.arpack, "svd_lowrank": reference.random_projection}
    for (M, N), kind in itertools.product(shapes, kinds):
        weight = _SPECTRA[kind][0](M, N)
        whole = truncated_svd(weight, rank=inputs.LARGEST_RANK, driver="gram")
        for rank in (inputs.RANK, inputs.LARGEST_RANK):
            exact = replace(
                whole, u_MR=whole.u_MR[:, :rank], s_R=whole.s_R[:rank], vh_RN=whole.vh_RN[:rank]
            )
            ours = timed(lambda w=weight, r=rank: truncated_svd(w, rank=r))  # type: ignore[misc]
            for name, other in others.items():
                theirs = timed(lambda w=weight, r=rank, f=other: f(w, r))  # type: ignore[misc]
                agreement = _product_errors(exact, theirs.result, ours.result)
                judged = name == "svds" and N >= 4096 and rank == inputs.LARGEST_RANK
                goals = (1.0, None) if judged else NO_GOALS
                case = f"{M}×{N} {kind}, rank {rank}"
                yield _row(f"SVD, {name}", case, theirs, ours, agreement, goals=goals)


def _product_errors(exact: Svd, theirs: tuple[Tensor, Tensor], ours: Svd) -> str:
    """The relative error (Frobenius) of both products, against the one computed in float64."""
    left, right = exact.u_MR.double() * exact.s_R.double(), exact.vh_RN.double()
    found = []
    for b, a in (theirs, (ours.u_MR * ours.s_R, ours.vh_RN)):
        found.append(_distance(left, right, b.double(), a.double()) / float(left.norm()))
    driver = ours.certificate["driver"]
    return f"product error {found[0]:.0e} / {found[1]:.0e} ({driver})"


def _distance(b1: Tensor, a1: Tensor, b2: Tensor, a2: Tensor) -> float:
    """``‖b1 a1 − b2 a2‖`` without forming either product."""
    b, a = torch.cat([b1, -b2], dim=1), torch.cat([a1, a2])
    return float((torch.linalg.qr(b).R @ torch.linalg.qr(a.T).R.T).norm())


@dataclass(frozen=True)
class Cut:
    """A teacher matrix and the shape of the window to be cut from it."""

    name: str
    rows: int
    cols: int


def _cuts(pair: inputs.Pair, layers: list[int]) -> list[Cut]:
    """Every matrix of the chosen layers, and embedding and head."""
    student = pair.student
    shapes = {"gate": (student.ffn, student.hidden), "up": (student.ffn, student.hidden)}
    shapes["down"] = (student.hidden, student.ffn)
    cuts = []
    for layer in layers:
        for name in PROJECTIONS:
            rows, cols = shapes.get(name.split(".")[1][:-5], (student.hidden, student.hidden))
            cuts.append(Cut(f"model.layers.{layer}.{name}.weight", rows, cols))
    ends = ("model.embed_tokens.weight", "lm_head.weight")
    return cuts + [Cut(name, inputs.VOCABULARY, student.hidden) for name in ends]


_PAIR_GOALS: dict[str, dict[str, Goals]] = {
    "small": {
        "sensitivity": (1.2, 1.5),
        "windows": (200.0, 300.0),
        "svd": (2.0, None),
        "total": (4.0, 5.0),
    },
    "medium": {"sensitivity": (1.2, 1.5), "windows": (200.0, 300.0), "total": (2.3, 3.0)},
}


def whole_pair(pair: inputs.Pair, num_samples: int) -> Iterator[Row]:
    """The three steps one after the other, each side on its own results, and their sum."""
    model, samples = inputs.model(pair.teacher), inputs.samples(num_samples)
    goals = _PAIR_GOALS.get(pair.name, {})
    weights = {name: p.detach() for name, p in model.named_parameters()}
    # Once each: a run takes long, and medians of parts would not add up to the total.
    ours_maps = timed(lambda: accumulate(model, samples), runs=1)
    their_maps = timed(lambda: reference.sensitivity(model, samples), runs=1)
    yield _row(
        "sensitivity",
        f"{pair.name}, {num_samples} samples",
        their_maps,
        ours_maps,
        _map_difference(their_maps.result, ours_maps.result),
        goals=goals.get("sensitivity", NO_GOALS),
    )
    their_search = timed(lambda: _their_search(pair, their_maps.result), runs=1)
    ours_search = timed(lambda: _our_search(pair, ours_maps.result), runs=1)
    yield _row(
        "layers and windows",
        pair.name,
        their_search,
        ours_search,
        _same_windows(their_search.result, ours_search.result),
        goals=goals.get("windows", NO_GOALS),
    )
    places = ours_search.result
    their_svd = timed(lambda: _their_svd(weights, places), runs=1)
    ours_svd = timed(lambda: _our_svd(weights, places), runs=1)
    yield _row(
        "SVD",
        f"{pair.name}, {len(places)} matrices",
        their_svd,
        ours_svd,
        _worst_product_error(weights, places, their_svd.result, ours_svd.result),
        goals=goals.get("svd", NO_GOALS),
    )
    parts = ((their_maps, ours_maps), (their_search, ours_search), (their_svd, ours_svd))
    theirs, ours = ([pair_[side] for pair_ in parts] for side in (0, 1))
    total = goals.get("total", NO_GOALS)
    yield _row("the four together", pair.name, _sum(theirs), _sum(ours), "", goals=total)


def _sum(timings: list[Timing[Any]]) -> Timing[None]:
    return Timing(sum(t.cpu for t in timings), sum(t.wall for t in timings), 1, None)


def _map_difference(theirs: dict[str, Tensor], ours: dict[str, Tensor]) -> str:
    """The greatest relative difference of a whole tensor's map (Frobenius)."""
    worst = max(
        float((theirs[name].double() - ours[name].double()).norm() / theirs[name].double().norm())
        for name in theirs
    )
    return f"maps differ by at most {worst:.0e}"


Places = list[tuple[Cut, int, int]]


def _their_search(pair: inputs.Pair, maps: dict[str, Tensor]) -> Places:
    scores = reference.layer_scores(maps, pair.teacher.layers)
    cuts = _cuts(pair, reference.choose_layers(scores, pair.student.layers))
    return [(c, *reference.best_window(maps[c.name], c.rows, c.cols)) for c in cuts]


def _our_search(pair: inputs.Pair, maps: dict[str, Tensor]) -> Places:
    layers = choose_layers(
        "sensitivity",
        scores=reference.layer_scores(maps, pair.teacher.layers),
        num_teacher=pair.teacher.layers,
        num_student=pair.student.layers,
        seed=0,
    )
    found = []
    for cut in _cuts(pair, layers):
        window = best_window(maps[cut.name], rows=cut.rows, cols=cut.cols)
        found.append((cut, window.row, window.col))
    return found


def _same_windows(theirs: Places, ours: Places) -> str:
    if [cut.name for cut, *_ in theirs] != [cut.name for cut, *_ in ours]:
        return "other layers chosen"
    same = sum(a == b for a, b in zip(theirs, ours, strict=True))
    return f"same layers, {same} of {len(ours)} windows the same"


def _cut(weights: dict[str, Tensor], cut: Cut, row: int, col: int) -> Tensor:
    return weights[cut.name][row : row + cut.rows, col : col + cut.cols]


def _their_svd(weights: dict[str, Tensor], places: Places) -> list[tuple[Tensor, Tensor]]:
    return [reference.low_rank(_cut(weights, *place), inputs.RANK) for place in places]


def _our_svd(weights: dict[str, Tensor], places: Places) -> list[Svd]:
    return [truncated_svd(_cut(weights, *place), rank=inputs.RANK) for place in places]


def _worst_product_error(
    weights: dict[str, Tensor], places: Places, theirs: list[tuple[Tensor, Tensor]], ours: list[Svd]
) -> str:
    """The greatest product error of either side, over every eighth matrix, by LAPACK in float64."""
    worst = [0.0, 0.0]
    for place, (b, a), svd in list(zip(places, theirs, ours, strict=True))[::8]:
        exact = truncated_svd(_cut(weights, *place), rank=inputs.RANK, driver="full")
        left, right = exact.u_MR.double() * exact.s_R.double(), exact.vh_RN.double()
        for side, (x, y) in enumerate(((b, a), (svd.u_MR * svd.s_R, svd.vh_RN))):
            far = _distance(left, right, x.double(), y.double()) / float(left.norm())
            worst[side] = max(worst[side], far)
    return f"product error at most {worst[0]:.0e} / {worst[1]:.0e}"


RETURNED_AT_ONCE = {"MALLOC_MMAP_THRESHOLD_": "131072"}
"""Read by glibc: blocks from 128 KiB on go back to the system when they are freed."""


def memory(cases: list[str]) -> Iterator[Row]:
    """Peak memory beyond the inputs, as a multiple of them, each in a process of its own."""
    for case in cases:
        yield _memory(case, goals=(1.6, 0.5) if case == "sensitivity medium" else NO_GOALS)
        if case == "sensitivity medium":
            yield _memory(case, RETURNED_AT_ONCE)


def _memory(
    case: str, environment: Mapping[str, str] = MappingProxyType({}), *, goals: Goals = NO_GOALS
) -> Row:
    theirs, ours = (in_own_process(case, side, **environment) for side in ("reference", "ours"))
    inputs_bytes = ours["inputs"]
    settings = "".join(f", {name}={value}" for name, value in environment.items())
    return Row(
        "peak memory",
        f"{case} (inputs {inputs_bytes / 1e6:.0f} MB{settings})",
        theirs["growth"] / inputs_bytes,
        ours["growth"] / inputs_bytes,
        "× inputs",
        least=goals[0],
        stretch=goals[1],
        limit=True,
    )
