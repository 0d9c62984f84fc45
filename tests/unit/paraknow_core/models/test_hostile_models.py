"""Model folders, tokenizers and adapters of which any field is anything: they load, or one line."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from support.tiny import FAMILIES, tiny_model

from paraknow_core.checkpoint.model_folder import INDEX, model_files
from paraknow_core.errors import ModelFolderError, ParaknowError
from paraknow_core.lora.adapter import CONFIG
from paraknow_core.lora.adapter_reader import read_adapter
from paraknow_core.lora.start_point import write_start
from paraknow_core.models.config_fields import FIELDS
from paraknow_core.models.describe import describe
from paraknow_core.models.family_tables import FAMILIES as TABLES
from paraknow_core.models.load import check_buildable, load_model, load_tokenizer
from paraknow_core.printable import printable

IDS = torch.tensor([[1, 20, 30, 40, 5]])
SIGNS = ("is_encoder_decoder", "num_experts", "quantization_config", "vision_config")

NUMBERS = [0, 1, 2, 8, -1, 2**31, 2**63, 10**40, 10**400, 0.0, 0.5, 1e-300, 1e308]
WORDS = ["", "llama", "silu", "full_attention", "sliding_attention", "é\x1b[31m", "x" * 1000]
VALUES = st.recursive(
    st.sampled_from([None, True, False, *NUMBERS, *WORDS]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.sampled_from(WORDS), inner),
    max_leaves=6,
)
ROPE_KINDS = ["default", "linear", "dynamic", "yarn", "longrope", "su", "llama3"]
ROPE = st.fixed_dictionaries(
    {"rope_type": st.sampled_from(ROPE_KINDS)},
    optional={
        **dict.fromkeys(
            ("rope_theta", "factor"), st.sampled_from([1e4, 2.0, 0, -1, "x", [], None])
        ),
        **dict.fromkeys(
            ("short_factor", "long_factor"), st.lists(st.sampled_from([1.0, 2, 0, "a"]), max_size=5)
        ),
        "original_max_position_embeddings": st.sampled_from([128, 0, True, 1.5, None]),
        "partial_rotary_factor": st.sampled_from([1.0, 0.3, 0, -1, "x"]),
        **dict.fromkeys(
            ("beta_fast", "beta_slow", "low_freq_factor", "high_freq_factor", "attention_factor"),
            st.sampled_from([1, 4.0, 0, "x", []]),
        ),
    },
)
CHANGES = st.tuples(st.sampled_from([*FIELDS, *SIGNS, "model_type"]), VALUES) | st.tuples(
    st.sampled_from(["rope_parameters", "rope_scaling"]), ROPE
)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("models")
    return {family: tiny_model(root / family, family, layers=2) for family in FAMILIES}


def works_or_one_line(call: Callable[[], object]) -> None:
    try:
        call()
        return
    except ParaknowError as error:
        refusal = str(error)
    assert refusal == printable(refusal)
    assert len(refusal) < 1500


def run(folder: Path) -> None:
    describe(folder)
    check_buildable(folder)
    with torch.no_grad():
        load_model(folder)(IDS)


@settings(max_examples=150)
@given(st.sampled_from(FAMILIES), CHANGES, st.booleans())
@example("llama", ("model_type", ["llama"]), False)
@example("llama", ("model_type", {"a": 1}), False)
@example(
    "phi3", ("rope_scaling", {"type": "longrope", "short_factor": [], "long_factor": []}), True
)
@example("llama", ("rope_parameters", {"rope_type": "longrope"}), False)
@example("llama", ("rope_parameters", {"rope_theta": 10**400}), False)
@example("llama", ("rope_parameters", {"rope_type": "yarn", "attention_factor": "x"}), False)
def test_any_field_of_any_family_loads_or_is_refused_in_one_line(
    folders: dict[str, Path], family: str, change: tuple[str, Any], alone: bool
) -> None:
    """``alone``: without what the config says of RoPE otherwise, as older configs have it."""
    name, value = TABLES[family].own_name(change[0]), change[1]
    path = folders[family] / "config.json"
    whole = path.read_text()
    config = json.loads(whole) | {name: value}
    if alone and name != "rope_parameters":
        config.pop("rope_parameters", None)
    path.write_text(json.dumps(config))
    try:
        works_or_one_line(lambda: run(folders[family]))
    finally:
        path.write_text(whole)


def spots(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """Every place in a JSON value, its long lists and objects by their first entries."""
    yield path
    if isinstance(value, dict | list):
        items = list(value.items() if isinstance(value, dict) else enumerate(value))
        for key, inner in items[:40]:
            yield from spots(inner, (*path, key))


def replaced(value: Any, path: tuple[Any, ...], by: Any) -> Any:
    if not path:
        return by
    changed = value.copy()
    changed[path[0]] = replaced(value[path[0]], path[1:], by)
    return changed


@settings(max_examples=120)
@given(st.data())
def test_any_value_in_a_tokenizers_files_loads_or_is_refused_in_one_line(
    folders: dict[str, Path], data: st.DataObject
) -> None:
    folder = folders["llama"]
    path = folder / data.draw(st.sampled_from(["tokenizer.json", "tokenizer_config.json"]))
    whole = path.read_text()
    held = json.loads(whole)
    text = json.dumps(replaced(held, data.draw(st.sampled_from([*spots(held)])), data.draw(VALUES)))
    path.write_text(text[: data.draw(st.sampled_from([None, None, len(text) // 2]))])
    try:
        works_or_one_line(lambda: load_tokenizer(folder)("w1 w2"))
    finally:
        path.write_text(whole)


@pytest.fixture(scope="module")
def adapter(tmp_path_factory: pytest.TempPathFactory) -> Path:
    factors = {"model.layers.0.self_attn.q_proj": (torch.ones(3, 32), torch.ones(32, 3))}
    folder = tmp_path_factory.mktemp("adapter")
    write_start(folder, factors=factors, embeddings=[], rank=3, alpha=3.0)
    return folder


@settings(max_examples=100)
@given(st.data())
def test_any_field_of_an_adapters_config_reads_or_is_refused_in_one_line(
    adapter: Path, data: st.DataObject
) -> None:
    whole = (adapter / CONFIG).read_text()
    held = json.loads(whole)
    name = data.draw(st.sampled_from([*held, "use_dora", "layers_pattern", "unheard_of\x1b"]))
    (adapter / CONFIG).write_text(json.dumps(held | {name: data.draw(VALUES)}))
    try:
        works_or_one_line(lambda: read_adapter(adapter))
    finally:
        (adapter / CONFIG).write_text(whole)


FILES: list[tuple[str, Callable[[Path], object]]] = [
    ("config.json", describe),
    (INDEX, describe),
    ("tokenizer.json", load_tokenizer),
    ("tokenizer_config.json", load_tokenizer),
    ("chat_template.jinja", load_tokenizer),
]


@pytest.mark.parametrize(("name", "read"), FILES, ids=[name for name, _ in FILES])
def test_pipes_devices_and_floods_in_a_files_place_are_refused(
    tmp_path: Path, folders: dict[str, Path], name: str, read: Callable[[Path], object]
) -> None:
    shutil.copytree(folders["llama"], tmp_path / "model")
    path = tmp_path / "model" / name
    if name == INDEX:
        (tmp_path / "model" / "model.safetensors").rename(tmp_path / "model" / "one.safetensors")
    path.unlink(missing_ok=True)
    os.mkfifo(path)
    with pytest.raises(ParaknowError):
        read(tmp_path / "model")
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ParaknowError):
        read(tmp_path / "model")


def test_stray_files_are_left_alone_and_shards_may_have_any_name(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "model", max_shard_size="40KB")
    before = describe(folder), model_files(folder)
    strays = ["my notes.txt", "._x.safetensors", "größe.json", " ", "a\nb.txt", ".json"]
    for name in strays:
        (folder / name).write_text("nothing to read")
    (folder / os.fsdecode(b"caf\xe9.txt")).touch()
    (folder / "folder.json").mkdir()
    assert (describe(folder), model_files(folder)) == before
    index = json.loads((folder / INDEX).read_text())
    old = next(iter(index["weight_map"].values()))
    new = "größe (1).safetensors"
    (folder / old).rename(folder / new)
    moved = {k: new if v == old else v for k, v in index["weight_map"].items()}
    (folder / INDEX).write_text(json.dumps({"weight_map": moved}))
    assert describe(folder).num_parameters == before[0].num_parameters
    assert new in model_files(folder)
    (folder / INDEX).write_text(json.dumps({"weight_map": {**moved, "x": "../model.safetensors"}}))
    with pytest.raises(ParaknowError, match="plain name"):
        model_files(folder)


def test_a_folder_without_a_config_says_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    with pytest.raises(ModelFolderError, match="Give a model folder"):
        describe(tmp_path)
