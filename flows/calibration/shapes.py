"""Pairs of small random models, with rows to match, on which steps are measured."""

import itertools
import json
import random
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

_SPECIAL: Final = ("<pad>", "<s>", "</s>", "<unk>")
_LETTERS: Final = "0123456789abcdefghijklmnopqrstuvwxyz"
_HEAD: Final = 32
_FFN: Final = 2.75  # of the width, as in Llama
ANSWER: Final = 8
"""Tokens that are generated for a test row; the random models never end an answer themselves."""


@dataclass(frozen=True)
class Shape:
    """What the cost of a step depends on.

    Attributes:
        width: of the teacher; the student has half of it.
        layers: of the teacher; the student has half of them.
        tokens: of a row, a quarter of them the answer.
        samples: seeds; there are twice as many rows to train on, and to test on.
        rank: of the adapter, and of the decomposition.
        vocabulary: tokens of both models.
    """

    width: int = 256
    layers: int = 4
    tokens: int = 64
    samples: int = 16
    rank: int = 8
    vocabulary: int = 4096


AXES: Final[Mapping[str, tuple[int, ...]]] = {
    "width": (128, 256, 384, 512),
    "layers": (2, 4, 8, 16),
    "tokens": (32, 64, 128, 256),
    "samples": (8, 16, 32, 64),
    "rank": (4, 8, 16, 32),
    "vocabulary": (1024, 4096, 16_384, 32_768),
}
"""What is varied, one at a time, while everything else stays as in ``Shape()``."""

UNSEEN: Final = (
    Shape(width=448, layers=6, tokens=96, samples=24, rank=16, vocabulary=8192),
    Shape(width=320, layers=12, tokens=192, samples=20, rank=12, vocabulary=12_288),
)
"""Shapes that lie on no axis: a law that was fitted on the axes says what they take."""


def along(axis: str) -> list[Shape]:
    """Return the shapes that differ in this alone."""
    return [replace(Shape(), **{axis: value}) for value in AXES[axis]]


def all_shapes() -> list[Shape]:
    """Return every shape of the axes once, the small ones first."""
    found = {shape for axis in AXES for shape in along(axis)}
    return sorted(found, key=lambda shape: tuple(asdict(shape).values()))


def settings_of(shape: Shape, folder: Path, run: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """Write a pair and its rows into a folder, and return the settings of its transfer.

    Args:
        shape: of the pair.
        folder: which there is; it gets ``teacher``, ``student`` and ``rows.jsonl``.
        run: store, device and threads.
        dtype: that models are computed in.
    """
    _write_model(folder / "teacher", shape, shape.width, shape.layers)
    _write_model(folder / "student", shape, shape.width // 2, max(shape.layers // 2, 1))
    sizes = {
        "seeds": shape.samples,
        "train": 2 * shape.samples,
        "validation": 4,
        "test": 2 * shape.samples,
    }
    _write_rows(folder / "rows.jsonl", shape, sum(sizes.values()))
    compute = {"compute_dtype": dtype}
    return {
        "name": "measured",
        "teacher": {"model": str(folder / "teacher")},
        "student": {"model": str(folder / "student")},
        "data": {
            "rows": {"path": str(folder / "rows.jsonl")},
            "template": "none",
            "sizes": sizes,
        },
        "sensitivity": compute,
        "decompose": {"max_rank": shape.rank},
        "lora": {"rank": shape.rank, "alpha": shape.rank},
        "finetune": {"batch_size": 8, "epochs": 1} | compute,
        "evaluate": {"max_new_tokens": ANSWER, "batch_size": 8} | compute,
        "arms": ["transfer"],
        "run": dict(run),
    }


def _write_model(folder: Path, shape: Shape, width: int, layers: int) -> None:
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM
    from transformers.utils import logging as untyped

    logging: Any = untyped
    logging.disable_progress_bar()
    config = LlamaConfig(
        hidden_size=width,
        intermediate_size=int(_FFN * width),
        num_hidden_layers=layers,
        num_attention_heads=width // _HEAD,
        num_key_value_heads=width // _HEAD,
        vocab_size=shape.vocabulary,
        max_position_embeddings=2 * shape.tokens + ANSWER,
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    with torch.random.fork_rng():
        torch.manual_seed(width + layers)
        model: Any = LlamaForCausalLM(config)
    model.save_pretrained(folder)
    tokenizer_of(shape.vocabulary).save_pretrained(folder)


def words_of(vocabulary: int) -> list[str]:
    """Return words of three letters, with a space as long as an estimate's token; 46,656 at most.

    Args:
        vocabulary: how many tokens there are, special ones and words.
    """
    of_three = map("".join, itertools.product(_LETTERS, repeat=3))
    return list(itertools.islice(of_three, vocabulary - len(_SPECIAL)))


def tokenizer_of(vocabulary: int) -> Any:
    """Return a tokenizer of as many tokens: the special ones, and a word of `words_of` each."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast as Untyped

    rows = {word: row for row, word in enumerate((*_SPECIAL, *words_of(vocabulary)))}
    tokenizer = Tokenizer(models.WordLevel(rows, unk_token=_SPECIAL[-1]))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    fast: Any = Untyped
    return fast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        **dict(zip(("pad_token", "bos_token", "eos_token", "unk_token"), _SPECIAL, strict=True)),
    )


def _write_rows(path: Path, shape: Shape, count: int) -> None:
    draw, words = random.Random(0), words_of(shape.vocabulary)  # noqa: S311
    answer = shape.tokens // 4
    lines = []
    for _ in range(count):
        row = draw.choices(words, k=shape.tokens)
        texts = {"prompt": " ".join(row[:-answer]) + " ", "answer": " ".join(row[-answer:])}
        lines.append(json.dumps(texts) + "\n")
    path.write_text("".join(lines), encoding="utf-8")
