"""The layers of a model that does not fit into memory are compared as well, layer by layer."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from support.tiny import FAMILIES, tiny_examples, tiny_model

from paraknow_core.data.examples import Example
from paraknow_core.inspection import available
from paraknow_core.inspection.states_memory import states_memory
from paraknow_core.models.describe import describe
from paraknow_core.partial_results import PartialResults
from tasks.diagnose import LikenessConfig, _estimate_likeness, _states
from tasks.engine.estimates import Foreseen
from tasks.engine.run import RunConfig
from tasks.engine.step import Job

ROWS = [Example(f"r{i}", *pair) for i, pair in enumerate(tiny_examples(6))]


def states(folder: Path, work: Path) -> tuple[list[torch.Tensor], list[tuple[int, int]]]:
    told: list[tuple[int, int]] = []
    sources: Any = {"teacher": SimpleNamespace(place=folder)}
    progress: Any = lambda done, total, _: told.append((done, total))  # noqa: E731
    job = Job(
        config=LikenessConfig(texts=6, cutoff=12),
        inputs={},
        sources=sources,
        out=work,
        partial=PartialResults(work / "partial"),
        run=RunConfig(device="cpu"),
        progress=progress,
    )
    return _states(job, "teacher", ROWS), told


@pytest.mark.parametrize("family", FAMILIES)
def test_states_are_those_of_the_whole_model(
    tmp_path: Path, family: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tiny_model(tmp_path / "model", family, tied=family == "gemma2")
    whole, _ = states(folder, tmp_path)
    for there in (1, 2**15):  # what passes between layers is in files, and some of it in memory
        monkeypatch.setattr(available, "available_bytes", lambda _device, there=there: there)
        found, told = states(folder, tmp_path)
        assert told[-1] == (3 * 6, 3 * 6)  # layer by layer: three layers, six texts
        assert len(found) == len(whole) == 3
        for one, other in zip(found, whole, strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_a_plan_says_what_would_be_chosen(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", hidden=256, ffn=1024, layers=8)
    model = describe(folder)

    class Known(Foreseen):
        def architecture(self, role: str) -> Any:
            return model

    config = LikenessConfig(texts=6, cutoff=12)
    about: dict[str, Any] = {"texts": 6, "longest": 12, "tokens": 72, "batch": 8}
    need = states_memory(model, element_bytes=4, **about)

    def planned(there: int) -> tuple[int | None, int]:
        found = _estimate_likeness(config, Known(row_tokens=12, memory=lambda: there))
        assert found.disk_bytes is not None
        return found.memory_bytes, found.disk_bytes

    (whole, disk), (streamed, more) = planned(2**40), planned(2**10)
    assert (whole, streamed) == (need.whole, need.streamed)
    assert more == disk + need.boundaries
