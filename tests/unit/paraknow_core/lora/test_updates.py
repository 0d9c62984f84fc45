"""An update is added to the student and kept; a start is subtracted, as ever."""

import json
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.starts import transfer_start
from support.tiny import tiny_model

from paraknow_core.errors import CheckpointError
from paraknow_core.lora.adapter import CONFIG, WEIGHTS, write_adapter
from paraknow_core.lora.adapter_reader import read_adapter
from paraknow_core.lora.anchored_model import merge_into, read_trained, trainable_model
from paraknow_core.lora.combine import combine
from paraknow_core.lora.compose import compose
from paraknow_core.models.load import load_model

IDS = torch.arange(4, 20)[None]


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model(input_ids=IDS).logits


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("whole", [False, True])
def test_training_begins_at_the_student_with_its_updates(tmp_path, *, tied: bool, whole: bool):
    student = tiny_model(tmp_path / "student", tied=tied)
    start = transfer_start(student, tmp_path / "start")
    added = frozenset(n for n in start.factors if whole or "mlp" in n or "embed" in n)
    update = replace(start, added=added)
    write_adapter(tmp_path / "update", update)
    assert read_adapter(tmp_path / "update").added == added
    assert read_adapter(tmp_path / "start").added == frozenset()

    changed = load_model(student)
    merge_into(changed, replace(start, factors={n: start.factors[n] for n in added}))
    model = trainable_model(load_model(student), update, dropout=0.0).eval()
    torch.testing.assert_close(logits(model), logits(changed), rtol=1e-4, atol=1e-4)
    assert not torch.allclose(logits(changed), logits(load_model(student)), atol=1e-2)
    delivered = combine(update, read_trained(model, update))
    assert delivered.rank == (1 if whole else 2) * start.rank
    assert delivered.scale == start.scale
    assert not delivered.added
    ours = load_model(student)
    merge_into(ours, delivered)
    torch.testing.assert_close(logits(ours), logits(changed), rtol=1e-4, atol=1e-4)


def test_a_start_point_without_updates_has_the_bytes_that_it_had(tmp_path):
    student = tiny_model(tmp_path / "student")
    start = transfer_start(student, tmp_path / "start")
    write_adapter(tmp_path / "update", replace(start, added=frozenset(start.factors)))
    head = (tmp_path / "start" / WEIGHTS).read_bytes()[:4096]
    assert b'{"__metadata__":{"format":"pt"}' in head
    for name in (CONFIG,):
        assert (tmp_path / "start" / name).read_bytes() == (tmp_path / "update" / name).read_bytes()


def test_updates_stay_updates_where_start_points_are_put_together(tmp_path):
    student = tiny_model(tmp_path / "student")
    start = transfer_start(student, tmp_path / "start")
    update = replace(start, added=frozenset(start.factors))
    names = {name: "update" if "mlp" in name else "start" for name in start.factors}
    made = compose({"update": update, "start": start}, names)
    assert made.added == {name for name in names if "mlp" in name}


@pytest.mark.parametrize("told", ["[", '"x"', '["model.nowhere"]', "[1]", "[[1]]"])
def test_a_head_that_lies_is_refused(tmp_path, told: str):
    student = tiny_model(tmp_path / "student")
    transfer_start(student, tmp_path / "start")
    file = tmp_path / "start" / WEIGHTS
    save_file(load_file(file), file, metadata={"format": "pt", "added": told})
    assert json.loads((tmp_path / "start" / CONFIG).read_text())["peft_type"] == "LORA"
    with pytest.raises(CheckpointError, match="is added to the student"):
        read_adapter(tmp_path / "start")
