"""From a teacher's parameters to an update of the student, by each such method and control."""

from collections.abc import Mapping
from typing import Any

from flows.graph.cuts import teacher_of
from flows.graph.pair import ModelPair, teacher_base
from flows.graph.runner import Handle
from paraknow_core.methods import METHODS
from tasks.starts.transport import TransportConfig, transport

TAKEN_AWAY: Mapping[str, Mapping[str, Any]] = {
    "shuffled": {"shuffled": True},
    "drawn": {"drawn": True},
    "scaled-down": {"instead": "scaled-down"},
}
"""What a control changes in the step's settings, by ``Method.replacement``; others nothing."""


def start_from_transport(method: str, pair: ModelPair, *, seed: int) -> Handle:
    """Make an update of the student out of a teacher's parameters, or one of its controls.

    Args:
        method: a key of ``METHODS``, of this builder.
        pair: whose teacher, student and seed samples are taken.
        seed: of whatever the method or the control draws.
    """
    known, config = METHODS[method], pair.config
    wanted = TransportConfig.model_validate(
        {
            "method": known.of or method,
            "rank": config.lora.rank,
            "alpha": config.lora.alpha,
            "roles": [r for r in config.extract.roles if not known.covers or r in known.covers],
            "options": config.transport,
            "seed": seed if known.draws else 0,
            "min_vocabulary_share": config.extract.min_vocabulary_share,
            "adapter": config.teacher_adapter if "teacher base" in known.needs else "",
            **TAKEN_AWAY.get(known.replacement, {}),
        }
    )
    teacher = teacher_of(known, pair, seed=seed)
    given = {"teacher": teacher, "student": pair.student, "data": pair.data}
    if "teacher base" in known.needs and not config.teacher_adapter:
        given["base"] = teacher_base(pair)
    return pair.do(transport, wanted, label=f"update {method}", **given)
