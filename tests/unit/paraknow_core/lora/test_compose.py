"""Start points put together by module."""

import pytest
import torch

from paraknow_core.errors import ConfigError
from paraknow_core.lora.adapter import Adapter, LoraFactors
from paraknow_core.lora.compose import compose


def start(value: float, modules: tuple[str, ...], **fields) -> Adapter:
    factors = {
        m: LoraFactors(torch.full((2, 3), value), torch.full((4, 2), value)) for m in modules
    }
    given = {"embeddings": frozenset({"embed"} & set(modules)), "rank": 2, "alpha": 4.0}
    return Adapter(factors, **(given | fields))


def test_each_module_starts_as_its_part_says():
    parts = {"novel": start(1.0, ("embed", "head")), "plain": start(2.0, ("embed", "up", "down"))}
    made = compose(parts, {"embed": "novel", "up": "plain", "head": "novel"})
    assert list(made.factors) == ["embed", "up", "head"]
    values = {module: float(pair.a[0, 0]) for module, pair in made.factors.items()}
    assert values == {"embed": 1.0, "up": 2.0, "head": 1.0}
    assert (made.rank, made.alpha, made.embeddings) == (2, 4.0, {"embed"})
    assert made.tied_head is None


def test_a_tied_head_comes_with_the_part_of_the_embedding():
    tied = start(1.0, ("embed",), tied_head="lm_head")
    others = start(2.0, ("up",), fan_in_fan_out=True)
    made = compose({"a": tied, "b": others}, {"embed": "a", "up": "b"})
    assert (made.tied_head, made.fan_in_fan_out) == ("lm_head", True)
    assert compose({"a": tied, "b": others}, {"up": "b"}).tied_head is None


def test_what_does_not_go_together_is_refused():
    with pytest.raises(ConfigError, match="a: rank 2, alpha 4, b: rank 2, alpha 8"):
        compose({"a": start(1.0, ("up",)), "b": start(1.0, ("up",), alpha=8.0)}, {"up": "a"})
    with pytest.raises(ConfigError, match="'a' has none for down"):
        compose({"a": start(1.0, ("up",))}, {"up": "a", "down": "a"})
