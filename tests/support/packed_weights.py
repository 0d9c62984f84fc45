"""Packed matrices made number by number, from the formats' descriptions, with what they stand for.

Each function returns the tensors of one module by the ends of their names, and the M × N weight as
a loop over its numbers gives it, in float64.
"""

import json
import random
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from support.tiny import tiny_model
from torch import Tensor

Packed = tuple[dict[str, Tensor], Tensor]


def _int32(words: list[list[int]]) -> Tensor:
    signed = [[word - 2**32 if word >= 2**31 else word for word in row] for row in words]
    return torch.tensor(signed, dtype=torch.int32)


def _scales(draw: random.Random, rows: int, cols: int, dtype: torch.dtype) -> Tensor:
    made = [[0.001 + 0.02 * draw.random() for _ in range(cols)] for _ in range(rows)]
    return torch.tensor(made).to(dtype)


def gptq(
    draw: random.Random, out: int, inputs: int, *, bits: int, size: int, one: int, shuffled: bool
) -> Packed:
    """AutoGPTQ: words along the inputs; zeros along the outputs, less one in the first format."""
    most, each = 2**bits - 1, 32 // bits
    groups = [i // size for i in range(inputs)]
    if shuffled:
        draw.shuffle(groups)
    count = inputs // size
    q = [[draw.randint(0, most) for _ in range(out)] for _ in range(inputs)]
    zero = [[draw.randint(0, most) for _ in range(out)] for _ in range(count)]
    zero[0][0] = 0  # stored as the highest number where one is taken off
    scales = _scales(draw, count, out, torch.float16)
    qweight = [[0] * out for _ in range(inputs // each)]
    for i in range(inputs):
        for o in range(out):
            qweight[i // each][o] |= q[i][o] << (bits * (i % each))
    qzeros = [[0] * (out // each) for _ in range(count)]
    for g in range(count):
        for o in range(out):
            qzeros[g][o // each] |= ((zero[g][o] - one) & most) << (bits * (o % each))
    weight = torch.zeros(out, inputs, dtype=torch.float64)
    for i in range(inputs):
        for o in range(out):
            weight[o, i] = float(scales[groups[i], o]) * (q[i][o] - zero[groups[i]][o])
    tensors = {"qweight": _int32(qweight), "qzeros": _int32(qzeros), "scales": scales}
    if shuffled:
        tensors["g_idx"] = torch.tensor(groups, dtype=torch.int32)
    return tensors, weight


def awq(draw: random.Random, out: int, inputs: int, *, size: int) -> Packed:
    """AutoAWQ's gemm: eight columns a word, which take the places 0, 2, 4, 6, 1, 3, 5, 7."""
    order = (0, 2, 4, 6, 1, 3, 5, 7)
    count = inputs // size
    q = [[draw.randint(0, 15) for _ in range(out)] for _ in range(inputs)]
    zero = [[draw.randint(0, 15) for _ in range(out)] for _ in range(count)]
    scales = _scales(draw, count, out, torch.float16)

    def packed(rows: list[list[int]]) -> Tensor:
        words = [[0] * (out // 8) for _ in rows]
        for r, row in enumerate(rows):
            for word in range(out // 8):
                for place, column in enumerate(order):
                    words[r][word] |= row[8 * word + column] << (4 * place)
        return _int32(words)

    weight = torch.zeros(out, inputs, dtype=torch.float64)
    for i in range(inputs):
        for o in range(out):
            weight[o, i] = float(scales[i // size, o]) * (q[i][o] - zero[i // size][o])
    return {"qweight": packed(q), "qzeros": packed(zero), "scales": scales}, weight


def four_bit(draw: random.Random, out: int, inputs: int, *, kind: str, nested: bool) -> Packed:
    """bitsandbytes: two numbers a byte, the first above; maxima of 64, perhaps packed in turn."""
    table = sorted(draw.uniform(-1, 1) for _ in range(16))
    count = out * inputs
    codes = [draw.randint(0, 15) for _ in range(count)]
    blocks = count // 64
    said = {"quant_type": kind, "blocksize": 64, "dtype": "bfloat16", "shape": [out, inputs]}
    tensors = {
        "weight": torch.tensor(
            [[codes[i] * 16 + codes[i + 1]] for i in range(0, count, 2)], dtype=torch.uint8
        ),
        "weight.quant_map": torch.tensor(table, dtype=torch.float32),
    }
    if nested:
        inner = sorted(draw.uniform(-1, 1) for _ in range(256))
        bytes_ = [draw.randint(0, 255) for _ in range(blocks)]
        outer = [draw.random() for _ in range(-(-blocks // 16))]
        said |= {"nested_blocksize": 16, "nested_dtype": "float32", "nested_offset": 0.25}
        tensors["weight.absmax"] = torch.tensor(bytes_, dtype=torch.uint8)
        tensors["weight.nested_absmax"] = torch.tensor(outer)
        tensors["weight.nested_quant_map"] = torch.tensor(inner)
        absmax = [inner[bytes_[b]] * outer[b // 16] + 0.25 for b in range(blocks)]
    else:
        absmax = [draw.random() for _ in range(blocks)]
        tensors["weight.absmax"] = torch.tensor(absmax)
    state = list(json.dumps(said).encode())
    tensors[f"weight.quant_state.bitsandbytes__{kind}"] = torch.tensor(state, dtype=torch.uint8)
    numbers = [table[codes[i]] * absmax[i // 64] for i in range(count)]
    return tensors, torch.tensor(numbers, dtype=torch.float64).view(out, inputs)


def int8_rows(draw: random.Random, out: int, inputs: int) -> Packed:
    """bitsandbytes: the largest of each row is 127."""
    q = [[draw.randint(-127, 127) for _ in range(inputs)] for _ in range(out)]
    most = [draw.random() for _ in range(out)]
    weight = [[q[o][i] * most[o] / 127 for i in range(inputs)] for o in range(out)]
    tensors = {"weight": torch.tensor(q, dtype=torch.int8), "SCB": torch.tensor(most)}
    tensors["weight_format"] = torch.tensor(0, dtype=torch.uint8)
    return tensors, torch.tensor(weight, dtype=torch.float64)


def float8(draw: random.Random, out: int, inputs: int, *, block: tuple[int, int]) -> Packed:
    """DeepSeek's: a scale for each rectangle, the last ones cut off."""
    rows, cols = -(-out // block[0]), -(-inputs // block[1])
    raw = torch.tensor([[draw.gauss(0, 1) for _ in range(inputs)] for _ in range(out)])
    numbers, scales = raw.to(torch.float8_e4m3fn), _scales(draw, rows, cols, torch.float32)
    weight = torch.zeros(out, inputs, dtype=torch.float64)
    for o in range(out):
        for i in range(inputs):
            weight[o, i] = float(numbers[o, i]) * float(scales[o // block[0], i // block[1]])
    return {"weight": numbers, "weight_scale_inv": scales}, weight


def compressed(draw: random.Random, out: int, inputs: int, *, bits: int, size: int) -> Packed:
    """compressed-tensors' pack-quantized: words along the inputs, numbers moved up by half."""
    each, half = 32 // bits, 2 ** (bits - 1)
    q = [[draw.randint(-half, half - 1) for _ in range(inputs)] for _ in range(out)]
    scales = _scales(draw, out, inputs // size, torch.bfloat16)
    words = [[0] * (inputs // each) for _ in range(out)]
    weight = torch.zeros(out, inputs, dtype=torch.float64)
    for o in range(out):
        for i in range(inputs):
            words[o][i // each] |= (q[o][i] + half) << (bits * (i % each))
            weight[o, i] = q[o][i] * float(scales[o, i // size])
    tensors = {"weight_packed": _int32(words), "weight_scale": scales}
    return tensors | {"weight_shape": torch.tensor([out, inputs])}, weight


def by_rows(draw: random.Random, out: int, inputs: int) -> Packed:
    """compressed-tensors' int-quantized by channel."""
    tensors, weight = int8_rows(draw, out, inputs)
    scales = (tensors["SCB"] / 127).view(-1, 1)
    return {"weight": tensors["weight"], "weight_scale": scales}, weight


Packer = Callable[[random.Random, int, int], Packed]


def groups(**weights: Any) -> dict[str, Any]:
    return {"group_0": {"targets": ["Linear"], "weights": {"symmetric": True, **weights}}}


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 16, "desc_act": True}
AWQ = {"quant_method": "awq", "bits": 4, "group_size": 16, "version": "gemm"}
BNB = {"quant_method": "bitsandbytes", "load_in_4bit": True}
FP8 = {"quant_method": "fp8", "weight_block_size": [24, 20]}
PACKED = {"quant_method": "compressed-tensors", "format": "pack-quantized"}

CASES: dict[str, tuple[dict[str, Any], Packer]] = {
    "GPTQ 4 bit": (GPTQ, partial(gptq, bits=4, size=16, one=1, shuffled=True)),
    "GPTQ 8 bit": (GPTQ | {"bits": 8}, partial(gptq, bits=8, size=16, one=1, shuffled=False)),
    "GPTQ 2 bit": (
        GPTQ | {"bits": 2, "checkpoint_format": "gptq_v2"},
        partial(gptq, bits=2, size=16, one=0, shuffled=True),
    ),
    "AWQ 4 bit": (AWQ, partial(awq, size=16)),
    "bitsandbytes nf4": (BNB, partial(four_bit, kind="nf4", nested=True)),
    "bitsandbytes fp4": (BNB, partial(four_bit, kind="fp4", nested=False)),
    "bitsandbytes int8": ({"quant_method": "bitsandbytes", "load_in_8bit": True}, int8_rows),
    "float8": (FP8, partial(float8, block=(24, 20))),
    "pack-quantized 4 bit": (
        PACKED | {"config_groups": groups(num_bits=4, strategy="group", group_size=16)},
        partial(compressed, bits=4, size=16),
    ),
    "int-quantized 8 bit": (
        {
            "quant_method": "compressed-tensors",
            "format": "int-quantized",
            "config_groups": groups(num_bits=8, strategy="channel"),
        },
        by_rows,
    ),
}


def packed_model(
    folder: Path, said: dict[str, Any], pack: Packer, *, layers: int = 1
) -> dict[str, torch.Tensor]:
    """Pack every matrix of the layers; returns parameter → what it stands for."""
    tiny_model(folder, "qwen2", layers=layers, dtype=torch.float16)
    weights = load_file(folder / "model.safetensors")
    draw, expected = random.Random(3), {}
    for name, weight in list(weights.items()):
        if "_proj.weight" in name:
            tensors, expected[name] = pack(draw, *weight.shape)
            del weights[name]
            weights |= {name.removesuffix("weight") + end: t for end, t in tensors.items()}
        else:
            expected[name] = weight.double()
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    write_config(folder, quantization_config=said)
    return expected


def write_config(folder: Path, **changes: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))
