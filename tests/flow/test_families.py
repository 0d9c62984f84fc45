"""The whole way with a teacher and a student of two families, both with fused projections."""

import json
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from safetensors.torch import load_file
from support.pair import pair_settings, write_rows
from support.tiny import tiny_model
from transformers import AutoModelForCausalLM

from flows.config.transfer import TransferConfig
from flows.transfer import transfer
from paraknow_core.lora.anchored_model import quiet_peft

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]


def test_gpt_neox_teaches_gpt2(tmp_path: Path) -> None:
    folder = tmp_path / "pair"
    tiny_model(folder / "teacher", "gpt_neox", hidden=48, layers=3, ffn=96, seed=1)
    tiny_model(folder / "student", "gpt2", layers=2, tied=True, seed=2)
    write_rows(folder / "rows.jsonl")
    result = transfer(TransferConfig.model_validate(pair_settings(folder, tmp_path / "store")))
    folders = {step.name: Path(step.folder) for step in result.steps}
    factors = load_file(folders["decompose"] / "factors.safetensors")
    assert {name.rpartition(".")[0] for name in factors} == {"transformer.wte"} | {
        f"transformer.h.{layer}.{module}"
        for layer in range(2)
        for module in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")
    }
    roles = json.loads((folders["sensitivity"] / "layer_sums.json").read_text())["roles"]
    assert list(roles) == ["q", "k", "v", "o", "up", "down", "norm", "bias"]
    plain = AutoModelForCausalLM.from_pretrained(folder / "student").eval()
    ids = torch.tensor([[1, 7, 9, 11, 13]])
    with torch.no_grad(), quiet_peft():
        before = plain(ids).logits
        after = PeftModel.from_pretrained(plain, folders["finetune transfer"])(ids).logits
    assert 0 < float((after - before).abs().max()) < 10
