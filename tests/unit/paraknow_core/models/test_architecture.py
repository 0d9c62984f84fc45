import hashlib
import json
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny import FAMILIES, UNGATED, tiny_model
from transformers import AutoModelForCausalLM

from paraknow_core.errors import ArchitectureError, CheckpointError, ModelFolderError
from paraknow_core.models.describe import MATRIX_ROLES, Architecture, Role, describe
from paraknow_core.models.load import describe as architecture
from paraknow_core.models.modules import logical


@pytest.fixture
def llama(tmp_path):
    return tiny_model(tmp_path / "model", "llama")


def edit_config(folder, **changes):
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config.update(changes)
    path.write_text(json.dumps({k: v for k, v in config.items() if v != "REMOVE"}))


def edit_weights(folder, change):
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def refuse(error, folder, *parts):
    with pytest.raises(error) as caught:
        describe(folder)
    for part in parts:
        assert part in str(caught.value)


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_agrees_with_the_transformers_model(tmp_path, family, tied):
    folder = tiny_model(tmp_path, family, tied=tied, dtype=torch.bfloat16, max_shard_size="20KB")
    architecture = describe(folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert {t.parameter: t.shape for t in architecture.tensors} == {
        name: tuple(p.shape) for name, p in model.named_parameters()
    }
    assert architecture.num_parameters == model.num_parameters()
    assert architecture.weight_bytes == 2 * model.num_parameters()
    assert (architecture.tied, architecture.has_head) == (tied, not tied)
    missing = ({Role.HEAD} if tied else set()) | ({Role.GATE} if family in UNGATED else set())
    assert set(architecture.roles) == set(MATRIX_ROLES) - missing
    for role in architecture.roles:
        for layer in [None] if role in (Role.EMBED, Role.HEAD) else range(3):
            matrix = architecture.matrix(role, layer)
            module = model.get_submodule(matrix.module)
            assert tuple(logical(module.weight, module).shape) == matrix.whole
    assert model.get_submodule(architecture.module_of(Role.HEAD)) is model.get_output_embeddings()
    assert len({t.file for t in architecture.tensors}) > 1


def test_sizes_with_a_head_width_of_its_own_and_grouped_queries(tmp_path):
    folder = tiny_model(tmp_path, "qwen3", hidden=32, heads=4, kv_heads=1, head_dim=16)
    architecture = describe(folder)
    assert (architecture.num_heads, architecture.num_kv_heads, architecture.head_dim) == (4, 1, 16)
    assert architecture.matrix(Role.Q, 0).shape == (64, 32)
    assert architecture.matrix(Role.K, 0).shape == (16, 32)
    assert architecture.matrix(Role.O, 0).shape == (32, 64)


def test_optional_biases_are_expected_only_when_the_config_says_so(tmp_path):
    folder = tiny_model(tmp_path, "llama", attention_bias=True, mlp_bias=True)
    assert sum(t.role is Role.BIAS for t in describe(folder).tensors) == 7 * 3
    edit_config(folder, mlp_bias=False)
    refuse(CheckpointError, folder, "proj.bias", "no part of a llama model")


def test_json_round_trip(llama):
    architecture = describe(llama)
    again = Architecture.from_json(json.loads(json.dumps(architecture.to_json())))
    assert again == architecture
    with pytest.raises(ArchitectureError, match="tensors"):
        Architecture.from_json({})


@pytest.mark.parametrize(
    ("family", "digest"),
    [
        ("llama", "d87bbed7de940fa7da1a1200890d216f38791383f4c02a3675de46d3975e887d"),
        ("mistral", "9d01a57762f616407ada444dff5c02a1d7a925ebf1ac1c3450b735602dce6320"),
        ("qwen2", "49353bc767dd63fce7f61078ebb0520abf5b3a45b7572d84ec749f5b71837992"),
        ("qwen3", "9634957e78abae3ab1ae18189351a596d8d08623cbfa1ac72deb23e99c2c6a55"),
    ],
)
def test_the_description_of_an_old_family_is_pinned(tmp_path, family, digest):
    """It is stored, and keys depend on its bytes: if this goes red, every result is a miss."""
    folder = tiny_model(tmp_path, family, tied=family == "qwen2", dtype=torch.bfloat16)
    text = json.dumps(describe(folder).to_json())
    assert hashlib.sha256(text.encode()).hexdigest() == digest


def test_asking_for_a_matrix_that_is_not_there(tmp_path, llama):
    with pytest.raises(ArchitectureError, match=r"'q' at layer 3.*0\.\.2"):
        describe(llama).matrix(Role.Q, 3)
    tied = describe(tiny_model(tmp_path / "tied", tied=True))
    with pytest.raises(ArchitectureError, match="tied to its embedding"):
        tied.matrix(Role.HEAD)


@pytest.mark.parametrize(
    ("changes", "parts"),
    [
        ({"num_hidden_layers": 10**7}, ["num_hidden_layers", "10000000", "1..1024"]),
        ({"hidden_size": 0}, ["hidden_size"]),
        ({"hidden_size": "32"}, ["hidden_size", '"32"']),
        ({"vocab_size": True}, ["vocab_size", "true"]),
        ({"vocab_size": "REMOVE"}, ["vocab_size", "must be given"]),
        ({"num_key_value_heads": 3}, ["multiple", "3"]),
        ({"tie_word_embeddings": 1}, ["tie_word_embeddings"]),
        ({"rms_norm_eps": -1.0}, ["rms_norm_eps"]),
        ({"hidden_act": "__import__"}, ["hidden_act", "silu"]),
        ({"rope_parameters": {"rope_theta": [[1]]}}, ["rope_parameters"]),
        ({"layer_types": ["full_attention"]}, ["layer_types", "1 entries"]),
        ({"model_type": "mixtral"}, ["mixture of experts", "mixtral", "llama"]),
        ({"model_type": "qwen3_moe"}, ["mixture of experts"]),
        ({"num_local_experts": 8}, ["mixture of experts"]),
        ({"model_type": "t5"}, ["encoder-decoder", "t5"]),
        ({"is_encoder_decoder": True}, ["encoder-decoder"]),
        ({"quantization_config": {"bits": 4}}, ["quantised"]),
        ({"per_layer_config": {"1": {}}}, ["per_layer_config"]),
        ({"model_type": "gpt3"}, ["gpt3", "llama, mistral, qwen2, qwen3, gemma2, gemma3_text"]),
        ({"model_type": "gemma3"}, ["vision-language", "gemma3"]),
        ({"model_type": "new_vl", "vision_config": {"depth": 2}}, ["vision-language", "new_vl"]),
        ({"model_type": "llama4_text"}, ["mixture of experts"]),
        ({"model_type": None}, ["None"]),
    ],
)
def test_config_out_of_range_or_kind_is_refused_by_itself(llama, monkeypatch, changes, parts):
    """Before a size from a hostile file is believed, and before any weights are opened."""
    edit_config(llama, **changes)
    monkeypatch.setattr(architecture, "read_headers", lambda *_: pytest.fail("weights were read"))
    refuse(ArchitectureError, llama, "config.json", *parts)


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("{", "not a valid JSON"),
        ("[]", "list"),
        ('{"model_type": "llama", "model_type": "t5"}', "twice"),
        ('{"rope_theta": NaN}', "NaN"),
        (" " * 2**20 + "{}", "larger than"),
    ],
)
def test_a_malformed_config_is_refused(llama, text, part):
    (llama / "config.json").write_text(text)
    refuse(ModelFolderError, llama, "config.json", part)


def test_folders_without_weights_say_what_to_do(tmp_path, llama):
    refuse(ModelFolderError, tmp_path / "none", "no such folder")
    empty = tmp_path / "empty"
    empty.mkdir()
    refuse(ModelFolderError, empty, "no weights", "model.safetensors")
    (empty / "model.gguf").touch()
    refuse(ModelFolderError, empty, "model.gguf")
    (empty / "pytorch_model.bin").touch()
    refuse(ModelFolderError, empty, "pytorch_model.bin", "pickles", "save_pretrained")
    (empty / "other.safetensors").touch()
    refuse(ModelFolderError, empty, "only other.safetensors", "Rename")
    (llama / "config.json").unlink()
    refuse(ModelFolderError, llama, "config.json", "cannot be read")


def test_a_wrong_missing_or_extra_tensor_is_named(llama):
    name = "model.layers.1.mlp.up_proj.weight"
    edit_weights(llama, lambda t: t.update({name: torch.zeros(64, 30)}))
    refuse(CheckpointError, llama, name, "(64, 30)", "(64, 32)", "model.safetensors")
    edit_weights(llama, lambda t: t.pop(name))
    refuse(CheckpointError, llama, name, "(64, 32)", "missing")
    edit_weights(llama, lambda t: t.update({name: torch.zeros(64, 32), "more": torch.zeros(2)}))
    refuse(CheckpointError, llama, "'more'", "(2,)", "model.safetensors")


def test_quantised_storage_is_refused(llama):
    name = "model.layers.0.mlp.up_proj.weight"
    edit_weights(llama, lambda t: t.update({name: torch.zeros(64, 32, dtype=torch.int8)}))
    refuse(CheckpointError, llama, name, "I8", "Quantised")


def test_leftovers_of_old_exports_are_ignored(llama):
    before = describe(llama)
    name = "model.layers.0.self_attn.rotary_emb.inv_freq"
    edit_weights(llama, lambda t: t.update({name: torch.zeros(4)}))
    assert describe(llama) == before


def test_a_tied_head_on_disk_must_equal_the_embedding(tmp_path):
    folder = tiny_model(tmp_path, tied=True)
    before = describe(folder)
    embedding = load_file(folder / "model.safetensors")["model.embed_tokens.weight"]
    edit_weights(folder, lambda t: t.update({"lm_head.weight": embedding.clone()}))
    assert describe(folder) == before
    edit_weights(folder, lambda t: t.update({"lm_head.weight": embedding + 1}))
    refuse(CheckpointError, folder, "lm_head.weight", "tie_word_embeddings")


def test_a_missing_head_is_refused_unless_tied(llama):
    edit_weights(llama, lambda t: t.pop("lm_head.weight"))
    refuse(CheckpointError, llama, "lm_head.weight", "missing")


def test_an_index_must_agree_with_its_files(tmp_path):
    folder = tiny_model(tmp_path, max_shard_size="40KB")
    index = folder / "model.safetensors.index.json"
    good = json.loads(index.read_text())
    name, file = next(iter(good["weight_map"].items()))

    def with_file(value, key=name):
        index.write_text(json.dumps({"weight_map": {**good["weight_map"], key: value}}))

    other = next(f for f in good["weight_map"].values() if f != file)
    with_file(other)
    refuse(CheckpointError, folder, name, f"in {other}", f"is in {file}")
    with_file("../model-00001-of-00002.safetensors")
    refuse(CheckpointError, folder, "plain name")
    with_file("gone.safetensors")
    refuse(CheckpointError, folder, "gone.safetensors", "not in the folder")
    with_file(file, key="invented")
    refuse(CheckpointError, folder, "invented", "no file")
    index.write_text("{}")
    refuse(CheckpointError, folder, "weight_map")
    (folder / "model.safetensors").touch()
    refuse(ModelFolderError, folder, "both")


def test_one_tensor_in_two_shards_is_refused(tmp_path):
    folder = tiny_model(tmp_path, max_shard_size="40KB")
    first, second = sorted(folder.glob("*.safetensors"))[:2]
    tensors = load_file(second)
    name = next(iter(load_file(first)))
    save_file({**tensors, name: load_file(first)[name]}, second)
    refuse(CheckpointError, folder, name, first.name, second.name)


def test_a_truncated_file_is_refused(llama):
    path = llama / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    refuse(CheckpointError, llama, "model.safetensors", "truncated")


def test_planning_needs_no_torch():
    code = "import sys, paraknow_core.models.describe; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
