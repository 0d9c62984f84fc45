"""Learning from a teacher's outputs through a run's own steps, on a tiny pair."""

import json
import logging
import re
import tempfile
from pathlib import Path

import pytest
from support.direct import computed, run_direct
from support.pair import pair_settings, write_pair
from support.tiny import tiny_model

from artifacts.names import StepKey
from flows.config.compare import CompareConfig
from flows.config.transfer import TransferConfig
from flows.graph.transfer_steps import wire
from flows.planning.planner import Planner
from paraknow_core.errors import TokenizerError
from tasks.engine.stage import Stage

TAUGHT = {"share": 0.9, "temperature": 2.0, "top_k": 8}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"))


def settings(folder: Path, store: Path) -> dict:
    found = pair_settings(folder, store) | {"extract": {"roles": ["head"]}}
    found["finetune"] = found["finetune"] | {"distillation": TAUGHT}
    return found


def test_a_run_asks_the_teacher_once_and_a_plan_knows_it(folder, tmp_path, caplog):
    given = settings(folder, tmp_path / "store")
    config = TransferConfig.model_validate(given)
    with tempfile.TemporaryDirectory() as aside:
        planner = Planner(config.run, Stage.REPORT, Path(aside))
        wire(config, planner)
    planned = [step for step in planner.steps if step.step == "teacher-logits"]
    assert [step.label for step in planned] == ["teacher logits"]
    assert planned[0].estimate.memory_bytes
    assert planned[0].estimate.tokens
    with caplog.at_level(logging.WARNING, logger="paraknow"):
        refs = run_direct(given, Stage.FINETUNE)
    (told,) = [r.getMessage() for r in caplog.records if "likeliest" in r.getMessage()]
    assert re.match(r"\d\d % of the teacher's probability at temperature 2 is not on the 8 ", told)
    assert refs["teacher logits"].key == planned[0].key
    store = config.run.open_store()
    facts = store.lookup(StepKey(refs["teacher logits"].key)).facts
    assert (facts["rows"], facts["top_k"]) == (32, 8)
    assert 0 < facts["rest_mean"] <= facts["rest_max"] < 1
    assert facts["gradient_error_at_most"] == pytest.approx(facts["rest_mean"])
    for arm in ("plain", "transfer"):
        trained = store.lookup(StepKey(refs[f"finetune {arm}"].key))
        assert "targets" in trained.payload.inputs
        assert trained.payload.config["distillation"]["share"] == 0.9
        assert trained.facts["tokens"] == facts["tokens"]
    assert computed(run_direct(given, Stage.FINETUNE)) == set()


def test_without_it_a_training_has_the_key_that_it_had(folder, tmp_path):
    given = pair_settings(folder, tmp_path / "store") | {"extract": {"roles": ["head"]}}
    refs = run_direct(given, Stage.FINETUNE)
    store = TransferConfig.model_validate(given).run.open_store()
    payload = store.lookup(StepKey(refs["finetune plain"].key)).payload
    assert "distillation" not in payload.config
    assert not [role for role in payload.inputs if role.startswith("targets")]
    assert "teacher logits" not in refs


def test_two_tokenizers_are_refused_before_anything_is_computed(folder, tmp_path):
    other = tiny_model(tmp_path / "other", hidden=48, layers=4, heads=4, kv_heads=2, ffn=96, seed=1)
    path = other / "tokenizer.json"
    said = json.loads(path.read_text())
    words = said["model"]["vocab"]
    words["unheard-of"] = words.pop(max(words, key=words.__getitem__))
    path.write_text(json.dumps(said))
    given = settings(folder, tmp_path / "store") | {"teacher": {"model": str(other)}}
    config = TransferConfig.model_validate(given)
    with pytest.raises(TokenizerError, match="two tokenizers"):
        run_direct(given)
    steps = {record.step for record in config.run.open_store().records()}
    assert steps <= {"acquire-model", "acquire-data"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"share": 0}, "share"),
        ({"temperature": -1}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"temprature": 2}, "temperature"),
    ],
)
def test_settings_out_of_range_name_their_place(folder, tmp_path, changes, says):
    shared = pair_settings(folder, tmp_path / "store")
    arm = {"name": "taught", "method": "plain", "set": {"finetune": {"distillation": changes}}}
    with pytest.raises(ValueError, match=says):
        CompareConfig.model_validate(
            {
                "pairs": [{"name": "p"} | {who: shared[who] for who in ("teacher", "student")}],
                "tasks": [{"name": "t", "data": shared["data"]}],
                "methods": ["plain", arm],
            }
        )
