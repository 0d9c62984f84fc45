"""The sensitivity of a model that need not fit into memory: layer by layer instead of row by row.

First all samples go through the embedding, then all through the first layer, and so on; what comes
out of each layer is kept (``boundaries``). Then, from the head down, a layer is read once more,
each sample goes through it again, now with a backward pass, and the gradient of the layer's input
is kept for the layer below. After the last sample a layer's map is final: it is summed up, handed
to the caller, and dropped. So memory holds one layer with its map (or the embedding, or the head),
one sample's activations in it, and the weights of the next layer, which are read meanwhile
(``prefetch``). A layer is run twice forwards and once backwards: four thirds of
the products of a pass with everything in memory.

Hooks and loss are those of ``accumulate``, whose numbers these are but for rounding: in a tied
matrix the two uses are added in another order.

Units: 0 the embedding, 1 … L the layers, L + 1 the head, then the layers down to L + L + 1, and
2L + 2 the embedding again.
"""

import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import torch
from torch import Tensor

from paraknow_core.data.examples import TokenisedExample
from paraknow_core.models.describe import TensorFacts
from paraknow_core.progress import Progress, no_progress
from paraknow_core.sensitivity.accumulate import (
    check_samples,
    finite_losses,
    refuse_broken,
    times_weights,
)
from paraknow_core.sensitivity.gradient_sums import GradientSums
from paraknow_core.sensitivity.grouping import used_tokens
from paraknow_core.sensitivity.maps import role_sums
from paraknow_core.sensitivity.repeatable import repeatable
from paraknow_core.sensitivity.streamed.boundaries import Boundary, Budget
from paraknow_core.sensitivity.streamed.layered_model import LayeredModel
from paraknow_core.sensitivity.streamed.saves import StreamedCheckpoint, streamed_fingerprint

Sums = dict[str, list[tuple[str, float]]]
"""Parameter → the sums of its map by role, as ``role_sums`` gives them."""

Take = Callable[[dict[str, Tensor], list[TensorFacts]], Sequence[Path]]
"""Takes final maps, by parameter name, and what is known of their tensors; returns files made."""


def stream(
    folder: Path,
    samples: Sequence[TokenisedExample],
    *,
    take: Take,
    out: Path,
    scratch: Path,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    boundary_bytes: int = 0,
    progress: Progress = no_progress,
    checkpoint: StreamedCheckpoint | None = None,
) -> Sums:
    """Compute the sensitivity of every parameter, as ``accumulate`` does, with little in memory.

    Args:
        folder: a model folder, as ``load_model`` takes it.
        samples: the seed samples, tokenised, with at least one answer token each.
        take: gets each parameter's map once, float32 on ``device``, those of a whole layer (or of
            a whole role outside the layers) together; it has to copy what it keeps.
        out: the folder that ``take`` writes its files into; files of an earlier run's maps are put
            there when the run goes on.
        scratch: an empty folder for what passes between layers.
        dtype: that is computed in, float32 or bfloat16.
        device: that is computed on.
        boundary_bytes: of memory for what passes between layers; the rest is in files.
        progress: called before the first and after every sample of every unit.
        checkpoint: where to save what is done; a run of the same goes on after its last whole unit.

    Returns:
        The sums of all maps, for ``score_table_of``.

    Raises:
        DataError, NumericsError: as ``accumulate``.
        ModelFolderError, ArchitectureError, CheckpointError: as ``load_model``.
    """
    with LayeredModel(folder, dtype=dtype, device=device) as model, repeatable(device):
        check_samples(model.model, samples)
        run = ""
        if checkpoint:
            run = streamed_fingerprint(folder, model.architecture, samples, str(dtype))
        stream = _Stream(model, samples, take, out, scratch, Budget(boundary_bytes))
        return stream.run(progress, checkpoint, run)


@dataclass
class _Stream:
    """A run on its way.

    ``kept`` holds what passes between units: ``hidden-N`` goes into layer N, ``gradient`` is the
    loss's with respect to the output of the layer that is next, ``held`` what a tied head set
    aside for the embedding's rows of each sample, and ``tied`` its sum of all the others.
    """

    model: LayeredModel
    samples: Sequence[TokenisedExample]
    take: Take
    out: Path
    scratch: Path
    budget: Budget
    sums: Sums = field(default_factory=dict)
    kept: dict[str, Boundary] = field(default_factory=dict)
    fresh: set[str] = field(default_factory=set)
    files: list[Path] = field(default_factory=list)

    def run(self, progress: Progress, checkpoint: StreamedCheckpoint | None, run: str) -> Sums:
        layers = range(self.model.architecture.num_layers)
        units: list[Callable[[Callable[[int, str], None]], None]] = [
            self._enter,
            *(lambda tell, n=n: self._forward(n, tell) for n in layers),
            self._end,
            *(lambda tell, n=n: self._backward(n, tell) for n in reversed(layers)),
            self._leave,
        ]
        size, total = len(self.samples), len(units) * len(self.samples)
        done = saved = self._restore(checkpoint, run) if checkpoint else 0
        progress(done * size, total, f"resumed after unit {done}" if done else "sensitivity")
        for unit in range(done, len(units)):

            def tell(sample: int, message: str, unit: int = unit) -> None:
                # The last sample of a unit is told when the unit is done, and saved.
                if sample + 1 < size:
                    progress(unit * size + sample + 1, total, message)

            units[unit](tell)
            if checkpoint and checkpoint.is_due() and unit + 1 < len(units):
                self._save(checkpoint, run, saved, unit + 1)
                saved = unit + 1
            progress((unit + 1) * size, total, f"unit {unit + 1} of {len(units)}")
        return self.sums

    def _enter(self, tell: Callable[[int, str], None]) -> None:
        hidden = self._new("hidden-0")
        with self.model.loaded(self.model.entry), torch.no_grad():
            for number, sample in enumerate(self.samples):
                hidden.put(number, self.model.entered(sample)[0])
                tell(number, "embedding")

    def _forward(self, layer: int, tell: Callable[[int, str], None]) -> None:
        given, out = self.kept[f"hidden-{layer}"], self._new(f"hidden-{layer + 1}")
        names, then = self.model.layer(layer), self.model.layer(layer + 1)
        with self.model.loaded(names, then=then), torch.no_grad():
            for number, sample in enumerate(self.samples):
                hidden = given.get(number)[None].to(self.model.device)
                out.put(number, self.model.call(layer, sample)(hidden)[0])
                tell(number, f"layer {layer} forward")

    def _end(self, tell: Callable[[int, str], None]) -> None:
        """Final norm, head and loss, and their backward pass."""
        layers = self.model.architecture.num_layers
        given, gradient = self.kept[f"hidden-{layers}"], self._new("gradient")
        tied = [name for name in self.model.end if name in self.model.entry]
        with self._summed(self.model.end, without=tied) as sums:
            for kept in ("held", "tied") if tied else ():
                self._new(kept)
            for number, sample in enumerate(self.samples):
                hidden = _leaf(given.get(number), self.model.device)
                loss = self.model.loss(sample, hidden, sums)
                (value,) = finite_losses(loss[None], [number])
                loss.backward()  # type: ignore[no-untyped-call]
                refuse_broken(sums.end(), [number])
                gradient.put(number, _gradient(hidden))
                for name in tied:
                    self.kept["held"].put(number, sums.held(name)[0])
                tell(number, f"sample {number}: loss {value:.3f}")
            for name in tied:
                self.kept["tied"].put(0, sums.sums[name])
        self._drop(f"hidden-{layers}")

    def _backward(self, layer: int, tell: Callable[[int, str], None]) -> None:
        given, gradient = self.kept[f"hidden-{layer}"], self.kept["gradient"]
        with self._summed(self.model.layer(layer), then=self.model.layer(layer - 1)) as sums:
            for number, sample in enumerate(self.samples):
                hidden = _leaf(given.get(number), self.model.device)
                output = self.model.call(layer, sample)(hidden)
                output.backward(gradient.get(number)[None].to(self.model.device))  # type: ignore[no-untyped-call]
                refuse_broken(sums.end(), [number])
                gradient.put(number, _gradient(hidden))
                tell(number, f"layer {layer} backward")
        self.fresh.add("gradient")
        self._drop(f"hidden-{layer}")

    def _leave(self, tell: Callable[[int, str], None]) -> None:
        """The embedding's backward pass."""
        with self._summed(self.model.entry) as sums:
            tied = [name for name in self.model.end if name in self.model.entry]
            for name in tied:
                sums.sums[name].copy_(self.kept["tied"].get(0))
            for number, sample in enumerate(self.samples):
                hidden = self.model.entered(sample)
                for name in tied:
                    (held,) = sums.held(name)
                    held.copy_(self.kept["held"].get(number, len(held)))
                hidden.backward(self.kept["gradient"].get(number)[None].to(self.model.device))  # type: ignore[no-untyped-call]
                refuse_broken(sums.end(), [number])
                tell(number, "embedding backward")
        for name in list(self.kept):
            self._drop(name)

    @contextmanager
    def _summed(
        self, names: Sequence[str], *, without: Sequence[str] = (), then: Sequence[str] = ()
    ) -> Iterator[GradientSums]:
        """Load parameters, sum their gradients, and hand over their maps when all is done."""
        with self.model.loaded(names, then=then) as parameters:
            with GradientSums(self.model.model, names) as sums, torch.enable_grad():
                yield sums
            final = [name for name in names if name not in without]
            times_weights(((name, parameters[name]) for name in final), sums.sums)
            maps = {name: sums.sums[name] for name in final}
            facts = self.model.facts(final)
            for each in facts:
                self.sums[each.parameter] = role_sums(maps[each.parameter], each)
            self.files += self.take(maps, facts)

    def _new(self, name: str) -> Boundary:
        """Make what passes between units under a name; see the class."""
        lengths = [used_tokens(sample) for sample in self.samples]
        dtype = torch.float32 if name in ("held", "tied") else self.model.dtype
        if name == "tied":
            lengths = [self.model.architecture.vocab_size]
        width = self.model.architecture.hidden_size
        self.kept[name] = Boundary(self.scratch / name, lengths, width, dtype, self.budget)
        self.fresh.add(name)
        return self.kept[name]

    def _drop(self, name: str) -> None:
        self.kept.pop(name).drop()
        self.fresh.discard(name)

    def _save(self, checkpoint: StreamedCheckpoint, run: str, since: int, done: int) -> None:
        state = {"from": since, "done": done, "kept": sorted(self.kept), "sums": self.sums}
        checkpoint.save(run, state, {name: self.kept[name] for name in self.fresh}, self.files)
        self.fresh.clear()
        self.files.clear()

    def _restore(self, checkpoint: StreamedCheckpoint, run: str) -> int:
        """Take up an earlier run of the same; returns how many units are done."""
        saves = checkpoint.restore(run)
        if not saves:
            return 0
        state = saves[-1][1]
        for name in state["kept"]:
            newest = next(f for f, _ in reversed(saves) if (f / name).exists())
            self._new(name).read(newest / name)
        for folder, _ in saves:
            for path in folder.glob("*.safetensors"):
                shutil.copyfile(path, self.out / path.name)
        self.sums = {
            name: [(role, total) for role, total in s] for name, s in state["sums"].items()
        }
        self.fresh.clear()
        return int(state["done"])


def _leaf(hidden_TH: Tensor, device: str) -> Tensor:
    """A layer's input, 1 × T × H, whose gradient is wanted."""
    return hidden_TH[None].to(device).requires_grad_()


def _gradient(hidden: Tensor) -> Tensor:
    """The gradient of a layer's input, T × H."""
    if hidden.grad is None:
        raise AssertionError("a decoder's loss depends on the input of each of its layers")
    return hidden.grad[0]
