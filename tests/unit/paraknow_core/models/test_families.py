"""Families as the Hub has them: names, configs, defaults, and what is refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.starts import token_examples, transfer_start
from support.tiny import tiny_model

from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.data.batches import collate
from paraknow_core.data.examples import TokenisedExample
from paraknow_core.errors import (
    ArchitectureError,
    CheckpointError,
    DataError,
)
from paraknow_core.finetuning.batches import next_token_logits
from paraknow_core.finetuning.finetune import finetune
from paraknow_core.finetuning.recipe import FineTuningRecipe
from paraknow_core.models.config import own_names, read_config
from paraknow_core.models.describe import MATRIX_ROLES, Architecture, Role, describe
from paraknow_core.models.load import load_model
from paraknow_core.models.matrices import read_matrix
from paraknow_core.partial_results import PartialResults
from paraknow_core.sensitivity.accumulate import accumulate


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return next_token_logits(model.eval(), collate(token_examples(6)))


ALL = [str(role) for role in MATRIX_ROLES]


def edit_config(folder: Path, *, without: tuple[str, ...] = (), **changes: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in config.items() if k not in without}))


def rewrite(folder: Path, rename, **extra: torch.Tensor) -> None:
    path = folder / "model.safetensors"
    save_file({**{rename(n): t for n, t in load_file(path).items()}, **extra}, path)


def test_gpt2_as_the_hub_has_it(tmp_path):
    """Names without their prefix, the causal mask as a buffer, and no word about the tie."""
    folder = tiny_model(tmp_path, "gpt2", tied=True)
    expected = logits(load_model(folder))
    before = describe(folder)
    mask = {f"h.{i}.attn.bias": torch.ones(1, 1, 8, 8).tril() for i in range(3)}
    rewrite(folder, lambda name: name.removeprefix("transformer."), **mask)
    edit_config(folder, without=("tie_word_embeddings",))
    after = describe(folder)
    assert after.tensors[0].name == "wte.weight"
    assert after.tied
    assert [t.parameter for t in after.tensors] == [t.parameter for t in before.tensors]
    assert after.matrix(Role.Q, 1).module == "transformer.h.1.attn.c_attn"
    assert after.matrix(Role.Q, 1).name == "h.1.attn.c_attn.weight"
    assert Architecture.from_json(json.loads(json.dumps(after.to_json()))) == after
    assert torch.equal(logits(load_model(folder)), expected)
    with Checkpoint(folder) as weights:
        part = read_matrix(weights, after.matrix(Role.UP, 2), slice(1, 3), slice(None))
    assert torch.equal(part, load_file(folder / "model.safetensors")["h.2.mlp.c_fc.weight"].T[1:3])
    rewrite(folder, lambda name: name, **{"transformer.wte.weight": torch.zeros(64, 32)})
    with pytest.raises(CheckpointError, match=r"'wte.weight'.*no part"):
        describe(folder)


def test_pythia_as_the_hub_has_it(tmp_path):
    folder = tiny_model(tmp_path, "gpt_neox")
    before = describe(folder)
    assert (before.matrix(Role.HEAD).name, before.matrix(Role.HEAD).module) == (
        "embed_out.weight",
        "lm_head",
    )
    expected = logits(load_model(folder))
    layer = "gpt_neox.layers.0.attention."
    rewrite(
        folder,
        lambda name: name.replace("lm_head", "embed_out"),
        **{
            layer + "bias": torch.ones(1, 1, 8, 8, dtype=torch.bool),
            layer + "masked_bias": torch.tensor(-1e9),
            layer + "rotary_emb.inv_freq": torch.ones(1),
        },
    )
    edit_config(folder, rotary_pct=0.25, rotary_emb_base=10000, without=("rope_parameters",))
    assert describe(folder) == before
    assert torch.equal(logits(load_model(folder)), expected)
    rewrite(folder, lambda name: name.replace("embed_out", "lm_head"))
    assert describe(folder).matrix(Role.HEAD).name == "lm_head.weight"


HUB_CONFIGS: list[dict[str, object]] = [
    {
        **{"model_type": "gpt2", "activation_function": "gelu_new", "attn_pdrop": 0.1},
        **{"bos_token_id": 50256, "embd_pdrop": 0.1, "eos_token_id": 50256, "n_ctx": 1024},
        **{"layer_norm_epsilon": 1e-05, "n_embd": 768, "n_head": 12, "n_layer": 12},
        **{"n_positions": 1024, "resid_pdrop": 0.2, "vocab_size": 50257},
    },
    {
        **{"model_type": "gpt_neox", "bos_token_id": 0, "eos_token_id": 0, "hidden_size": 512},
        **{"hidden_act": "gelu_fast", "intermediate_size": 2048, "layer_norm_eps": 1e-06},
        **{"max_position_embeddings": 2048, "num_attention_heads": 8, "num_hidden_layers": 6},
        **{"rotary_emb_base": 500, "rotary_pct": 0.5, "use_parallel_residual": False},
        **{"tie_word_embeddings": False, "vocab_size": 50304},
    },
    {
        **{"model_type": "gemma2", "attn_logit_softcapping": 40.0, "eos_token_id": [1, 107]},
        **{"final_logit_softcapping": 20.0, "head_dim": 256, "hidden_activation": "gelu"},
        **{"hidden_size": 2304, "intermediate_size": 9216, "num_attention_heads": 8},
        **{"num_hidden_layers": 4, "query_pre_attn_scalar": 224, "vocab_size": 256000},
    },
    {
        **{"model_type": "gemma3_text", "attn_logit_softcapping": None, "head_dim": 256},
        **{"hidden_size": 1152, "intermediate_size": 6912, "num_attention_heads": 4},
        **{"num_hidden_layers": 7, "num_key_value_heads": 1, "rope_local_base_freq": 20000},
        **{"rope_scaling": None, "rope_theta": 2000000, "sliding_window": 512},
        **{"sliding_window_pattern": 3, "vocab_size": 262144},
    },
    {
        **{"model_type": "phi3", "embd_pdrop": 0.1, "hidden_size": 3072, "resid_pdrop": 0.1},
        **{"intermediate_size": 8192, "num_attention_heads": 24, "num_hidden_layers": 4},
        **{"num_key_value_heads": 8, "original_max_position_embeddings": 4096},
        **{"partial_rotary_factor": 0.75, "tie_word_embeddings": True, "vocab_size": 200064},
        **{"rope_theta": 10000.0, "sliding_window": 262144},
    },
]


@pytest.mark.parametrize("config", HUB_CONFIGS, ids=lambda config: config["model_type"])
def test_a_config_as_the_hub_has_it_is_read_as_transformers_reads_it(tmp_path, config):
    from transformers import AutoConfig

    (tmp_path / "config.json").write_text(json.dumps(config))
    ours = AutoConfig.for_model(**own_names(read_config(tmp_path))).to_dict()
    theirs = AutoConfig.from_pretrained(tmp_path).to_dict()
    inert = {"_name_or_path", "n_ctx"}
    assert {k for k in ours | theirs if ours.get(k) != theirs.get(k)} <= inert


def test_what_the_config_leaves_out_is_as_in_the_familys_class(tmp_path):
    for family, tied in (("gemma2", True), ("gemma3_text", True), ("gpt2", True), ("phi3", False)):
        folder = tiny_model(tmp_path / family, family, layers=1, tied=tied, ffn=128)
        before = describe(folder)
        edit_config(folder, without=("tie_word_embeddings", "n_inner"))
        assert describe(folder) == before
        load_model(folder)
    edit_config(tmp_path / "gpt2", n_inner=None)
    assert describe(tmp_path / "gpt2").intermediate_size == 128
    edit_config(tmp_path / "gpt2", without=("n_embd",))
    with pytest.raises(ArchitectureError, match="n_embd must be given"):
        describe(tmp_path / "gpt2")


def test_a_text_longer_than_the_learned_positions_is_refused(tmp_path):
    folder = tiny_model(tmp_path, "gpt2", layers=1, max_position_embeddings=8)
    model = load_model(folder)
    good, long = (TokenisedExample((5,) * n, (5,) * n) for n in (8, 9))
    accumulate(model, [good])
    with pytest.raises(DataError, match=r"Sample 1 has 9 tokens.*8 positions"):
        accumulate(model, [good, long])
    partial = PartialResults(tmp_path / "w")
    given = {"student_folder": folder, "out_folder": tmp_path / "o", "partial": partial}
    transfer_start(folder, tmp_path / "start")
    with pytest.raises(DataError, match=r"Example 0 of the train split has 9 tokens.*8 positions"):
        finetune(start_folder=tmp_path / "start", train=[long], recipe=FineTuningRecipe(), **given)
    rotary = load_model(tiny_model(tmp_path / "llama", max_position_embeddings=8))
    assert accumulate(rotary, [long])


def test_options_of_a_family_reach_its_class_and_are_checked(tmp_path):
    folder = tiny_model(tmp_path, "gemma3_text", tied=True, query_pre_attn_scalar=16)
    expected = logits(load_model(folder))
    edit_config(folder, query_pre_attn_scalar=64)
    assert not torch.allclose(logits(load_model(folder)), expected, atol=1e-3)
    edit_config(folder, query_pre_attn_scalar=16, final_logit_softcapping=0.01)
    assert logits(load_model(folder)).abs().max() <= 0.01
    edit_config(folder, final_logit_softcapping="high")
    with pytest.raises(ArchitectureError, match=r'final_logit_softcapping is "high"'):
        describe(folder)
    edit_config(folder, final_logit_softcapping=None, rope_parameters={"full_attention": {"a": {}}})
    with pytest.raises(ArchitectureError, match="one such object for each of"):
        describe(folder)


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("gpt2", {"add_cross_attention": True}, ["cross-attention", "gpt2"]),
        ("gpt2", {"n_layer": 10**7}, ["n_layer is 10000000", "1..1024"]),
        ("gpt2", {"n_embd": 3}, ["n_embd 3 is too small for 4 heads"]),
        ("gpt_neox", {"hidden_size": 3}, ["hidden_size 3 is too small for 4 heads"]),
        ("phi3", {"model_type": "phimoe"}, ["mixture of experts"]),
        ("phi3", {"quantization_config": {"bits": 4}}, ["quantised"]),
        ("gemma3_text", {"model_type": "gemma3"}, ["vision-language wrapper", "gemma3_text"]),
        ("gemma2", {"model_type": "t5gemma"}, ["encoder-decoder"]),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, family, changes, words):
    folder = tiny_model(tmp_path, family, layers=1)
    edit_config(folder, **changes)
    for refuse in (describe, load_model):
        with pytest.raises(ArchitectureError) as caught:
            refuse(folder)
        assert all(word in str(caught.value) for word in words)
