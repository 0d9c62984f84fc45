"""A model that never learnt: the same config and tokenizer, other weights."""

from pathlib import Path

import pytest
import torch
from support.tiny import tiny_model

from paraknow_core.models.describe import describe
from paraknow_core.models.load import load_model, load_tokenizer
from paraknow_core.models.random_init import write_random_model


@pytest.mark.parametrize("tied", [False, True])
def test_sizes_and_tokenizer_stay_and_weights_are_new(tied: bool, tmp_path: Path) -> None:
    like = tiny_model(tmp_path / "like", "qwen3", tied=tied, dtype=torch.bfloat16)
    count = write_random_model(like, tmp_path / "made", seed=0)
    made, given = describe(tmp_path / "made"), describe(like)
    assert made == given
    assert count == given.num_parameters
    assert load_tokenizer(tmp_path / "made").get_vocab() == load_tokenizer(like).get_vocab()
    new, old = load_model(tmp_path / "made"), load_model(like)
    for name, weight in new.named_parameters():
        if weight.dim() == 2:
            assert not torch.equal(weight, old.get_parameter(name))
            assert float(weight.detach().std()) == pytest.approx(
                0.1, rel=0.2
            )  # the config's own spread
        else:
            assert torch.equal(weight, torch.ones_like(weight))


def test_a_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    like = tiny_model(tmp_path / "like")
    state = torch.random.get_rng_state()
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        write_random_model(like, tmp_path / name, seed=seed)
    a, b, c = ((tmp_path / n / "model.safetensors").read_bytes() for n in "abc")
    assert a == b != c
    assert torch.equal(torch.random.get_rng_state(), state)
