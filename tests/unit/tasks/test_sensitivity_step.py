"""How the sensitivity step computes is no part of its key, and chosen by what fits."""

import logging
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from support.direct import run_direct
from support.pair import pair_settings, write_pair

from artifacts.store import Store
from paraknow_core.inspection import available
from paraknow_core.models.describe import describe
from paraknow_core.settings import identity_of
from tasks.engine.estimates import Foreseen
from tasks.engine.json_files import read_json, write_json
from tasks.engine.ref import folder_of
from tasks.engine.stage import Stage
from tasks.sensitivity import SensitivityConfig, sensitivity


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"))


def test_what_does_not_fit_is_streamed_to_the_same_result_under_the_same_key(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    found = []
    for free in (2**40, 1):
        monkeypatch.setattr(available, "available_bytes", lambda _device, free=free: free)
        store = tmp_path / str(free)
        ref = run_direct(pair_settings(folder, store), Stage.SENSITIVITY)["sensitivity"]
        told = [text for text in caplog.messages if "read layer by layer" in text]
        assert len(told) == (free == 1)
        found.append((ref.key, ref.tree, folder_of(Store.open(store), ref)))
    assert found[0][0] == found[1][0]
    assert found[0][1] == found[1][1]  # an untied teacher's are the same bit for bit


@pytest.mark.parametrize("streaming", ["always", "never"])
def test_a_map_in_half_the_bytes_is_the_rounded_one(
    folder: Path, tmp_path: Path, streaming: str
) -> None:
    settings = pair_settings(folder, tmp_path / "store")
    found = []
    for more in ({}, {"map_dtype": "bfloat16", "streaming": streaming}):
        ref = run_direct(settings | {"sensitivity": more}, Stage.EXTRACT)["sensitivity"]
        found.append(folder_of(Store.open(tmp_path / "store"), ref))
    for path in found[0].glob("*.safetensors"):
        halved = load_file(found[1] / path.name)
        for name, scores in load_file(path).items():
            assert torch.equal(halved[name], scores.bfloat16())
    same = "layer_sums.json"  # of the maps before they are rounded
    assert (found[0] / same).read_bytes() == (found[1] / same).read_bytes()


def test_the_maps_dtype_is_in_the_key_only_if_it_is_another() -> None:
    assert "map_dtype" not in identity_of(SensitivityConfig())
    assert identity_of(SensitivityConfig(map_dtype="bfloat16"))["map_dtype"] == "bfloat16"


def test_streaming_is_no_part_of_the_key() -> None:
    plain = identity_of(SensitivityConfig())
    assert identity_of(SensitivityConfig(streaming="always")) == plain
    assert "streaming" not in plain


def test_samples_together_give_the_same_cuts_under_the_same_key(
    folder: Path, tmp_path: Path
) -> None:
    found = []
    for tokens in (0, 1000):
        settings = pair_settings(folder, tmp_path / str(tokens))
        settings["sensitivity"] = {"batch_tokens": tokens, "streaming": "never"}
        refs = run_direct(settings, Stage.EXTRACT)
        store = Store.open(tmp_path / str(tokens))
        maps, cuts = (folder_of(store, refs[name]) for name in ("sensitivity", "extract"))
        windows = [
            {k: v for k, v in cut.items() if k not in ("score", "total")}
            for cut in read_json(cuts / "windows.json")
        ]
        found.append((refs["sensitivity"].key, windows, maps))
    assert found[0][:2] == found[1][:2]
    for path in found[0][2].glob("*.safetensors"):
        together = load_file(found[1][2] / path.name)
        for name, scores in load_file(path).items():
            assert (together[name] - scores).norm() <= 1e-5 * scores.norm(), name


def test_the_estimate_is_of_what_would_be_chosen(folder: Path, tmp_path: Path) -> None:
    write_json(tmp_path / "architecture.json", describe(folder / "teacher").to_json())

    def needed(memory: int | None, **settings: str) -> tuple[int, int]:
        known = Foreseen({"teacher": tmp_path}, row_tokens=100, memory=lambda: memory)
        estimate = sensitivity.estimate
        assert estimate is not None
        found = estimate(SensitivityConfig(**settings), known)
        assert found.memory_bytes
        assert found.disk_bytes
        return found.memory_bytes, found.disk_bytes

    whole, layers = needed(None), needed(None, streaming="always")
    assert needed(10) == layers
    assert needed(2**40) == whole
    assert needed(10, streaming="never") == whole
    assert layers[1] > whole[1]  # what passes between layers is on disk, too
