"""Models of random weights in the shapes of real ones, as folders of safetensors."""

import json
import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file


@dataclass(frozen=True)
class Shape:
    """A Llama's sizes."""

    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    vocabulary: int
    tied: bool = False

    @property
    def parameters(self) -> int:
        """How many it has."""
        return sum(rows * cols for part in self.parts() for rows, cols in part.values())

    @property
    def matrices(self) -> int:
        """How many parameters take part in the products of a token: all but the embedding's."""
        return self.parameters - (0 if self.tied else self.vocabulary * self.hidden)

    def parts(self) -> Iterator[dict[str, tuple[int, int]]]:
        """Tensor names and shapes, file by file; of a vector the second side is 1."""
        inner = self.hidden // self.heads * self.kv_heads
        sides = {
            "self_attn.q_proj": (self.hidden, self.hidden),
            "self_attn.k_proj": (inner, self.hidden),
            "self_attn.v_proj": (inner, self.hidden),
            "self_attn.o_proj": (self.hidden, self.hidden),
            "mlp.gate_proj": (self.ffn, self.hidden),
            "mlp.up_proj": (self.ffn, self.hidden),
            "mlp.down_proj": (self.hidden, self.ffn),
            "input_layernorm": (self.hidden, 1),
            "post_attention_layernorm": (self.hidden, 1),
        }
        for layer in range(self.layers):
            yield {f"model.layers.{layer}.{name}.weight": side for name, side in sides.items()}
        head = {} if self.tied else {"lm_head.weight": (self.vocabulary, self.hidden)}
        embedding = {"model.embed_tokens.weight": (self.vocabulary, self.hidden)}
        yield embedding | {"model.norm.weight": (self.hidden, 1)} | head

    def config(self) -> Any:
        """As Transformers has it."""
        from transformers import LlamaConfig

        return LlamaConfig(
            hidden_size=self.hidden,
            intermediate_size=self.ffn,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            vocab_size=self.vocabulary,
            max_position_embeddings=4096,
            tie_word_embeddings=self.tied,
            architectures=["LlamaForCausalLM"],
            dtype="bfloat16",
        )


SHAPES = {
    "1B": Shape(2048, 8192, 16, 32, 8, 128_256, tied=True),  # Llama-3.2-1B
    "7B": Shape(4096, 11_008, 32, 32, 32, 32_000),  # Llama-2-7B
    "13B": Shape(5120, 13_824, 40, 40, 40, 32_000),  # Llama-2-13B
    "half of 1B": Shape(1024, 4096, 8, 16, 4, 128_256, tied=True),
    "half of 7B": Shape(2048, 5504, 16, 16, 16, 32_000),
}
SMALLEST = {
    "1B": Shape(64, 128, 2, 4, 2, 512, tied=True),
    "7B": Shape(64, 128, 2, 4, 4, 512),
    "13B": Shape(96, 192, 3, 4, 4, 512),
    "half of 1B": Shape(32, 64, 1, 2, 1, 512, tied=True),
    "half of 7B": Shape(32, 64, 1, 2, 2, 512),
}
"""For machines without a GPU: the same code on next to nothing."""


def write(shape: Shape, folder: Path, device: str) -> int:
    """Draw weights N(0, 0.02) in bfloat16 on the device and write them, a file a layer.

    The files' pages are dropped from the cache of the system, so that reading them is reading.

    Returns:
        Bytes of the files.
    """
    folder.mkdir(parents=True)
    shape.config().save_pretrained(folder)
    parts = list(shape.parts())
    names = [f"model-{number:05d}-of-{len(parts):05d}.safetensors" for number in range(len(parts))]

    def one(number: int) -> int:
        generator = torch.Generator(device).manual_seed(number)
        tensors = {}
        for name, (rows, cols) in parts[number].items():
            if cols == 1:
                tensors[name] = torch.ones(rows, dtype=torch.bfloat16)
            else:
                drawn = torch.empty(rows, cols, dtype=torch.bfloat16, device=device)
                tensors[name] = drawn.normal_(0, 0.02, generator=generator).cpu()
        path = folder / names[number]
        save_file(tensors, path, metadata={"format": "pt"})
        _drop_pages(path)
        return path.stat().st_size

    with ThreadPoolExecutor(4) as pool:
        sizes = list(pool.map(one, range(len(parts))))
    where = {name: file for file, part in zip(names, parts, strict=True) for name in part}
    index = {"metadata": {"total_size": 2 * shape.parameters}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")
    return sum(sizes)


def _drop_pages(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
        if hasattr(os, "posix_fadvise"):
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def write_outline(shape: Shape, folder: Path) -> None:
    """Write a model of which only the shapes count: its file is a header and a hole."""
    folder.mkdir(parents=True)
    shape.config().save_pretrained(folder)
    header, end = {}, 0
    for part in shape.parts():
        for name, (rows, cols) in part.items():
            start, end = end, end + 2 * rows * cols
            sides = [rows] if cols == 1 else [rows, cols]
            header[name] = {"dtype": "BF16", "shape": sides, "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.truncate(8 + len(text) + end)
