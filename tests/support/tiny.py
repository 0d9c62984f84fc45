"""Tiny random models of the real Transformers classes, built offline, with a tokenizer to match."""

from pathlib import Path
from typing import Any

import torch

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
DIGITS = tuple("0123456789")
FAMILIES = (
    *("llama", "mistral", "qwen2", "qwen3", "gemma2"),
    *("gemma3_text", "phi3", "olmo2", "gpt_neox", "gpt2"),
)
UNGATED = ("gpt_neox", "gpt2")
"""Families with as many key heads as heads, and no gate in their feed-forward block."""
_WIDE_HEADS = ("qwen3", "gemma2", "gemma3_text")
"""Families whose class would take a head width of 128 or more where the config names none."""


def tiny_words(vocab: int = 64) -> list[str]:
    """The whole vocabulary, row by row: special tokens, ten digits, then w0, w1, …"""
    fixed = [*SPECIAL, *DIGITS]
    return fixed + [f"w{i}" for i in range(vocab - len(fixed))]


def tiny_tokenizer(vocab: int = 64, *, bos: bool = True) -> Any:
    """A word-level fast tokenizer of `vocab` tokens; splits on white space, starts with <s>."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = {word: row for row, word in enumerate(tiny_words(vocab))}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    if bos:
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A", pair="<s> $A $B", special_tokens=[("<s>", words["<s>"])]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
        clean_up_tokenization_spaces=False,
    )


def tiny_examples(n: int, seed: int = 0, *, vocab: int = 64) -> list[tuple[str, str]]:
    """`n` different (prompt, answer) texts in the tiny vocabulary; a prompt ends with a space."""
    generator = torch.Generator().manual_seed(seed)
    words = tiny_words(vocab)[len(SPECIAL) :]

    def text(low: int, high: int) -> str:
        size = int(torch.randint(low, high, (1,), generator=generator))
        rows = torch.randint(len(words), (size,), generator=generator)
        return " ".join(words[row] for row in rows.tolist())

    pairs: dict[tuple[str, str], None] = {}
    while len(pairs) < n:
        pairs[(text(3, 9) + " ", text(1, 5))] = None
    return list(pairs)


def tiny_config(family: str, **changes: Any) -> Any:
    """The family's own config class with small sizes; `changes` are its own field names."""
    from transformers import AutoConfig

    fields: dict[str, Any] = {
        "hidden_size": 32,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "intermediate_size": 64,
        "vocab_size": 64,
        "tie_word_embeddings": False,
        "max_position_embeddings": 256,
        "initializer_range": 0.1,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 2,
    }
    if family in _WIDE_HEADS:
        fields["head_dim"] = 8
    fields |= changes
    if family in UNGATED:
        del fields["num_key_value_heads"]
    if family == "gpt2":  # its class has no other name for it, and four for the other sizes
        fields["n_inner"] = fields.pop("intermediate_size")
    return AutoConfig.for_model(family, **fields)


def tiny_model(
    folder: Path,
    family: str = "llama",
    *,
    hidden: int = 32,
    layers: int = 3,
    heads: int = 4,
    kv_heads: int = 2,
    ffn: int = 64,
    vocab: int = 64,
    tied: bool = False,
    dtype: torch.dtype = torch.float32,
    seed: int = 0,
    max_shard_size: str | None = None,
    head_dim: int | None = None,
    **changes: Any,
) -> Path:
    """Write config, safetensors (and index if sharded) and tokenizer; the same bytes each time."""
    from transformers import AutoModelForCausalLM

    own_width = head_dim or family in _WIDE_HEADS
    width = {"head_dim": head_dim or hidden // heads} if own_width else {}
    config = tiny_config(
        family,
        hidden_size=hidden,
        num_hidden_layers=layers,
        num_attention_heads=heads,
        num_key_value_heads=kv_heads,
        intermediate_size=ffn,
        vocab_size=vocab,
        tie_word_embeddings=tied,
        **width | changes,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(config)
        with torch.no_grad():
            for parameter in model.parameters():  # norms of 1 and biases of 0 would hide mistakes
                if parameter.dim() == 1:
                    parameter.add_(0.1 * torch.randn_like(parameter))
    folder = Path(folder)
    sharding = {"max_shard_size": max_shard_size} if max_shard_size else {}
    model.to(dtype).save_pretrained(folder, **sharding)
    tiny_tokenizer(vocab).save_pretrained(folder)
    return folder


def tiny_samples(n: int = 5, seed: int = 0, *, vocab: int = 64) -> list[Any]:
    """`n` tokenised examples of random tokens, with a loss on the later part of each."""
    from paraknow_core.data.examples import NO_LOSS, TokenisedExample

    generator = torch.Generator().manual_seed(seed)

    def one() -> Any:
        size = int(torch.randint(4, 20, (1,), generator=generator))
        prompt = int(torch.randint(1, size - 1, (1,), generator=generator))
        ids = tuple(torch.randint(vocab, (size,), generator=generator).tolist())
        return TokenisedExample(ids, (NO_LOSS,) * prompt + ids[prompt:])

    return [one() for _ in range(n)]
