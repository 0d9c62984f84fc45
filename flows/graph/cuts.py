"""From a teacher to factors of what is cut out of it, for the transfer and each of its controls.

A control replaces one thing; its entry in ``METHODS`` says which, and by what.
"""

from collections.abc import Callable
from dataclasses import dataclass

from flows.graph.pair import ModelPair, acquire_rows, other_teacher
from flows.graph.runner import Handle
from paraknow_core.errors import ConfigError
from paraknow_core.method_tables.names import OWN
from paraknow_core.methods import METHODS, Method
from paraknow_core.registry import Registry
from tasks.acquire_model import acquire_model
from tasks.align import AlignConfig, align
from tasks.decompose import decompose
from tasks.extract import extract
from tasks.random_model import RandomModelConfig, random_model
from tasks.sensitivity import sensitivity
from tasks.starts.control import ControlConfig, control
from tasks.starts.lora import lora


@dataclass(frozen=True)
class Cuts:
    """What of a teacher is transferred: how sensitive it is, which layers, and their factors."""

    scores: Handle
    layers: Handle
    windows: Handle
    factors: Handle


def start_from_cuts(method: str, pair: ModelPair, *, seed: int) -> Handle:
    """Make a start point of what is cut out of a teacher."""
    factors = cuts(method, pair, seed=seed).factors
    given = {"student": pair.student, "factors": factors}
    return pair.do(lora, pair.config.lora.start(), label=f"lora{_suffix(method)}", **given)


def cuts(method: str, pair: ModelPair, *, seed: int) -> Cuts:
    """Run the steps from a teacher to its factors, for the transfer or one of its controls."""
    known, config, do = METHODS[method], pair.config, pair.do
    upstream = "" if known.is_factor_control else _suffix(method)
    teacher, data, how = (
        _teacher(known, pair, seed),
        _data(known, pair, upstream),
        _align(known, pair, seed),
    )
    again = upstream if known.changes in ("teacher", "seeds") else ""
    scores = do(
        sensitivity, config.sensitivity, label=f"sensitivity{again}", teacher=teacher, data=data
    )
    both = {"teacher": teacher, "student": pair.student}
    layers = do(align, how, label=f"align{upstream}", scores=scores, **both)
    windows = do(
        extract, config.extract, label=f"extract{upstream}", scores=scores, layers=layers, **both
    )
    factors = do(decompose, config.decompose, label=f"decompose{upstream}", windows=windows, **both)
    if known.is_factor_control:
        taken = ControlConfig.model_validate({"name": method, "seed": seed})
        given = {"student": pair.student, "factors": factors}
        factors = do(control, taken, label=f"control {method}", **given)
    return Cuts(scores, layers, windows, factors)


def _suffix(method: str) -> str:
    return f" {method}" if METHODS[method].is_control else ""


def _teacher(known: Method, pair: ModelPair, seed: int) -> Handle:
    """The pair's teacher, or what a control puts in its place; one draw for all seeds or each."""
    drawn = pair.config.random_teacher
    return teacher_of(known, pair, seed=seed if drawn.each_seed else drawn.seed)


def teacher_of(known: Method, pair: ModelPair, *, seed: int) -> Handle:
    """Take the pair's teacher, or what a control puts in its place.

    Args:
        known: the method or control.
        pair: whose teacher it is.
        seed: of a model that is drawn.
    """
    if known.changes != "teacher":
        return pair.teacher
    return TEACHERS.choose(known.replacement).take(pair, seed)


def untrained_teacher(pair: ModelPair, seed: int) -> Handle:
    """Draw a model of the teacher's sizes that was never trained."""
    how = RandomModelConfig(seed=seed)
    drawn = pair.do(random_model, how, label="random model", like=pair.teacher)
    return pair.do(acquire_model, pair.config.teacher, label="random teacher", built=drawn)


@dataclass(frozen=True)
class OtherTeacher:
    """What stands in the teacher's place.

    Attributes:
        take: gives it, running what it is made of; takes the seed of a draw.
        has_its_layers: whether it has the teacher's layers, so that listed ones are there.
    """

    take: Callable[[ModelPair, int], Handle]
    has_its_layers: bool


TEACHERS: Registry[OtherTeacher] = Registry(
    "teacher of a control",
    {
        OWN: OtherTeacher(lambda pair, _seed: pair.student, has_its_layers=False),
        "untrained": OtherTeacher(untrained_teacher, has_its_layers=True),
        "other": OtherTeacher(lambda pair, _seed: other_teacher(pair), has_its_layers=True),
    },
)
"""What a control puts in the teacher's place, by ``Method.replacement``."""


def _align(known: Method, pair: ModelPair, seed: int) -> AlignConfig:
    """Which layers are taken: as the settings say, but for a control of the layers."""
    if known.changes == "layers":
        return AlignConfig(strategy=known.replacement, seed=seed)
    if known.changes == "teacher" and not TEACHERS[known.replacement].has_its_layers:
        return pair.config.align.model_copy(update={"layers": None})
    return pair.config.align


def _data(known: Method, pair: ModelPair, label: str) -> Handle:
    """The pair's data, or for a control of the seed samples that of another task.

    Raises:
        ConfigError: if none is given; the pair's own would make the control the transfer itself.
    """
    config = pair.config
    if known.changes != "seeds":
        return pair.data
    if config.other_data is None and config.other_problems is None:
        raise ConfigError(
            "The control 'other-seeds' needs seed samples of another task: set other_data, or "
            "other_problems (with text: true for the demo's pair)."
        )
    return acquire_rows(
        pair.do, config.other_data or config.data, config.other_problems, label=label
    )
