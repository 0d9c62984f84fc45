"""Quantised teachers in a run: made plain once, and then as any other."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from support.direct import computed, run_direct
from support.gguf_files import write_gguf
from support.mixtures import write_mixture
from support.packed_weights import CASES, packed_model
from support.pair import pair_settings, write_pair
from support.tiny import tiny_tokenizer

from artifacts.queries.lineage import Lineage
from flows.delivery.models import Asked, find_models
from flows.inspection.pair import InspectionRequest, inspect_pair
from paraknow_core.dequantisation.find import open_quantised
from paraknow_core.errors import ConfigError, ParaknowError
from tasks.engine.ref import folder_of
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage

needs_gguf = pytest.mark.skipif(not find_spec("gguf"), reason="the library gguf is not here")


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"))


@needs_gguf
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


@needs_gguf
def test_what_cannot_be_asked_is_refused(pair: Path, tmp_path: Path) -> None:
    path = write_gguf(tmp_path / "teacher.gguf", pair / "teacher")
    settings = pair_settings(pair, tmp_path / "store")

    def refused(who: str, model: dict[str, str], match: str) -> None:
        with pytest.raises((ParaknowError, ValueError), match=match):
            run_direct(settings | {who: model}, Stage.ACQUIRE)

    gguf = {"model": str(path), "dequantise": "bfloat16"}
    refused("student", gguf, "student.dequantise is 'bfloat16', but no other model is made")
    refused("teacher", {"model": str(path)}, "is a GGUF file: say what to make of its weights")
    refused("teacher", {"model": str(tmp_path)}, "Of a teacher in GGUF set dequantise")
    plain = {"model": str(pair / "teacher"), "dequantise": "bfloat16"}
    refused("teacher", plain, "no quantised weights; take dequantise out")
    write_gguf(tmp_path / "another.gguf", pair / "teacher")
    refused("teacher", gguf | {"model": str(tmp_path)}, "holds 2 GGUF files .*gguf_file")
    both = {"model": str(path), "dequantise": "bfloat16", "experts": "chosen"}
    refused("teacher", both, "dequantise and experts are both given")
    refused("student", {"model": str(path.parent), "experts": "chosen"}, "student.experts is")
    lost = gguf | {"model": str(tmp_path), "gguf_file": "third.gguf"}
    refused("teacher", lost, "third.gguf: no such file")


@needs_gguf
def test_inspect_says_what_would_be_done(pair: Path, tmp_path: Path) -> None:
    write_gguf(tmp_path / "teacher.gguf", pair / "teacher", "Q8_0")
    tiny_tokenizer().save_pretrained(tmp_path)
    found = inspect_pair(InspectionRequest(str(tmp_path), str(pair / "student"), rank=4))
    assert found.can_run
    assert found.steps[0].step == "dequantise"
    assert {tensor.dtype for tensor in found.teacher.tensors} == {"BF16"}
    assert "quantised (GGUF: 35 F32, 4 Q8_0)" in found.notes[0]
    assert "teacher.dequantise: bfloat16" in found.notes[0]


def test_without_the_library_one_line_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "gguf", None)
    with pytest.raises(ConfigError, match=r"pip install 'paraknow\[gguf\]'"):
        open_quantised(tmp_path)


def test_a_packed_teacher_is_made_plain_by_the_step(pair: Path, tmp_path: Path) -> None:
    packed_model(tmp_path / "packed", *CASES["AWQ 4 bit"], layers=3)
    settings = pair_settings(pair, tmp_path / "store")
    settings["teacher"] = {"model": str(tmp_path / "packed"), "dequantise": "bfloat16"}
    first = run_direct(settings, Stage.ACQUIRE)
    store = RunConfig.model_validate(settings["run"]).open_store()
    record = store.lookup(first["dequantise teacher"].key)
    assert record.facts["types"] == {"AWQ 4 bit": 21, "float16": 18}
    assert record.facts["kind"] == "AWQ"


@pytest.mark.parametrize("way", ["chosen", "blended"])
def test_a_transfer_from_a_mixture_of_experts(pair: Path, tmp_path: Path, way: str) -> None:
    changes = {"intermediate_size": 64, "num_hidden_layers": 3}
    write_mixture(tmp_path / "mixture", "mixtral", **changes)
    settings = pair_settings(pair, tmp_path / "store")
    settings["teacher"] = {"model": str(tmp_path / "mixture"), "experts": way}
    first = run_direct(settings, Stage.LORA)
    store = RunConfig.model_validate(settings["run"]).open_store()
    said = json.loads((folder_of(store, first["experts teacher"]) / "experts.json").read_text())
    assert [sum(layer) for layer in said["counts"]] == [2 * said["tokens"]] * 3
    assert computed(run_direct(settings, Stage.LORA)) == set()
    (tmp_path / "mixture" / "README.md").write_text("---\nlicense: apache-2.0\n---\n")
    for named in ("", str(tmp_path / "mixture")):
        asked = {"teacher": Asked(store.lookup(first["teacher"].key), named)}
        note = find_models(store, Lineage.of(store), asked)["teacher"].note
        assert (note.name, note.licence) == ("mixture", "apache-2.0")
    settings["data"]["sizes"]["seeds"] = 3  # other seeds, another dense teacher
    assert "experts teacher" in computed(run_direct(settings, Stage.ACQUIRE))
    found = inspect_pair(
        InspectionRequest(str(tmp_path / "mixture"), str(pair / "student"), rank=4)
    )
    assert found.steps[0].step == "dense-experts"
    assert "Of each layer's 4 experts of width 64 one block is made" in found.notes[1]
    base = {"arms": ["theseus"], "teacher_base": settings["teacher"]}
    base["teacher"] = {"model": str(pair / "teacher")}
    with pytest.raises(ConfigError, match="experts is set for the base"):
        run_direct(settings | base, Stage.LORA)
