"""Weights that are read while others are computed with."""

import threading
from contextlib import nullcontext

import pytest
import torch
from safetensors.torch import save_file
from support.patience import wait_until

from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.errors import CheckpointError
from paraknow_core.sensitivity.streamed import prefetch
from paraknow_core.sensitivity.streamed.prefetch import Copies, Prefetch

NAMES = {f"p{n}": f"t{n}" for n in range(4)}


@pytest.fixture
def stored(tmp_path):
    """Tensors in several dtypes; their files' folder."""
    generator = torch.Generator().manual_seed(0)
    dtypes = [torch.float32, torch.bfloat16, torch.float16, torch.float32]
    tensors = {
        name: torch.randn(5, 7 + n, generator=generator).to(dtypes[n])
        for n, name in enumerate(NAMES.values())
    }
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path, tensors


def threads():
    return [each for each in threading.enumerate() if each.name.startswith("weights")]


@pytest.mark.parametrize("asked", [(), ("p2", "p3"), ("p1",)])
def test_parameters_are_those_of_the_files_asked_for_or_not(stored, asked):
    """Also where others were asked for than are taken."""
    folder, tensors = stored
    with Prefetch(Checkpoint(folder), NAMES, dtype=torch.float32, device="cpu") as weights:
        if asked:
            weights.ask(asked)
        for names in (("p2", "p3"), ("p0", "p1")):
            found = weights.take(names)
            assert tuple(found) == names
            for name, values in found.items():
                assert torch.equal(values, tensors[NAMES[name]].float())
    assert not threads()


def test_they_are_read_before_they_are_taken_and_no_further(stored, monkeypatch):
    folder, _ = stored
    read, load = [], Copies.load

    def noted(self, weights, name, dtype):
        read.append(name)
        return load(self, weights, name, dtype)

    monkeypatch.setattr(Copies, "load", noted)
    with Prefetch(Checkpoint(folder), NAMES, dtype=torch.float32, device="cpu") as weights:
        weights.ask(("p0", "p1"))
        wait_until("both are read", lambda: read == ["t0", "t1"], every=0.01)
        weights.take(("p0", "p1"))
        assert read == ["t0", "t1"]


def test_what_cannot_be_read_is_told_when_it_is_taken_and_the_thread_ends(stored):
    folder, _ = stored
    with Prefetch(Checkpoint(folder), NAMES, dtype=torch.float32, device="cpu") as weights:
        path = folder / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-200])
        weights.ask(("p3",))
        with pytest.raises(CheckpointError, match="ends within tensor 't3'"):
            weights.take(("p3",))
    assert not threads()


def test_a_reading_that_nobody_waits_for_stops(stored, monkeypatch):
    folder, _ = stored
    begun, go_on, read = threading.Event(), threading.Event(), []

    def slow(self, weights, name, dtype):
        read.append(name)
        begun.set()
        assert go_on.wait(600)

    monkeypatch.setattr(Copies, "load", slow)
    weights = Prefetch(Checkpoint(folder), NAMES, dtype=torch.float32, device="cpu")
    with weights:
        weights.ask(tuple(NAMES))
        assert begun.wait(600)
        weights._closing.set()
        go_on.set()
    assert read == ["t0"]
    assert not threads()


class Late:
    """A queue whose copies are done only when somebody waits, as a GPU's may be."""

    buffers = 2
    device = torch.device("cpu")

    def __init__(self):
        self.waiting, self.waits, self.handed = [], 0, 0

    def buffer(self, size):
        return torch.empty(size, dtype=torch.uint8)

    def used(self):
        return nullcontext()

    def mark(self):
        return self.finish

    def finish(self):
        self.waits += 1
        for target, source in self.waiting:
            target.copy_(source)
        self.waiting.clear()

    def hand_over(self, tensor):
        self.handed += 1
        self.finish()


def test_a_buffer_is_filled_anew_only_when_its_copy_is_done(stored, monkeypatch):
    """With copies that are late and read the buffer when they are done."""
    folder, tensors = stored
    queue, copy = Late(), torch.Tensor.copy_
    monkeypatch.setattr(
        torch.Tensor,
        "copy_",
        lambda to, source, non_blocking=False: (
            queue.waiting.append((to, source)) if non_blocking else copy(to, source)
        ),
    )
    with Checkpoint(folder) as weights:
        copies = Copies(queue, 8)
        loaded = {name: copies.load(weights, name, tensors[name].dtype) for name in tensors}
        for tensor in loaded.values():
            copies.hand_over(tensor)
    pieces = sum(-(-tensor.nbytes // 8) for tensor in tensors.values())
    assert queue.waits == pieces - 2 + len(tensors)
    assert all(torch.equal(loaded[name], tensors[name]) for name in tensors)


@pytest.mark.gpu
def test_a_gpu_gets_the_same_weights(tmp_path):
    """More pieces than buffers, two dtypes, many times over."""
    tensors = {name: torch.randn(3000, 3000) for name in NAMES.values()}
    tensors["t1"] = tensors["t1"].bfloat16()
    save_file(tensors, tmp_path / "model.safetensors")
    with Prefetch(Checkpoint(tmp_path), NAMES, dtype=torch.bfloat16, device="cuda") as weights:
        for _ in range(5):
            for name in NAMES:
                found = weights.take((name,))
                weights.ask((f"p{(int(name[1]) + 1) % 4}",))
                assert torch.equal(found[name].cpu(), tensors[NAMES[name]].bfloat16())
    assert not threads()
    assert prefetch._queue(torch.device("cuda")).buffers == 2
