"""GGUF files as plain models: the same numbers as by an obvious loop, the same logits."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from support.gguf_files import ARCHITECTURES, converted, gguf_name, write_gguf
from support.tiny import tiny_model, tiny_tokenizer, tiny_words
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast

from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.dequantisation.gguf_model import GgufModel
from paraknow_core.dequantisation.write import QUANTISATION, write_plain_model
from paraknow_core.errors import ArchitectureError, CheckpointError, TokenizerError
from paraknow_core.models.describe import describe
from paraknow_core.models.load import load_model, load_tokenizer

gguf = pytest.importorskip("gguf")


def written(folder: Path, tmp_path: Path, quantisation: str = "F32", **options: object) -> Path:
    """The GGUF file of a model folder, with a tokenizer beside it."""
    place = tmp_path / "gguf"
    place.mkdir()
    tiny_tokenizer().save_pretrained(place)
    return write_gguf(place / "model.gguf", folder, quantisation, **options)


def logits(folder: Path) -> torch.Tensor:
    ids = torch.arange(4, 44).view(2, 20)
    with torch.no_grad():
        return load_model(folder)(ids).logits


@pytest.mark.parametrize("family", sorted(ARCHITECTURES))
def test_a_family_computes_what_the_original_does(tmp_path: Path, family: str) -> None:
    gemma = {"query_pre_attn_scalar": 8, "tied": True} if family.startswith("gemma") else {}
    folder = tiny_model(tmp_path / "plain", family, **gemma)
    model = GgufModel(written(folder, tmp_path))
    write_plain_model(model, tmp_path / "out", dtype="float32")
    with Checkpoint(folder) as original, Checkpoint(tmp_path / "out") as made:
        for tensor in describe(folder).tensors:
            one, other = original.read(tensor.name), made.read(tensor.parameter)
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)  # Gemma's norms: w + 1 − 1
    torch.testing.assert_close(logits(folder), logits(tmp_path / "out"), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("quantisation", ["F16", "BF16", "Q8_0", "Q4_0", "Q5_1"])
def test_numbers_are_those_of_an_obvious_loop(tmp_path: Path, quantisation: str) -> None:
    folder = tiny_model(tmp_path / "plain")
    path = written(folder, tmp_path, quantisation)
    model = GgufModel(path)
    write_plain_model(model, tmp_path / "out", dtype="float32", shard_bytes=9000)
    reader = gguf.GGUFReader(path)
    stored = {t.name: gguf.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    assert len(list((tmp_path / "out").glob("model-*.safetensors"))) > 3
    with Checkpoint(tmp_path / "out") as made:
        for tensor in describe(tmp_path / "out").tensors:
            name = gguf_name("llama", tensor.parameter)
            again = converted("llama", name, made.read(tensor.parameter).numpy(), 4, 2)
            assert np.array_equal(again, stored[name]), name
    said = json.loads((tmp_path / "out" / QUANTISATION).read_text())
    assert said["types"]["model.layers.1.mlp.up_proj.weight"] == quantisation
    assert said["types"]["model.norm.weight"] == "F32"
    assert said["counts"] == {quantisation: 23, "F32": 7}


K_QUANTS = {"Q2_K": (80, 82), "Q3_K": (108,), "Q4_K": (0, 2), "Q5_K": (0, 2), "Q6_K": (208,)}
"""Type → where in a block its float16 scales stand (ggml-common.h)."""


@pytest.mark.parametrize("quantisation", sorted(K_QUANTS))
def test_k_quants_are_read_as_the_library_reads_them(tmp_path: Path, quantisation: str) -> None:
    """The library cannot write these, so the blocks are random bytes with small scales."""
    kind = gguf.GGMLQuantizationType[quantisation]
    size = gguf.GGML_QUANT_SIZES[kind][1]
    blocks = np.random.default_rng(1).integers(0, 256, (256, size), dtype=np.uint8)
    for place in K_QUANTS[quantisation]:
        scale = np.array([0.01], dtype=np.float16).view(np.uint8)
        blocks[:, place : place + 2] = scale
    folder = tiny_model(tmp_path / "plain", hidden=256, ffn=256, heads=4, kv_heads=2, layers=1)

    def packed(writer: object) -> None:
        name = "blk.0.ffn_up.weight"
        for tensors in writer.tensors:
            del tensors[name]
        writer.add_tensor(name, blocks, raw_dtype=kind)

    model = GgufModel(written(folder, tmp_path, change=packed))
    found = model.read("model.layers.0.mlp.up_proj.weight").numpy()
    assert model.types["model.layers.0.mlp.up_proj.weight"] == quantisation
    assert np.array_equal(found, gguf.dequantize(blocks, kind))
    assert 0 < np.abs(found).max() < 100


def test_llama_3s_positions_are_told_by_the_files_factors(tmp_path: Path) -> None:
    rope = {"factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0}
    rope |= {"rope_type": "llama3", "original_max_position_embeddings": 8192}
    folder = tiny_model(tmp_path / "plain", rope_parameters=rope | {"rope_theta": 500000.0})
    factors = []
    for pair in range(4):  # the converter's own loop
        wavelength = 2 * math.pi * 500000.0 ** (2 * pair / 8)
        smooth = min(1, max(0, (8192 / wavelength - 1) / (4 - 1)))
        factors.append(1 / ((1 - smooth) / 8 + smooth))
    extra = {"rope_freqs.weight": np.array(factors, dtype=np.float32)}
    model = GgufModel(written(folder, tmp_path, extra=extra))
    write_plain_model(model, tmp_path / "out", dtype="float32")
    torch.testing.assert_close(logits(folder), logits(tmp_path / "out"), rtol=1e-5, atol=1e-5)
    other = {"rope_freqs.weight": np.array(factors, dtype=np.float32) + 0.1}
    (tmp_path / "other").mkdir()
    with pytest.raises(ArchitectureError, match=r"other factors than the rule of Llama 3\.1"):
        GgufModel(write_gguf(tmp_path / "other" / "m.gguf", folder, extra=other))


def test_a_tokenizer_is_made_of_the_files_own(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "plain")
    words = ["a", "b", "ab", *tiny_words(61)]
    words[0:7] = [*words[3:7], *words[0:3]]
    model = GgufModel(write_gguf(tmp_path / "m.gguf", folder, words=words))
    write_plain_model(model, tmp_path / "out", dtype="bfloat16")
    tokenizer = load_tokenizer(tmp_path / "out")
    assert tokenizer("abb</s>")["input_ids"] == [6, 5, 2]
    assert tokenizer.eos_token == "</s>"
    assert describe(tmp_path / "out").tensors[0].dtype == "BF16"
    (tmp_path / "new").mkdir()
    unknown = GgufModel(write_gguf(tmp_path / "new" / "m.gguf", folder, pre="of-next-year"))
    with pytest.raises(TokenizerError, match=r"'of-next-year'.*tokenizer\.json .* beside the file"):
        unknown.write_tokenizer(tmp_path)


def test_what_is_damaged_or_strange_is_refused_by_name(tmp_path: Path) -> None:
    folder = tiny_model(tmp_path / "plain")
    path = written(folder, tmp_path)
    whole = path.read_bytes()

    def refused(data: bytes, error: type[Exception], match: str) -> None:
        path.write_bytes(data)
        with pytest.raises(error, match=match):
            write_plain_model(GgufModel(path), tmp_path / "out", dtype="float32")

    refused(whole[: len(whole) // 2], CheckpointError, "Is the download complete")
    refused(b"GGML" + whole[4:], CheckpointError, "cannot be read as GGUF .*magic")
    refused(whole.replace(b"blk.1.ffn_up", b"blk.1.ffn_xx"), CheckpointError, "lacks blk.1.ffn_up")
    other = whole.replace(b"\x05\0\0\0\0\0\0\0llama", b"\x05\0\0\0\0\0\0\0rwkv7")
    refused(other, ArchitectureError, "architecture 'rwkv7'.* original's safetensors")

    def changed(change: object, **more: object) -> bytes:
        return write_gguf(tmp_path / "x.gguf", folder, change=change, **more).read_bytes()

    experts = changed(lambda writer: writer.add_expert_count(8))
    refused(experts, ArchitectureError, "mixture of experts")
    turned = changed(lambda w: w.add_rope_scaling_type(gguf.RopeScalingType.LONGROPE))
    refused(turned, ArchitectureError, "positions are scaled by 'longrope'")
    infinite = np.full((64, 32), np.inf, dtype=np.float32)
    endless = changed(None, extra={"blk.0.ffn_up.weight": infinite})
    refused(endless, CheckpointError, "up_proj.*stored as F32, is not finite")
    rows = {word: row for row, word in enumerate(reversed(tiny_words()))}
    other = Tokenizer(models.WordLevel(rows, unk_token="<unk>"))
    PreTrainedTokenizerFast(tokenizer_object=other).save_pretrained(path.parent)
    refused(whole, TokenizerError, "belongs to another model")
