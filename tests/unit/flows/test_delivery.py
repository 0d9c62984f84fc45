"""Adapters out of the store: what lies in the folder computes what was trained, and says so."""

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import PeftModel
from support.adapters_in_store import delivered
from support.meddling import swapped
from support.tiny import tiny_model
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from artifacts.errors import StoreFullError, UnknownKeyError
from artifacts.keys import KeyPayload
from artifacts.queries.find import find_record
from artifacts.queries.lineage import Lineage
from artifacts.records import Record
from artifacts.store import Store
from flows.cli.main import app
from flows.delivery import deliver as delivery
from flows.delivery import new_folder
from flows.delivery.deliver import Wish, deliver
from flows.delivery.provenance import origin_of
from paraknow_core.errors import ConfigError, ModelFolderError
from paraknow_core.lora.adapter_reader import read_adapter
from paraknow_core.lora.anchored_model import quiet_peft
from paraknow_core.lora.merge import write_merged
from paraknow_core.models.describe import describe
from paraknow_core.report.model_card import StepNote
from tasks.engine.source_files import SourceChangedError

IDS = torch.tensor([[1, 7, 9, 11, 13, 40]])
STUDENTS: dict[str, dict[str, Any]] = {
    "untied": {"family": "llama"},
    "tied": {"family": "qwen2", "tied": True},
    "untied-bf16": {"family": "llama", "dtype": torch.bfloat16, "seed": 4},
    "fused": {"family": "gpt2", "kv_heads": 4, "tied": True},
    "tied-bf16": {"family": "qwen2", "tied": True, "dtype": torch.bfloat16},
}


@pytest.fixture(scope="module", params=[*STUDENTS])
def place(request: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("place"), STUDENTS[request.param])


@pytest.fixture(scope="module")
def untied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made(tmp_path_factory.mktemp("untied"), STUDENTS["untied"])


def made(folder: Path, student: dict[str, Any]) -> Path:
    """A folder with student, teacher and a store that holds one adapter; its key in ``key``."""
    tiny_model(folder / "student", layers=2, **student)
    tiny_model(folder / "teacher", hidden=48, ffn=96, seed=9)
    store = Store.open(folder / "store")
    record, _ = delivered(store, folder / "student", folder / "teacher", folder / "work")
    (folder / "key").write_text(record.key)
    return folder


def given_out(place: Path, out: Path, **wish: Any) -> Any:
    return deliver(Store.open(place / "store"), key(place)[:9], Wish(out, **wish))


def key(place: Path) -> str:
    return (place / "key").read_text()


def logits(model: Any) -> torch.Tensor:
    with torch.no_grad():
        found: torch.Tensor = model.eval()(IDS).logits
    return found


def with_adapter(student: Path, adapter: Path) -> Any:
    base = AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32)
    with quiet_peft():
        return PeftModel.from_pretrained(base, adapter)


def test_without_options_it_is_the_stored_adapter_byte_for_byte(
    place: Path, tmp_path: Path
) -> None:
    found = given_out(place, tmp_path / "out")
    assert found.files == ["README.md", "adapter_config.json", "adapter_model.safetensors"]
    for name in found.files[1:]:
        assert (tmp_path / "out" / name).read_bytes() == (place / "work/out" / name).read_bytes()
    modes = {path.stat().st_mode & 0o777 for path in (tmp_path / "out").iterdir()}
    assert len(modes) == 1


def test_the_serving_profile_has_no_embedding_or_head_and_loads(
    place: Path, tmp_path: Path
) -> None:
    found = given_out(place, tmp_path / "out", serving=True, compress=3)
    assert found.rank == 3
    assert 0 < found.serving_kept < 1
    assert 0 < found.compress_kept < 1
    adapter = read_adapter(tmp_path / "out")
    assert not adapter.embeddings
    assert not [m for m in adapter.factors if "embed" in m or "head" in m]
    whole = logits(with_adapter(place / "student", place / "work/out"))
    served = logits(with_adapter(place / "student", tmp_path / "out"))
    assert torch.isfinite(served).all()
    assert not torch.equal(served, whole)


def test_a_merged_checkpoint_computes_what_student_and_adapter_compute(
    place: Path, tmp_path: Path
) -> None:
    student, out = place / "student", tmp_path / "out"
    found = given_out(place, out, merged=True, student=str(student), max_shard_size="40KB")
    assert len(list(out.glob("model-*.safetensors"))) > 1
    merged, stored = describe(out), describe(student)
    assert {t.name: t.dtype for t in merged.tensors} == {t.name: t.dtype for t in stored.tensors}
    assert (merged.tied, found.dtypes) == (stored.tied, [stored.tensors[0].dtype])
    expected = logits(with_adapter(student, place / "work/out"))
    computed = logits(AutoModelForCausalLM.from_pretrained(out, dtype=torch.float32))
    rounding = 1e-4 if found.dtypes == ["F32"] else 0.05
    assert (computed - expected).abs().max() < rounding * expected.abs().max()
    vanilla = logits(AutoModelForCausalLM.from_pretrained(student, dtype=torch.float32))
    assert (vanilla - expected).abs().max() > 0.1 * expected.abs().max()
    assert AutoTokenizer.from_pretrained(out)("w1 w2").input_ids
    assert json.loads((out / "config.json").read_text())["use_cache"] is True


def test_a_disk_too_small_for_a_merged_checkpoint_is_refused_before_writing(
    untied: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    student = untied / "student"
    needed = describe(student).weight_bytes
    monkeypatch.setattr(delivery, "free_bytes", lambda _place: needed - 1)
    monkeypatch.setattr(delivery, "write_merged", lambda *_, **__: pytest.fail("it was written"))
    with pytest.raises(StoreFullError, match=f"{tmp_path} has .* free"):
        given_out(untied, tmp_path / "new/out", merged=True, student=str(student))
    assert list(tmp_path.iterdir()) == []


def test_mixed_dtypes_are_kept_tensor_by_tensor(untied: Path, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    student = tmp_path / "student"
    shutil.copytree(untied / "student", student)
    tensors = load_file(student / "model.safetensors")
    mixed = {n: t if "norm" in n else t.bfloat16() for n, t in tensors.items()}
    save_file(mixed, student / "model.safetensors", metadata={"format": "pt"})
    (tmp_path / "out").mkdir()
    dtypes = write_merged(student, read_adapter(untied / "work/out"), tmp_path / "out")
    assert dtypes == ("BF16", "F32")
    assert {t.name: t.dtype for t in describe(tmp_path / "out").tensors} == {
        t.name: t.dtype for t in describe(student).tensors
    }


def test_the_card_tells_where_it_comes_from_and_what_it_lost(untied: Path, tmp_path: Path) -> None:
    (untied / "teacher" / "README.md").write_text("---\nlicense: llama9\n---\n")
    given_out(untied, tmp_path / "a", teacher=str(untied / "teacher"))
    text = (tmp_path / "a" / "README.md").read_text()
    assert "SeeKing" in text
    assert "llama9" in text
    assert key(untied)[:16] in text
    assert re.search(r"untouched student \| 2\.5 ", text)
    assert re.search(r"this adapter \| 1\.25 ", text)
    assert "What was taken away" not in text
    given_out(untied, tmp_path / "b", compress=2)
    text = (tmp_path / "b" / "README.md").read_text()
    assert "from rank 8 to rank 2" in text
    assert "not with what lies here" in text


def made_of(record: Record, config: dict[str, Any] | None = None, **facts: Any) -> Record:
    payload = replace(record.payload, config={**record.payload.config, **(config or {})})
    return replace(record, payload=payload, facts={**record.facts, **facts})


def test_the_card_says_what_of_the_teacher_start_point_and_training_use(untied: Path) -> None:
    lineage = Lineage.of(store := Store.open(untied / "store"))
    origin = origin_of(lineage, find_record(store, key(untied)))
    assert "of the teacher it uses: parameters, labels." in origin.method
    assert "optimizer steps on answers;" in origin.method
    assert origin.start is not None
    plain = replace(
        origin, start=replace(origin.start, payload=step_of(origin.start, "plain-lora"))
    )
    assert "initialisation; no teacher." in plain.method
    how = {"share": 0.9, "temperature": 2.0, "top_k": 64, "teacher_dtype": "float32"}
    taught = replace(plain, adapter=made_of(origin.adapter, {"distillation": how}))
    assert "of the teacher it uses: outputs." in taught.method
    assert "steps on 0.9 KL at temperature 2, 0.1 answers;" in taught.method
    assert "no teacher" not in taught.method
    composed = made_of(origin.start, parts={"novel-tokens": 2, "milora": 5})
    parts = replace(taught, start=replace(composed, payload=step_of(composed, "compose")))
    assert "put together of several methods: novel-tokens, milora; " in parts.method
    assert "of the teacher it uses: parameters, outputs." in parts.method
    control = made_of(parts.start, parts={"novel-shuffled": 2, "plain": 5})
    assert replace(parts, start=control).method.count("THIS IS A CONTROL (novel-shuffled)") == 1
    control = made_of(parts.start, parts={"novel-untrained": 2, "plain": 5})
    told = replace(parts, start=control).method
    assert "of what stands in for the teacher it uses: parameters; of the teacher: outputs." in told
    assert "may use more than: nothing" in replace(origin, start=None).method


def step_of(record: Record, step: str) -> KeyPayload:
    return replace(record.payload, step=step)


def test_a_control_never_passes_for_a_transfer(untied: Path) -> None:
    store = Store.open(untied / "store")
    lineage = Lineage.of(store)
    origin = origin_of(lineage, find_record(store, key(untied)))
    assert "CONTROL" not in origin.method
    note = StepNote("factors", "control", 1, "ab", {"name": "same-spectrum"})
    assert "CONTROL (same-spectrum)" in replace(origin, steps=(*origin.steps, note)).method
    assert "its own teacher" in replace(origin, teacher=origin.student).method


def test_a_hub_id_becomes_the_base_model(untied: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    given_out(untied, tmp_path / "out", student="org/student-1")
    assert read_adapter(tmp_path / "out").base_model == "org/student-1"
    assert 'base_model: "org/student-1"' in (tmp_path / "out" / "README.md").read_text()


@pytest.mark.parametrize(
    ("wish", "error", "message"),
    [
        ({"merged": True}, ModelFolderError, "give --student"),
        ({"merged": True, "student": "TEACHER"}, ModelFolderError, "config.json has other bytes"),
        ({"merged": True, "compress": 2}, ConfigError, "no rank"),
        ({"teacher": "STUDENT"}, ModelFolderError, "is not the model"),
        ({"student": "no such/folder/here"}, ModelFolderError, "no such/folder/here"),
        ({"merged": True, "student": "SAME", "max_shard_size": "5 apples"}, ConfigError, "apples"),
    ],
)
def test_what_cannot_be_delivered_leaves_nothing(
    untied: Path, tmp_path: Path, wish: dict[str, Any], error: type[Exception], message: str
) -> None:
    names = {"TEACHER": "teacher", "STUDENT": "student", "SAME": "student"}
    wish = {k: str(untied / names[v]) if v in names else v for k, v in wish.items()}
    with pytest.raises(error, match=message):
        given_out(untied, tmp_path / "out", **wish)
    assert list(tmp_path.iterdir()) == []


def test_changed_weights_are_not_the_student(untied: Path, tmp_path: Path) -> None:
    shutil.copytree(untied / "student", tmp_path / "student")
    weights = tmp_path / "student" / "model.safetensors"
    content = weights.read_bytes()
    weights.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelFolderError, match=r"model\.safetensors has other bytes"):
        given_out(untied, tmp_path / "out", merged=True, student=str(tmp_path / "student"))


def test_a_student_that_changes_while_it_is_merged_is_not_delivered(
    untied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    student, other = tmp_path / "student", tmp_path / "other"
    shutil.copytree(untied / "student", student)
    shutil.copyfile(student / "model.safetensors", other)
    other.write_bytes(other.read_bytes()[:-1] + b"\x07")

    def merge(*arguments: Any, **named: Any) -> Any:
        with swapped(student / "model.safetensors", other):
            return write_merged(*arguments, **named)

    monkeypatch.setattr(delivery, "write_merged", merge)
    with pytest.raises(SourceChangedError, match=r"student at .*model\.safetensors"):
        given_out(untied, tmp_path / "out", merged=True, student=str(student))
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".out*"))


def test_another_key_is_refused_and_says_what_there_is(untied: Path) -> None:
    store = Store.open(untied / "store")
    other = next(r for r in store.records() if r.step == "evaluate")
    with pytest.raises(UnknownKeyError, match="is the key of evaluate"):
        deliver(store, other.key, Wish(untied / "no"))
    with pytest.raises(UnknownKeyError, match=key(untied)[:16]):
        deliver(store, "zz", Wish(untied / "no"))


def test_a_used_place_or_a_link_is_refused(untied: Path, tmp_path: Path) -> None:
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "empty")
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    for name in ("used", "link", "dangling", "used/file"):
        with pytest.raises(ConfigError, match="new folder"):
            given_out(untied, tmp_path / name)
    given_out(untied, tmp_path / "empty")
    assert (tmp_path / "empty" / "README.md").is_file()


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(28, "No space left on device")])
def test_an_interrupted_delivery_leaves_nothing(
    untied: Path, tmp_path: Path, monkeypatch: Any, error: Any
) -> None:
    def fail(*_: Any) -> None:
        raise error

    monkeypatch.setattr(delivery, "render", fail)
    with pytest.raises((KeyboardInterrupt, StoreFullError)):
        given_out(untied, tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_fills_up_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    place = new_folder.new_folder(tmp_path / "out")
    (place.__enter__() / "mine").touch()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "theirs").touch()
    with pytest.raises(ConfigError, match="not an empty folder"):
        place.__exit__(None, None, None)
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "theirs"]


def test_the_command(untied: Path, tmp_path: Path) -> None:
    place = ["--store", str(untied / "store")]
    arguments = ["deliver", key(untied)[:12], str(tmp_path / "out"), "--compress", "2", *place]
    shown = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert shown.exit_code == 0
    assert "adapter of rank 2" in shown.output
    assert "model.layers.1.mlp.up_proj" in shown.output
    arguments[2] = str(tmp_path / "again")
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).output)
    assert (found["rank"], found["form"], found["adapter_key"]) == (2, "adapter", key(untied))
    assert set(found["kept"]) == set(read_adapter(tmp_path / "again").factors)
