"""Start points and token examples for tiny students."""

import random
from pathlib import Path

import torch

from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.lora.adapter import Adapter
from paraknow_core.lora.start_point import start_factors, write_start
from paraknow_core.models.describe import Role, describe


def transfer_start(
    student: Path, folder: Path, *, rank: int = 4, alpha: float = 8.0, seed: int = 0
) -> Adapter:
    """A start point of every matrix of a student, cut from random matrices of its size."""
    architecture = describe(student)
    generator = torch.Generator().manual_seed(seed)
    factors = {}
    for module, (matrix, *_) in architecture.modules(architecture.roles).items():
        weight = 0.1 * torch.randn(matrix.whole, generator=generator)
        u, s, vh = torch.linalg.svd(weight, full_matrices=False)
        factors[module] = start_factors(u, s, vh, rank=rank, alpha=alpha)
    return write_start(
        folder,
        factors=factors,
        embeddings=[architecture.module_of(Role.EMBED, None)],
        rank=rank,
        alpha=alpha,
        tied_head=architecture.module_of(Role.HEAD, None) if architecture.tied else None,
        fan_in_fan_out=architecture.is_transposed(factors),
    )


def token_examples(n: int, seed: int = 0, *, vocab: int = 64) -> list[TokenisedExample]:
    """Examples of 4 to 12 random tokens, the last one to three of which are the answer."""
    source = random.Random(seed)
    examples = []
    for _ in range(n):
        ids = tuple(source.randrange(4, vocab) for _ in range(source.randint(4, 12)))
        answer = source.randint(1, 3)
        examples.append(TokenisedExample(ids, (NO_LOSS,) * (len(ids) - answer) + ids[-answer:]))
    return examples
