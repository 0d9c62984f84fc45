"""From a teacher's signals to an update of the student, and its controls."""

from flows.graph.cuts import teacher_of
from flows.graph.pair import ModelPair
from flows.graph.runner import Handle
from paraknow_core.methods import METHODS
from tasks.starts.signal_start import METHODS_OWN, SignalStartConfig, signal_start


def start_from_signals(method: str, pair: ModelPair, *, seed: int) -> Handle:
    """Make an update of what the teacher says and the student does not.

    The update itself draws nothing, so seeds share it; a control's draw, and plain LoRA's start of
    an embedding that is not tied to a head, are drawn anew. A control's update is as large in each
    module as the method's, unless the settings say otherwise.
    """
    known, config = METHODS[method], pair.config
    draws = known.is_control or {"embed", "head"} <= set(config.extract.roles)
    wanted = SignalStartConfig.model_validate(
        {
            "method": known.of or method,
            "rank": config.lora.rank,
            "alpha": config.lora.alpha,
            "roles": [role for role in config.extract.roles if role in known.covers],
            "options": config.signals.model_dump(exclude={"control_size"}),
            "shuffle": known.changes == "tokens",
            "seed": seed if draws else 0,
            "min_vocabulary_share": config.extract.min_vocabulary_share,
        }
    )
    teacher = teacher_of(known, pair, seed=seed)
    given = {"teacher": teacher, "student": pair.student, "data": pair.data}
    if known.is_control and config.signals.control_size == "method":
        given[METHODS_OWN] = start_from_signals(known.of, pair, seed=seed)
    return pair.do(signal_start, wanted, label=method, **given)
