import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.tiny import FAMILIES, tiny_model, tiny_tokenizer
from transformers import AutoModelForCausalLM

from paraknow_core.errors import (
    ArchitectureError,
    CheckpointError,
    ConfigError,
    TokenizerError,
)
from paraknow_core.models.describe import describe
from paraknow_core.models.load import load_model, load_tokenizer, parse_dtype, pick_device

IDS = torch.tensor([[1, 20, 30, 40, 5]])


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_same_model_as_transformers_loads(tmp_path, family, tied):
    folder = tiny_model(tmp_path, family, tied=tied, max_shard_size="20KB")
    model = load_model(folder)
    reference = AutoModelForCausalLM.from_pretrained(folder).eval()
    assert torch.equal(model(IDS).logits, reference(IDS).logits)
    assert not model.training
    assert model.config.use_cache is False
    shared = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert shared == tied
    assert [n for n, _ in model.named_parameters()] == [n for n, _ in reference.named_parameters()]


@pytest.mark.parametrize("stored", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("wanted", [torch.float32, torch.bfloat16])
def test_weights_are_converted_to_the_wanted_dtype(tmp_path, stored, wanted):
    folder = tiny_model(tmp_path, dtype=stored)
    tensors = load_file(folder / "model.safetensors")
    for name, parameter in load_model(folder, dtype=wanted).named_parameters():
        assert torch.equal(parameter, tensors[name].to(wanted))


def test_training_the_model_leaves_its_files_alone(tmp_path):
    folder = tiny_model(tmp_path)
    before = (folder / "model.safetensors").read_bytes()
    model = load_model(folder)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(1.0)
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_tied_model_with_its_head_on_disk_stays_tied(tmp_path):
    folder = tiny_model(tmp_path, tied=True)
    path = folder / "model.safetensors"
    logits = load_model(folder)(IDS).logits
    tensors = load_file(path)
    save_file({**tensors, "lm_head.weight": tensors["model.embed_tokens.weight"].clone()}, path)
    model = load_model(folder)
    assert model.get_output_embeddings().weight is model.get_input_embeddings().weight
    assert torch.equal(model(IDS).logits, logits)


def test_fields_and_files_outside_the_allow_list_have_no_effect(tmp_path):
    folder = tiny_model(tmp_path)
    expected = load_model(folder)(IDS).logits
    path = folder / "config.json"
    config = json.loads(path.read_text())
    config |= {
        "auto_map": {"AutoModelForCausalLM": "evil.Model"},
        "attn_implementation": "somebody/kernel",
        "_attn_implementation": "somebody/kernel",
        "return_dict": False,
        "dtype": "float16",
    }
    path.write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('remote code ran')")
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/nowhere"}')
    (folder / "generation_config.json").write_text('{"custom_generate": "evil"}')
    assert torch.equal(load_model(folder)(IDS).logits, expected)


def test_legacy_rope_fields_are_understood(tmp_path):
    folder = tiny_model(tmp_path, rope_parameters={"rope_type": "default", "rope_theta": 500.0})
    expected = load_model(folder)(IDS).logits
    path = folder / "config.json"
    config = json.loads(path.read_text())
    del config["rope_parameters"]
    path.write_text(json.dumps(config))
    assert not torch.equal(load_model(folder)(IDS).logits, expected)
    path.write_text(json.dumps({**config, "rope_theta": 500.0, "rope_scaling": None}))
    assert torch.equal(load_model(folder)(IDS).logits, expected)


def test_what_transformers_refuses_is_told(tmp_path):
    folder = tiny_model(tmp_path)
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "rope_parameters": {"rope_type": "no such"}}))
    with pytest.raises(ArchitectureError, match=r"config\.json.*no such.*llama3"):
        load_model(folder)
    path.write_text(json.dumps({**config, "rope_parameters": {"rope_type": "linear"}}))
    with pytest.raises(ArchitectureError, match=r"(?s)config\.json: Transformers .*factor"):
        load_model(folder)


def test_disagreeing_config_is_refused_before_building(tmp_path):
    folder = tiny_model(tmp_path)
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "hidden_size": 48}))
    with pytest.raises(CheckpointError, match=r"\(64, 32\).*\(64, 48\)"):
        load_model(folder)


def test_tokenizer_that_fits_or_is_smaller_than_the_embedding(tmp_path):
    folder = tiny_model(tmp_path, vocab=64)
    assert load_tokenizer(folder)("w1 w2").input_ids == [1, 15, 16]
    tiny_tokenizer(40).save_pretrained(folder)
    assert len(load_tokenizer(folder)) == 40


def test_a_tokenizer_larger_than_the_embedding_is_refused(tmp_path):
    folder = tiny_model(tmp_path, vocab=64)
    tiny_tokenizer(65).save_pretrained(folder)
    with pytest.raises(TokenizerError, match=r"65 tokens.*64 rows"):
        load_tokenizer(folder)


def test_a_missing_or_broken_tokenizer_is_refused(tmp_path):
    folder = tiny_model(tmp_path)
    (folder / "tokenizer.json").write_text("{")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        load_tokenizer(folder)
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()
    with pytest.raises(TokenizerError, match=r"tokenizer\.json"):
        load_tokenizer(folder)


def test_names_of_dtypes_and_devices():
    assert parse_dtype("bfloat16") is torch.bfloat16
    with pytest.raises(ConfigError, match=r"'int8'.*float32"):
        parse_dtype("int8")
    assert pick_device("cpu") == "cpu"
    assert pick_device("auto") in ("cpu", "cuda")
    for name in ("tpu", "cuda:x", "cuda:", "cpu:0", ""):
        with pytest.raises(ConfigError, match="Unknown device"):
            pick_device(name)
    with pytest.raises(ConfigError, match="'cuda:4096'"):
        pick_device("cuda:4096")


def test_describe_and_the_loaded_model_have_the_same_names(tmp_path):
    folder = tiny_model(tmp_path, "qwen2", tied=True)
    names = {n for n, _ in load_model(folder).named_parameters()}
    assert names == {t.name for t in describe(folder).tensors}
