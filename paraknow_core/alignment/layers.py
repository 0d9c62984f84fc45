"""Which teacher layer each student layer takes its parameters from.

Needs no torch: a plan is drawn up before anything heavy is imported.
"""

import itertools
import math
import random
from collections.abc import Callable, Sequence

from paraknow_core.errors import ConfigError, NumericsError, ShapeError
from paraknow_core.registry import Registry

LayerStrategy = Callable[[Sequence[float], int, int], list[int]]
"""``(scores, num_student, seed)`` → ``num_student`` different teacher layers in ascending order."""


def _by_sensitivity(scores: Sequence[float], num_student: int, seed: int) -> list[int]:  # noqa: ARG001
    ranked = sorted(range(len(scores)), key=lambda layer: (-scores[layer], layer))
    return sorted(ranked[:num_student])


def _first(scores: Sequence[float], num_student: int, seed: int) -> list[int]:  # noqa: ARG001
    return list(range(num_student))


def _last(scores: Sequence[float], num_student: int, seed: int) -> list[int]:  # noqa: ARG001
    return list(range(len(scores) - num_student, len(scores)))


def _random(scores: Sequence[float], num_student: int, seed: int) -> list[int]:
    # Keyed by random() alone: later Pythons keep its sequence for a seed, but not that of sample().
    numbers = random.Random(seed)  # noqa: S311 - a reproducible draw, not a secret
    keys = [numbers.random() for _ in scores]
    return sorted(sorted(range(len(scores)), key=keys.__getitem__)[:num_student])


def _uniform(scores: Sequence[float], num_student: int, seed: int) -> list[int]:  # noqa: ARG001
    steps, last = max(num_student - 1, 1), len(scores) - 1
    return [(2 * place * last + steps) // (2 * steps) for place in range(num_student)]


LAYER_STRATEGIES: Registry[LayerStrategy] = Registry(
    "layer strategy",
    {
        "sensitivity": _by_sensitivity,
        "first": _first,
        "last": _last,
        "random": _random,
        "uniform": _uniform,
    },
)
"""Every layer selection by name: SeeKing's own, then those it is compared with."""


def choose_layers(
    strategy: str, *, scores: Sequence[float], num_teacher: int, num_student: int, seed: int
) -> list[int]:
    """Choose the teacher layer for each student layer, as SeeKing (arXiv 2310.11451) §3 does.

    The chosen layers keep the teacher's order: student layer ``i`` gets the ``i``-th of them.

    Args:
        strategy: ``sensitivity`` (the layers of the greatest score; of two with the same score the
            lower layer is taken), ``first``, ``last``, ``random`` (drawn from ``seed``), or
            ``uniform``: evenly spaced with both ends, layer round(i·(T−1)/(S−1)) for i = 0..S−1,
            halves up, and layer 0 if S is 1 (T, S = layers of teacher and student): the
            maximal spacing of Shleifer & Rush (arXiv 2010.13002).
        scores: one number per teacher layer: the sum of the sensitivity of every parameter in it.
        num_teacher: decoder layers of the teacher; the length of ``scores``.
        num_student: decoder layers of the student, in 1..num_teacher.
        seed: used by ``random`` only.

    Returns:
        ``num_student`` different teacher layers, ascending.

    Raises:
        ConfigError: if there is no such strategy; names the nearest one.
        ShapeError: if the student has more layers than the teacher, or ``scores`` another length.
        NumericsError: if a score is NaN or infinite.
    """
    strategy_of = LAYER_STRATEGIES.choose(strategy)
    _check(scores, num_teacher, num_student)
    return strategy_of(scores, num_student, seed)


def check_layers(layers: Sequence[int], *, num_teacher: int, num_student: int) -> None:
    """Refuse a list of teacher layers that does not fit the pair.

    Any order is allowed: student layer ``i`` gets the ``i``-th of the list. Each layer may be in
    it once.

    Raises:
        ConfigError: states the list and what is allowed.
    """
    inside = all(0 <= layer < num_teacher for layer in layers)
    if inside and len(set(layers)) == len(layers) == num_student:
        return
    raise ConfigError(
        f"align.layers is {list(layers)}; it must name {num_student} different layers of the "
        f"teacher, one for each layer of the student, of 0..{num_teacher - 1}."
    )


def _check(scores: Sequence[float], num_teacher: int, num_student: int) -> None:
    if not 1 <= num_student <= num_teacher:
        raise ShapeError(
            f"The student has {num_student} layers and the teacher {num_teacher}: each student "
            f"layer needs a teacher layer of its own, so 1..{num_teacher} are possible. "
            "Choose a deeper teacher or a shallower student."
        )
    if len(scores) != num_teacher:
        raise ShapeError(
            f"There are {len(scores)} layer scores for a teacher of {num_teacher} layers. "
            "Compute the sensitivity of this teacher."
        )
    for layer, score in enumerate(scores):
        if not math.isfinite(score):
            raise NumericsError(
                f"The sensitivity score of teacher layer {layer} is {score}; it must be finite. "
                "Compute the sensitivity in float32, and check the teacher's weights for NaN."
            )


def layer_runs(*, num_teacher: int, num_student: int) -> list[tuple[int, int]]:
    """Cut the teacher's layers into one run of consecutive layers for each student layer, by depth.

    Args:
        num_teacher: T, decoder layers of the teacher.
        num_student: S, decoder layers of the student, in 1..T.

    Returns:
        First and last layer of each run: ⌊i·T/S⌋ to ⌊(i+1)·T/S⌋ − 1 for i = 0..S−1. The runs cover
        every layer once.

    Raises:
        ShapeError: if the student has more layers than the teacher.
    """
    if not 1 <= num_student <= num_teacher:
        raise ShapeError(
            f"The student has {num_student} layers and the teacher {num_teacher}: a run of at "
            "least one teacher layer is needed for each. Choose a deeper teacher."
        )
    edges = [place * num_teacher // num_student for place in range(num_student + 1)]
    return [(low, high - 1) for low, high in itertools.pairwise(edges)]
