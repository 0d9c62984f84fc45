"""Bad input: one clear error before anything expensive, with what was given and what to do."""

import copy
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.pair import pair_settings, write_rows
from support.tiny import tiny_model

from artifacts.errors import StoreError, StoreFormatError, StoreFullError
from artifacts.store import Store
from flows.config.load import load_config
from flows.config.transfer import TransferConfig
from flows.planning.planner import PlannedStep
from flows.planning.transfer import Plan, make_plan
from paraknow_core.errors import ConfigError, ParaknowError
from tasks.engine.estimates import Estimate
from tasks.engine.stage import Stage

pytestmark = pytest.mark.flow


def cut_short(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def garble_header(folder: Path) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(b"\xff" * 8 + weights.read_bytes()[8:])


def only_pickles(folder: Path) -> None:
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"PK")


def other_width(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"intermediate_size": 80}))


def ten_million_layers(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"num_hidden_layers": 10**7}))


def larger_tokenizer(folder: Path) -> None:
    tokenizer = json.loads((folder / "tokenizer.json").read_text())
    for number in range(500):
        tokenizer["model"]["vocab"][f"extra{number}"] = 1000 + number
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer))


def half_written(folder: Path) -> None:
    weights = folder / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[: len(data) // 2].ljust(len(data), b"\0"))


def gone(folder: Path) -> None:
    shutil.rmtree(folder)


MODEL_FAULTS: list[tuple[Callable[[Path], None], str]] = [
    (gone, "no folder"),
    (only_pickles, r"(?s)safetensors.*\.bin|\.bin.*safetensors"),
    (cut_short, "model.safetensors"),
    (garble_header, "model.safetensors"),
    (half_written, r"model\.safetensors: the last .* bytes are zeros"),
    (other_width, r"(?s)(80|64).*config"),
    (ten_million_layers, "num_hidden_layers"),
    (larger_tokenizer, "tokenizer"),
]


@pytest.mark.parametrize(
    ("fault", "message"), MODEL_FAULTS, ids=lambda x: getattr(x, "__name__", "")
)
def test_a_broken_student_is_refused(
    pair: Path, tmp_path: Path, fault: Callable[[Path], None], message: str
) -> None:
    shutil.copytree(pair / "student", tmp_path / "student")
    fault(tmp_path / "student")
    settings = pair_settings(pair, tmp_path / "store")
    settings["student"]["model"] = str(tmp_path / "student")
    refused(settings, message)


def test_a_bad_line_is_named_with_file_and_number(pair: Path, tmp_path: Path) -> None:
    rows = write_rows(tmp_path / "rows.jsonl")
    lines = rows.read_text().splitlines()
    for bad in ("", "{not json", '{"prompt": "w1"}', '{"prompt": "w1", "answer": ""}'):
        rows.write_text("\n".join([*lines[:6], bad, *lines[6:]]) + "\n")
        settings = pair_settings(pair, tmp_path / "store")
        settings["data"]["rows"]["path"] = str(rows)
        refused(settings, r"rows\.jsonl.*7")


def test_seeds_that_overlap_the_test_split_are_refused(pair: Path, tmp_path: Path) -> None:
    settings = pair_settings(pair, tmp_path / "store")
    settings["data"]["test"] = {"path": settings["data"]["rows"]["path"]}
    refused(settings, r"(?s)overlap.*test")


def test_too_few_rows_are_refused(pair: Path, tmp_path: Path) -> None:
    settings = pair_settings(pair, tmp_path / "store")
    settings["data"]["sizes"]["train"] = 5000
    refused(settings, "5028|5000")


@pytest.mark.parametrize(
    ("rank", "most", "message"),
    [(17, 17, "lora.rank is 17"), (4, 17, "decompose.max_rank is 17")],
)
def test_a_rank_above_the_smallest_dimension_is_refused(
    pair: Path, tmp_path: Path, rank: int, most: int, message: str
) -> None:
    settings = pair_settings(pair, tmp_path / "store")
    settings["lora"]["rank"], settings["decompose"]["max_rank"] = rank, most
    refused(settings, message)  # the student's k and v have 16 rows


def test_a_student_wider_than_the_teacher_is_refused_with_names_and_shapes(
    pair: Path, tmp_path: Path
) -> None:
    settings = pair_settings(pair, tmp_path / "store")
    settings["teacher"], settings["student"] = settings["student"], settings["teacher"]
    refused(settings, "layers")
    tiny_model(tmp_path / "wide", hidden=32, layers=2, heads=4, kv_heads=4, ffn=64)
    settings = pair_settings(pair, tmp_path / "store")
    tiny_model(tmp_path / "narrow", hidden=40, layers=2, heads=4, kv_heads=1, ffn=80)
    settings["teacher"]["model"] = str(tmp_path / "narrow")
    settings["student"]["model"] = str(tmp_path / "wide")
    refused(settings, r"(?s)k_proj.*\[10, 40\].*\[32, 32\].*Leave these roles out")
    settings["extract"] = {"roles": ["q", "o", "gate", "up", "down", "embed", "head"]}
    assert make_plan(TransferConfig.model_validate(settings), Stage.LORA).steps


def test_tokenizers_with_little_in_common_are_refused_for_embeddings_only(
    pair: Path, tmp_path: Path
) -> None:
    other = tiny_model(
        tmp_path / "other", hidden=48, layers=4, heads=4, kv_heads=2, ffn=96, vocab=70
    )
    settings = pair_settings(pair, tmp_path / "store")
    settings["teacher"]["model"] = str(other)
    assert make_plan(TransferConfig.model_validate(settings), Stage.LORA).steps  # all 64 are there
    tokenizer = json.loads((other / "tokenizer.json").read_text())
    words = tokenizer["model"]["vocab"]
    tokenizer["model"]["vocab"] = {f"{w}x" if w[0] == "w" else w: n for w, n in words.items()}
    (other / "tokenizer.json").write_text(json.dumps(tokenizer))
    settings["run"]["store"] = str(tmp_path / "fresh")
    refused(settings, r"(?s)student's 64 tokens 14 \(21\.9%\).*50%.*min_vocabulary_share")
    settings["extract"] = {"roles": ["q", "up"]}
    assert make_plan(TransferConfig.model_validate(settings), Stage.LORA).steps
    settings["extract"] = {"min_vocabulary_share": 0.2}
    assert make_plan(TransferConfig.model_validate(settings), Stage.LORA).steps


def test_listed_layers_and_whole_heads_are_checked_before_anything_runs(
    pair: Path, tmp_path: Path
) -> None:
    settings = pair_settings(pair, tmp_path / "store")
    for layers in ([0], [0, 4]):
        refused(settings | {"align": {"layers": layers}}, r"align\.layers.*2 different.*0\.\.3")
    tiny_model(tmp_path / "grouped", hidden=32, layers=2, heads=4, kv_heads=1, ffn=64)
    settings["student"]["model"] = str(tmp_path / "grouped")
    settings["extract"] = {"structure": "consistent"}
    refused(settings, "4 query heads to a key/value head cannot come from 2")


def test_a_full_disk_is_foreseen(tmp_path: Path) -> None:
    step = PlannedStep("sensitivity", estimate=Estimate(disk_bytes=5_000_000_000))
    Plan([step], tmp_path, free_bytes=6_000_000_000).check_disk()
    with pytest.raises(StoreFullError, match=r"5\.0 GB.*4\.0 GB free"):
        Plan([step], tmp_path, free_bytes=4_000_000_000).check_disk()


def test_a_store_of_a_newer_format_is_refused(pair: Path, tmp_path: Path) -> None:
    Store.open(tmp_path / "store")
    info = json.loads((tmp_path / "store" / "store.json").read_text())
    (tmp_path / "store" / "store.json").write_text(json.dumps(info | {"format": 99}))
    with pytest.raises(StoreFormatError, match="99"):
        make_plan(
            TransferConfig.model_validate(pair_settings(pair, tmp_path / "store")), Stage.LORA
        )


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["lora.rnak=3"], r"lora\.rnak.*did you mean rank"),
        (["finetune.learning_rat=3"], r"finetune\.learning_rat.*did you mean learning_rate"),
        (["lora.rank=0"], r"lora\.rank.*greater than or equal to 1.*given 0"),
        (["lora.rank=64"], r"lora\.rank is 64, but decompose\.max_rank is 8"),
        (["lora"], "key=value"),
        (["name.first=x"], "name"),
        (["teacher.pretrain={}"], "either model or pretrain"),
        (["student.texts={}"], "texts are given, but no recipe"),
        (["student.model=", "student.pretrain.sequence_length=200"], "has 128 positions"),
        (["teacher={pretrain: {}, texts: {}}"], "only a student"),
        (["extract.structure=row-colum"], r"extract\.structure.*did you mean 'row-column'"),
        (["align.strategy=uniforn"], r"align\.strategy.*did you mean 'uniform'"),
        (["align={layers: [0, 1], strategy: last}"], "either layers or a strategy"),
        (["run.device=tpu"], r"run\.device.*'auto', 'cpu' or 'cuda'"),
    ],
)
def test_settings_that_cannot_be(
    pair: Path, tmp_path: Path, overrides: list[str], message: str
) -> None:
    path = tmp_path / "experiment.yaml"
    path.write_text(yaml.safe_dump(pair_settings(pair, tmp_path / "store")))
    with pytest.raises(ConfigError, match=message):
        load_config(TransferConfig, path, overrides)


def test_a_config_that_is_no_config(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_config(TransferConfig, tmp_path / "none.yaml")
    (tmp_path / "list.yaml").write_text("- 1\n")
    with pytest.raises(ConfigError, match="list"):
        load_config(TransferConfig, tmp_path / "list.yaml")


def refused(settings: dict[str, Any], message: str) -> None:
    """Planning fails with the message, and nothing was put into the store."""
    config = TransferConfig.model_validate(copy.deepcopy(settings))
    with pytest.raises((ParaknowError, StoreError)) as caught:
        make_plan(config, Stage.REPORT)
    assert re.search(message, str(caught.value)), str(caught.value)
    assert list(config.run.open_store().records()) == []
