"""Updates from a teacher's parameters through the real wiring, on a tiny pair."""

from dataclasses import replace
from pathlib import Path

import pytest
from support.direct import DirectRunner
from support.pair import pair_settings, write_base, write_pair
from support.starts import transfer_start
from support.tiny import tiny_model

from flows.config.transfer import TransferConfig
from flows.graph.pair import acquire_pair
from flows.graph.start_points import start_point
from flows.graph.transport import TAKEN_AWAY
from paraknow_core.alignment.layers import LAYER_STRATEGIES
from paraknow_core.errors import ModelFolderError, TokenizerError
from paraknow_core.lora.adapter import Adapter, LoraFactors, write_adapter
from paraknow_core.lora.adapter_reader import read_adapter
from paraknow_core.methods import METHODS
from paraknow_core.transport.maps import MAPS
from paraknow_core.transport.update import INSTEAD, TRANSPORTS
from tasks.engine.run_step import folder_of
from tasks.engine.stage import Stage
from tasks.starts.transport import TransportConfig, TransportOptionsConfig

UPDATES = [name for name, method in METHODS.items() if method.builder == "transport"]
UP, UP_OF_TEACHER = "model.layers.1.mlp.up_proj", "model.layers.3.mlp.up_proj"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    folder = write_pair(tmp_path_factory.mktemp("pair"))
    write_base(folder)
    return folder


def made(settings: dict, *methods: str, seed: int = 0) -> dict[str, Adapter]:
    config = TransferConfig.model_validate(settings)
    pair = acquire_pair(config, DirectRunner(config.run, Stage.LORA), methods=methods)
    store = config.run.open_store()
    return {
        method: read_adapter(folder_of(store, start_point(method, pair, seed=seed).ref))
        for method in methods
    }


def with_base(folder: Path, store: Path) -> dict:
    settings = pair_settings(folder, store)
    settings["transport"] = {"neuron_rate": 1e-2, "neuron_steps": 2, "scale": 1}
    settings["extract"] = {"roles": ["up", "gate", "head"]}
    return settings | {"teacher_base": {"model": str(folder / "base")}}


def test_every_update_and_control_is_added_to_the_student(folder, tmp_path):
    settings = with_base(folder, tmp_path / "store")
    drawn = ("theseus-drawn", "transport-untrained", "laten")
    once, again = made(settings, *UPDATES), made(settings, "theseus", *drawn, seed=1)
    for name in again:
        differs = bool((once[name].delta(UP) - again[name].delta(UP)).any())
        assert METHODS[name].draws == (name in drawn) == differs, name
    for name in UPDATES:
        assert UP in once[name].added, name
        if METHODS[name].is_control:
            method = once[METHODS[name].of]
            assert (once[name].delta(UP) - method.delta(UP)).norm() > 0.1 * method.delta(UP).norm()
        if METHODS[name].is_transfer:
            controls = {other for other in UPDATES if METHODS[other].of == name}
            assert set(METHODS[name].controls) <= controls


def test_roles_that_an_update_has_nothing_for_start_as_another_method_says(folder, tmp_path):
    settings = with_base(folder, tmp_path / "store")
    settings["by_role"] = {"head": "milora"}
    mixed = made(settings, "laten")["laten"]
    assert UP in mixed.added
    assert "lm_head" not in mixed.added
    assert mixed.delta("lm_head").any()
    assert not mixed.delta("model.layers.1.mlp.gate_proj").any()


def test_an_adapter_of_the_teacher_is_moved_and_its_content_is_the_identity(folder, tmp_path):
    settings = pair_settings(folder, tmp_path / "store")
    settings["transport"] = {"gradfix": False}  # its scale is chosen
    tuned = transfer_start(folder / "teacher", tmp_path / "whole", rank=2)
    for place, size in (("adapter", 1), ("same", 1), ("other", 2)):
        (a, b) = tuned.factors[UP_OF_TEACHER]
        factors = {UP_OF_TEACHER: LoraFactors(a, size * b)}
        write_adapter(tmp_path / place, replace(tuned, factors=factors, embeddings=frozenset()))
    results = []
    for place in ("adapter", "same", "other"):
        settings["teacher_adapter"] = str(tmp_path / place)
        assert made(settings, "theseus")["theseus"].added == {UP}
        store = TransferConfig.model_validate(settings).run.open_store()
        results.append(sum(record.step == "transport" for record in store.records()))
    assert results == [1, 1, 2]
    (tmp_path / "other" / "adapter_config.json").unlink()
    with pytest.raises(ModelFolderError, match=r"has no adapter_config.json. Give the folder of a"):
        made(settings, "theseus")


def test_what_an_update_lacks_is_refused(folder, tmp_path):
    settings = pair_settings(folder, tmp_path / "store") | {"arms": ["plain", "theseus"]}
    with pytest.raises(ValueError, match=r"theseus moves what tuning changed.*set either teacher_"):
        TransferConfig.model_validate(settings)
    both = {"teacher_base": {"model": str(folder / "base")}, "teacher_adapter": "adapter"}
    with pytest.raises(ValueError, match=r"the PEFT folder that was tuned on it; both are given"):
        TransferConfig.model_validate(settings | both)
    tiny_model(tmp_path / "wide", hidden=48, layers=4, ffn=96, vocab=80, seed=1)
    settings = with_base(folder, tmp_path / "store")
    settings["teacher_base"] = {"model": str(tmp_path / "wide")}
    with pytest.raises(TokenizerError, match=r"another tokenizer than the teacher \(80 tokens, 64"):
        made(settings, "theseus")


@pytest.mark.parametrize(
    ("config", "field", "known"),
    [
        (TransportConfig, "method", TRANSPORTS),
        (TransportConfig, "instead", INSTEAD),
        (TransportOptionsConfig, "maps", MAPS),
    ],
)
def test_settings_name_what_the_tables_hold(config, field, known):
    """The settings are read without torch, which the tables need."""
    assert config.model_json_schema()["properties"][field]["enum"] == list(known)


def test_layers_and_controls_are_those_that_there_are():
    layers = TransportOptionsConfig.model_json_schema()["properties"]["layers"]["enum"]
    assert set(layers) == set(LAYER_STRATEGIES) - {"sensitivity", "random"}
    here = [METHODS[name] for name in UPDATES]
    assert {m.replacement for m in here if m.changes == "update"} == set(TAKEN_AWAY)
