"""From a teacher to what its tokens distinguish and the student's cannot, and its controls."""

from collections.abc import Mapping
from typing import Any

from flows.graph.cuts import teacher_of
from flows.graph.pair import ModelPair
from flows.graph.runner import Handle
from paraknow_core.methods import METHODS
from tasks.starts.lora import lora
from tasks.starts.novel_tokens import NovelTokensConfig, novel_tokens

_TAKEN_AWAY: Mapping[str, Mapping[str, Any]] = {
    "random": {"directions": "random"},
    "top": {"directions": "top"},
    "shuffled": {"shuffle": True},
}
"""What a control changes in the step's settings, by ``Method.replacement``; others nothing."""


def novel_factors(method: str, pair: ModelPair, *, seed: int) -> Handle:
    """Run the steps from a teacher to the directions of token space that are taken of it."""
    known, config = METHODS[method], pair.config
    change = _TAKEN_AWAY.get(known.replacement, {})
    wanted = NovelTokensConfig.model_validate(
        {
            **config.novel.model_dump(),
            **change,
            "roles": [role for role in config.extract.roles if role in known.covers],
            "max_rank": config.decompose.max_rank,
            "min_vocabulary_share": config.extract.min_vocabulary_share,
            "seed": seed if change else 0,
        }
    )
    given = {"teacher": teacher_of(known, pair, seed=seed), "student": pair.student}
    return pair.do(novel_tokens, wanted, label=method, **given)


def start_from_novel_tokens(method: str, pair: ModelPair, *, seed: int) -> Handle:
    """Make a start point of embedding and head out of the teacher's novel token directions."""
    factors = novel_factors(method, pair, seed=seed)
    given = {"student": pair.student, "factors": factors}
    return pair.do(lora, pair.config.lora.start(), label=f"lora {method}", **given)
