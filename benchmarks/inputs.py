"""Random models, samples, maps and matrices to measure on, the same every time."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from paraknow_core.data.examples import NO_LOSS, TokenisedExample

VOCABULARY = 2048
RANK, LARGEST_RANK = 16, 32  # the largest is what a decomposition takes by default
SAMPLES, TOKENS, LOSS_TOKENS = 32, 5479, 2569  # a set of 32 grade-school maths seeds


@dataclass(frozen=True)
class Size:
    """One decoder: width, feed-forward width, layers."""

    hidden: int
    ffn: int
    layers: int


@dataclass(frozen=True)
class Pair:
    """A teacher and a student; heads are 64 wide."""

    name: str
    teacher: Size
    student: Size


SMALL = Pair("small", Size(512, 1376, 8), Size(256, 688, 4))
MEDIUM = Pair("medium", Size(1024, 2752, 12), Size(768, 2064, 8))
TINY = Pair("tiny", Size(128, 352, 3), Size(64, 176, 2))


def model(size: Size, seed: int = 0, *, vocabulary: int = VOCABULARY) -> Any:
    """A Llama-style model with weights N(0, 0.02), float32, in evaluation mode."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(seed)
    config = LlamaConfig(
        hidden_size=size.hidden,
        intermediate_size=size.ffn,
        num_hidden_layers=size.layers,
        num_attention_heads=size.hidden // 64,
        num_key_value_heads=size.hidden // 64,
        vocab_size=vocabulary,
        tie_word_embeddings=False,
        initializer_range=0.02,
        use_cache=False,
    )
    found: Any = LlamaForCausalLM(config)
    return found.eval()


def _split(total: int, parts: int, least: int, generator: torch.Generator) -> list[int]:
    """Whole numbers of at least ``least``, spread like text lengths, that add up to ``total``."""
    weights = torch.exp(0.4 * torch.randn(parts, generator=generator))
    edges = (weights.cumsum(0) / weights.sum() * (total - least * parts)).round().long()
    return [least + int(size) for size in edges.diff(prepend=torch.zeros(1, dtype=torch.long))]


def samples(count: int = SAMPLES) -> list[TokenisedExample]:
    """Random tokens in realistic lengths: of 32, 5,479 tokens of which 2,569 bear loss."""
    generator = torch.Generator().manual_seed(1)
    answers = _split(LOSS_TOKENS, SAMPLES, 20, generator)
    prompts = _split(TOKENS - LOSS_TOKENS, SAMPLES, 20, generator)
    rows = []
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = torch.randint(VOCABULARY, (prompt + answer,), generator=generator).tolist()
        rows.append(TokenisedExample(tuple(ids), (NO_LOSS,) * prompt + tuple(ids[prompt:])))
    return rows[:count]


def sensitivity_map(rows: int, cols: int) -> Tensor:
    """|weight × gradient| with rows and columns of uneven importance, as real maps have."""
    generator = torch.Generator().manual_seed(2)
    scores = torch.randn((rows, cols), generator=generator).abs_()
    scores *= torch.exp(0.5 * torch.randn((rows, 1), generator=generator))
    scores *= torch.exp(0.5 * torch.randn((1, cols), generator=generator))
    return scores


def flat_matrix(rows: int, cols: int) -> Tensor:
    """N(0, 0.02): the flattest spectrum, the worst case for an iterative method."""
    return 0.02 * torch.randn((rows, cols), generator=torch.Generator().manual_seed(3))


def spiked_matrix(rows: int, cols: int) -> Tensor:
    """The same with 24 directions that stand out, the strongest ten times as large as the rest."""
    generator = torch.Generator().manual_seed(4)
    weight = flat_matrix(rows, cols)
    edge = 0.02 * (rows**0.5 + cols**0.5)  # σ₁ of the flat one
    u = torch.linalg.qr(torch.randn((rows, 24), generator=generator)).Q
    v = torch.linalg.qr(torch.randn((cols, 24), generator=generator)).Q
    return weight.addmm_(u * torch.linspace(10 * edge, 1.5 * edge, 24), v.T)


def power_matrix(rows: int, cols: int) -> Tensor:
    """σ falls as a power of its number, as trained weights do, above a floor of N(0, 0.005)."""
    generator = torch.Generator().manual_seed(5)
    count = min(rows, cols, 400)
    u = torch.linalg.qr(torch.randn((rows, count), generator=generator)).Q
    v = torch.linalg.qr(torch.randn((cols, count), generator=generator)).Q
    sigmas = 20 * torch.arange(1, count + 1) ** -0.7
    return flat_matrix(rows, cols).mul_(0.25).addmm_(u * sigmas, v.T)
