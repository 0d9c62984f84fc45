"""Answers measured with logits in chunks, against the harness's whole ones."""

from typing import Any

import pytest
import torch
from support.tiny import tiny_config, tiny_examples, tiny_tokenizer

from paraknow_core.data import Example
from paraknow_core.evaluation.evaluate import evaluate
from paraknow_core.lora.anchored_model import quiet_peft
from paraknow_core.models import logit_chunks

EXAMPLES = [Example(f"r{i}", *pair) for i, pair in enumerate(tiny_examples(9))]
FEW = 64 * 3


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_items_are_those_of_the_harness(monkeypatch: pytest.MonkeyPatch, family: str) -> None:
    """Of a model whose head has an adapter as well."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM

    with torch.random.fork_rng(), quiet_peft():
        torch.manual_seed(0)
        config = tiny_config(family, tie_word_embeddings=False)
        base: Any = AutoModelForCausalLM.from_config(config)
        base.config.use_cache = False
        model = get_peft_model(
            base, LoraConfig(r=2, target_modules=["lm_head"], init_lora_weights=False)
        ).eval()
    seen: list[tuple[int, int]] = []
    sizes: list[int] = []
    model.get_output_embeddings().register_forward_hook(
        lambda _module, _inputs, output: sizes.append(output.numel())
    )

    def measured() -> Any:
        seen.clear()
        sizes.clear()
        return evaluate(
            model,
            tiny_tokenizer(),
            EXAMPLES,
            max_new_tokens=1,
            batch_size=4,
            progress=lambda done, total, _: seen.append((done, total)),
        )

    whole, told = measured(), list(seen)
    assert max(sizes) > FEW
    monkeypatch.setattr(logit_chunks, "CHUNK_ELEMENTS", FEW)
    found = measured()
    assert seen == told
    assert max(sizes) <= 4 * 64  # of generation: one place of each row
    for one, other in zip(found.items, whole.items, strict=True):
        assert one.nll == pytest.approx(other.nll, rel=1e-5)
        assert (one.id, one.tokens, one.generated) == (other.id, other.tokens, other.generated)
