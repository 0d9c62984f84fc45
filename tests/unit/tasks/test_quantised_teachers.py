"""Quantised teachers in a run: made plain once, and then as any other."""

import json
from pathlib import Path

import pytest
from support.direct import computed, run_direct
from support.gguf_files import write_gguf
from support.pair import pair_settings, write_pair
from support.tiny import tiny_tokenizer

from flows.inspection.pair import InspectionRequest, inspect_pair
from paraknow_core.errors import ParaknowError
from tasks.engine.ref import folder_of
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage

pytest.importorskip("gguf")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"))


def test_a_transfer_from_a_gguf_file(pair: Path, tmp_path: Path) -> None:
    tiny_tokenizer().save_pretrained(tmp_path / "gguf")
    path = write_gguf(tmp_path / "gguf" / "teacher.gguf", pair / "teacher", "Q8_0")
    settings = pair_settings(pair, tmp_path / "store")
    settings["teacher"] = {"model": str(path), "dequantise": "float32"}
    first = run_direct(settings, Stage.LORA)
    store = RunConfig.model_validate(settings["run"]).open_store()
    plain = folder_of(store, first["dequantise teacher"])
    assert {"config.json", "model.safetensors", "quantisation.json"} <= {
        file.name for file in plain.iterdir()
    }
    said = json.loads((folder_of(store, first["teacher"]) / "manifest.json").read_text())
    assert set(said) == {file.name for file in plain.iterdir()}
    record = store.lookup(first["dequantise teacher"].key)
    assert record.facts["types"] == {"F32": 35, "Q8_0": 4}  # rows of 48 are no whole blocks

    path.rename(tmp_path / "gguf" / "renamed.gguf")
    settings["teacher"] |= {"model": str(tmp_path / "gguf")}
    assert computed(run_direct(settings, Stage.LORA)) == set()
    settings["teacher"]["dequantise"] = "bfloat16"
    assert "sensitivity" in computed(run_direct(settings, Stage.SENSITIVITY))


def test_what_cannot_be_asked_is_refused(pair: Path, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "teacher.gguf", pair / "teacher")
    settings = pair_settings(pair, tmp_path / "store")

    def refused(who: str, model: dict[str, str], match: str) -> None:
        with pytest.raises((ParaknowError, ValueError), match=match):
            run_direct(settings | {who: model}, Stage.ACQUIRE)

    gguf = {"model": str(path), "dequantise": "bfloat16"}
    refused("student", gguf, "student.dequantise is 'bfloat16', but a student")
    refused("teacher", {"model": str(path)}, "is a GGUF file: say what to make of its weights")
    refused("teacher", {"model": str(tmp_path)}, "Of a teacher in GGUF set dequantise")
    plain = {"model": str(pair / "teacher"), "dequantise": "bfloat16"}
    refused("teacher", plain, "no quantised weights; take dequantise out")
    write_gguf(tmp_path / "another.gguf", pair / "teacher")
    refused("teacher", gguf | {"model": str(tmp_path)}, "holds 2 GGUF files .*gguf_file")
    lost = gguf | {"model": str(tmp_path), "gguf_file": "third.gguf"}
    refused("teacher", lost, "third.gguf: no such file")


def test_inspect_says_what_would_be_done(pair: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "teacher.gguf", pair / "teacher", "Q8_0")
    tiny_tokenizer().save_pretrained(tmp_path)
    found = inspect_pair(InspectionRequest(str(tmp_path), str(pair / "student"), rank=4))
    assert found.can_run
    assert found.steps[0].step == "dequantise"
    assert {tensor.dtype for tensor in found.teacher.tensors} == {"BF16"}
    assert "quantised (GGUF: 35 F32, 4 Q8_0)" in found.notes[0]
    assert "teacher.dequantise: bfloat16" in found.notes[0]
