"""What each method's start point is made of: the wiring of each kind of start point, by name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from flows.graph.cuts import cuts, start_from_cuts
from flows.graph.novel import novel_factors, start_from_novel_tokens
from flows.graph.pair import ModelPair
from flows.graph.runner import Handle
from flows.graph.signals import start_from_signals
from flows.graph.transport import start_from_transport
from paraknow_core.methods import METHODS
from paraknow_core.registry import Registry
from tasks.starts.compose import ComposeConfig, compose
from tasks.starts.lora import PlainLoraConfig, plain_lora
from tasks.starts.student_start import StudentStartConfig, student_start


class Start(Protocol):
    """Runs the steps that a start point is made of."""

    def __call__(self, method: str, pair: ModelPair, *, seed: int) -> Handle:
        """Return the start point of a method, for one seed."""


FOLLOWED = "novel"
"""Of what a report draws: directions of token space that are looked for again after training."""

Shown = Callable[[str, ModelPair, int], Mapping[str, Handle]]
"""What of a method, pair and seed a report draws, by the name that the report knows."""


@dataclass(frozen=True)
class Builder:
    """How start points of one kind are made.

    Attributes:
        start: runs the steps; those that another arm ran are not run again.
        shown: what of them a report draws where the method is what its verdict is about.
    """

    start: Start
    shown: Shown = lambda _method, _pair, _seed: {}


def start_point(method: str, pair: ModelPair, *, seed: int) -> Handle:
    """Run whatever a method's start point is made of, and return it.

    Where the settings give some roles to another method, or the method has none for them, the start
    points of several methods are put together.

    Args:
        method: a key of ``METHODS``.
        pair: as ``acquire_pair`` gives it; steps that an earlier call ran are not run again.
        seed: of what the method draws; a method that draws nothing has one start point for all.

    Raises:
        ConfigError: if there is no such method; names the nearest one.
    """
    roles: dict[str, list[str]] = {}
    METHODS.choose(method)
    for role, name in pair.config.methods_by_role(method).items():
        roles.setdefault(name, []).append(role)
    if len(roles) == 1:
        ((only, own),) = roles.items()
        return _builder(only).start(only, pair.limited_to(own), seed=seed)
    parts = {
        name: _builder(name).start(name, pair.limited_to(own), seed=seed)
        for name, own in roles.items()
    }
    wanted = ComposeConfig.model_validate(
        {"parts": [{"start": name, "roles": own} for name, own in roles.items()]}
    )
    return pair.do(compose, wanted, label=f"compose {method}", student=pair.student, **parts)


def shown_of(method: str, pair: ModelPair, *, seed: int) -> Mapping[str, Handle]:
    """Run the steps of a method that a report draws; none for what no verdict is about."""
    return _builder(method).shown(method, pair, seed) if METHODS[method].is_transfer else {}


def _builder(method: str) -> Builder:
    return BUILDERS.choose(METHODS.choose(method).builder)


def _plain(method: str, pair: ModelPair, *, seed: int) -> Handle:  # noqa: ARG001
    config = pair.config
    size = {"rank": config.lora.rank, "alpha": config.lora.alpha}
    shape = PlainLoraConfig(**size, roles=config.extract.roles, seed=seed)
    return pair.do(plain_lora, shape, label="plain lora", student=pair.student)


def _of_student(method: str, pair: ModelPair, *, seed: int) -> Handle:
    known, config = METHODS[method], pair.config
    wanted = StudentStartConfig(
        rank=config.lora.rank,
        alpha=config.lora.alpha,
        method=method,
        roles=config.extract.roles,
        options=config.starts,
        seed=seed if known.draws else 0,
    )
    samples = {"data": pair.data} if known.uses_samples else {}
    return pair.do(student_start, wanted, label=f"start {method}", student=pair.student, **samples)


BUILDERS: Registry[Builder] = Registry(
    "builder of start points",
    {
        "plain": Builder(_plain),
        "cuts": Builder(
            start_from_cuts, lambda method, pair, seed: vars(cuts(method, pair, seed=seed))
        ),
        "novel-tokens": Builder(
            start_from_novel_tokens,
            lambda method, pair, seed: dict.fromkeys(
                ("factors", FOLLOWED), novel_factors(method, pair, seed=seed)
            ),
        ),
        "signals": Builder(start_from_signals),
        "student-start": Builder(_of_student),
        "transport": Builder(start_from_transport),
    },
)
"""Every kind of start point, by ``Method.builder``."""
