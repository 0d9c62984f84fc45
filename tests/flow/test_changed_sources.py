"""Steps whose model or data files change after they were acquired: nothing of it is stored."""

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.meddling import computing_from, swap, swapped
from support.pair import pair_settings, write_rows
from support.tiny import tiny_model

from artifacts.store import Store
from flows.config.transfer import TransferConfig
from paraknow_core.data.drafts import Draft
from paraknow_core.errors import CheckpointError
from tasks import acquire_data as data_module
from tasks.acquire_data import acquire_data
from tasks.acquire_model import ModelConfig, acquire_model
from tasks.engine.ref import Ref
from tasks.engine.run_step import run_step
from tasks.engine.source_files import SourceChangedError
from tasks.engine.step import Step
from tasks.evaluate import evaluate
from tasks.finetune import finetune
from tasks.rows.config import DataConfig, RowsConfig, SizesConfig
from tasks.sensitivity import sensitivity
from tasks.starts.lora import PlainLoraConfig, plain_lora

pytestmark = pytest.mark.flow

SHAPE = {"hidden": 32, "layers": 2, "heads": 4, "kv_heads": 2, "ffn": 64}


class Lab:
    """A teacher that is also the student, data, what was acquired of them, and look-alikes."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.model = tiny_model(home / "model", **SHAPE, seed=1)  # type: ignore[arg-type]
        self.other = tiny_model(home / "other", **SHAPE, seed=2)  # type: ignore[arg-type]
        for path in (self.model / "tokenizer.json", write_rows(home / "rows.jsonl")):
            text = path.read_text()
            (self.other / path.name).write_text(text.replace("w7", "w8", 1))
        settings = pair_settings(home, home / "store")
        settings["teacher"] = settings["student"] = {"model": str(self.model)}
        self.config = TransferConfig.model_validate(settings)
        self.refs: dict[str, Ref] = {}
        self.refs["student"] = self.refs["teacher"] = self.do(acquire_model, self.config.teacher)
        self.refs["data"] = self.do(acquire_data, self.config.data)
        self.refs["start"] = self.do(plain_lora, PlainLoraConfig(rank=4, alpha=4), "student")

    def do(self, step: Step[Any], config: Any, *roles: str) -> Ref:
        inputs = {role: self.refs[role] for role in roles}
        return run_step(step, label=step.name, config=config, inputs=inputs, run=self.config.run)

    def records(self) -> int:
        return sum(1 for _ in Store.open(self.home / "store").records())


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return Lab(tmp_path_factory.mktemp("lab"))


def step_of(lab: Lab, name: str) -> tuple[Step[Any], Any, tuple[str, ...]]:
    return {
        "sensitivity": (sensitivity, lab.config.sensitivity, ("teacher", "data")),
        "evaluate": (evaluate, lab.config.evaluate, ("student", "data")),
        "finetune": (finetune, lab.config.finetune, ("student", "start", "data")),
    }[name]


@pytest.mark.parametrize("file", ["model.safetensors", "tokenizer.json"])
@pytest.mark.parametrize("name", ["sensitivity", "evaluate", "finetune"])
def test_a_step_refuses_a_model_that_was_swapped_after_it_was_acquired(
    lab: Lab, name: str, file: str
) -> None:
    step, config, roles = step_of(lab, name)
    before = lab.records()
    with swapped(lab.model / file, lab.other / file):
        with pytest.raises(SourceChangedError, match=rf"{roles[0]}.*{file} has other bytes"):
            lab.do(step, config, *roles)
        assert lab.records() == before


@pytest.mark.parametrize("name", ["sensitivity", "evaluate"])
def test_what_was_computed_from_a_model_swapped_meanwhile_is_not_stored(
    lab: Lab, name: str, tmp_path: Path
) -> None:
    """Although before and after it the very same files are there."""
    step, config, roles = step_of(lab, name)
    if name == "sensitivity":  # every sample is kept as a partial result
        config = config.model_copy(update={"checkpoint_seconds": 0.0})
    weights = lab.model / "model.safetensors"
    before = lab.records()
    wrong = computing_from(step, weights, lab.other / weights.name)
    with pytest.raises(SourceChangedError, match=r"changed while it was read.*model\.safetensors"):
        lab.do(wrong, config, *roles)
    assert lab.records() == before
    healed = lab.do(step, config, *roles)
    assert not healed.cached
    honest = Lab.__new__(Lab)
    honest.config = lab.config.model_copy(
        update={"run": lab.config.run.model_copy(update={"store": str(tmp_path / "store")})}
    )
    honest.refs = {}
    honest.refs["student"] = honest.refs["teacher"] = honest.do(acquire_model, lab.config.teacher)
    honest.refs["data"] = honest.do(acquire_data, lab.config.data)
    assert honest.do(step, config, *roles).tree == healed.tree


def test_a_model_and_data_that_change_while_they_are_acquired_are_refused(lab: Lab) -> None:
    rows, weights = lab.home / "rows.jsonl", lab.model / "model.safetensors"
    before = lab.records()
    again = lab.config.data.model_copy(update={"seed": 1})
    wrong = computing_from(acquire_data, rows, lab.other / rows.name)
    with pytest.raises(SourceChangedError, match=r"data file .*rows\.jsonl"):
        lab.do(wrong, again)
    copy = shutil.copytree(lab.model, lab.home / "copy")
    (copy / "generation_config.json").write_text("{}")
    wrong = computing_from(acquire_model, copy / weights.name, lab.other / weights.name)
    with pytest.raises(SourceChangedError, match=r"The model at .*model\.safetensors"):
        lab.do(wrong, ModelConfig(model=str(copy)))
    assert lab.records() == before


def test_a_data_set_that_gives_other_rows_the_second_time_is_refused(
    lab: Lab, monkeypatch: pytest.MonkeyPatch
) -> None:
    draws = iter(range(9))

    def read(*_: Any, **__: Any) -> list[Draft]:
        draw = next(draws)
        return [Draft(str(i), "here", question=f"w{i}", answers=(f"{draw}",)) for i in range(9)]

    monkeypatch.setattr(data_module, "read_hub_drafts", read)
    sizes = SizesConfig(seeds=1, train=1, validation=1, test=1)
    before = lab.records()
    with pytest.raises(SourceChangedError, match=r"no/such.*other rows"):
        lab.do(acquire_data, DataConfig(rows=RowsConfig(hub="no/such"), sizes=sizes))
    assert lab.records() == before


@pytest.fixture
def blank(lab: Lab) -> Iterator[Path]:
    """Weights of which only the first half was ever written."""
    data = (lab.model / "model.safetensors").read_bytes()
    path = lab.home / "half"
    path.write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))
    yield path
    path.unlink()


def test_a_blank_model_is_refused_also_if_it_was_acquired_before_that_was_looked_at(
    lab: Lab, blank: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    model = shutil.copytree(lab.model, tmp_path / "half")
    swap(model / "model.safetensors", blank)
    config = ModelConfig(model=str(model))
    with pytest.raises(CheckpointError, match=r"last .* bytes are zeros"):
        lab.do(acquire_model, config)
    with monkeypatch.context() as older:
        older.setattr(
            "paraknow_core.models.blank_weights.refuse_blank_weights", lambda _folder: None
        )
        old = lab.do(acquire_model, config)
    for name in ("sensitivity", "evaluate"):
        step, settings, roles = step_of(lab, name)
        inputs = {roles[0]: old, "data": lab.refs["data"]}
        with pytest.raises(CheckpointError, match=r"last .* bytes are zeros"):
            run_step(step, label=name, config=settings, inputs=inputs, run=lab.config.run)
