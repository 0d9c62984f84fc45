"""Every method that an arm can have, from one place: transfers, start points, controls.

Plain data, for flows, reports, documentation and ``--help``; needs no torch. What is said of a
method stands with its family in ``method_tables``. No code compares the names of methods: what is
done with a method follows from the fields of its entry.
"""

from collections.abc import Iterable

from paraknow_core.method import Method as Method  # noqa: PLC0414 - re-exported
from paraknow_core.method import in_words
from paraknow_core.method_tables.names import NOVEL_TOKENS as NOVEL_TOKENS  # noqa: PLC0414
from paraknow_core.method_tables.names import PLAIN as PLAIN  # noqa: PLC0414
from paraknow_core.method_tables.names import TRANSFER as TRANSFER  # noqa: PLC0414
from paraknow_core.method_tables.novel_tokens import (
    NOVEL_OTHER,
    NOVEL_OWN,
    NOVEL_RANDOM,
    NOVEL_SHUFFLED,
    NOVEL_START,
    NOVEL_TOP,
    NOVEL_UNTRAINED,
)
from paraknow_core.method_tables.seeking import (
    OTHER_SEEDS,
    OTHER_TEACHER,
    OWN_TEACHER,
    RANDOM_LAYERS,
    RANDOM_TEACHER,
    SAME_SPECTRUM,
    SEEKING,
    SHUFFLED_TEACHER,
    SHUFFLED_VOCABULARY,
)
from paraknow_core.method_tables.signals import (
    EMBEDDING_ROWS,
    HEAD_REGRESSION,
    RESIDUAL_REGRESSION,
    SHUFFLED_DISTILLATION,
    SHUFFLED_HEAD_REGRESSION,
    SHUFFLED_RESIDUALS,
    SHUFFLED_ROWS,
    UNTRAINED_DISTILLATION,
    UNTRAINED_HEAD_REGRESSION,
    UNTRAINED_RESIDUALS,
    UNTRAINED_ROWS,
    WHITENED_DISTILLATION,
)
from paraknow_core.method_tables.student_starts import (
    CORDA,
    EVA,
    LORA_GA,
    MILORA,
    OLORA,
    PISSA,
    PLAIN_LORA,
)
from paraknow_core.method_tables.transport import (
    LATEN_OWN,
    LATEN_SCALED_DOWN,
    LATEN_SHUFFLED,
    LATEN_UNTRAINED,
    LATEN_UPDATE,
    THESEUS_DRAWN,
    THESEUS_SCALED_DOWN,
    THESEUS_SHUFFLED,
    THESEUS_UPDATE,
    TRANSPORT_SCALED_DOWN,
    TRANSPORT_SHUFFLED,
    TRANSPORT_UNTRAINED,
    WEIGHT_TRANSPORT_UPDATE,
)
from paraknow_core.registry import Registry

VANILLA = "vanilla"
"""The arm that is no method: the untouched student."""

METHODS: Registry[Method] = Registry(
    "method",
    {
        "plain": PLAIN_LORA,
        "transfer": SEEKING,
        "novel-tokens": NOVEL_START,
        "whitened-distillation": WHITENED_DISTILLATION,
        "residual-regression": RESIDUAL_REGRESSION,
        "head-regression": HEAD_REGRESSION,
        "embedding-rows": EMBEDDING_ROWS,
        "theseus": THESEUS_UPDATE,
        "weight-transport": WEIGHT_TRANSPORT_UPDATE,
        "laten": LATEN_UPDATE,
        "pissa": PISSA,
        "milora": MILORA,
        "olora": OLORA,
        "eva": EVA,
        "corda": CORDA,
        "lora-ga": LORA_GA,
        "same-spectrum": SAME_SPECTRUM,
        "shuffled-teacher": SHUFFLED_TEACHER,
        "shuffled-vocabulary": SHUFFLED_VOCABULARY,
        "random-layers": RANDOM_LAYERS,
        "random-teacher": RANDOM_TEACHER,
        "own-teacher": OWN_TEACHER,
        "other-teacher": OTHER_TEACHER,
        "other-seeds": OTHER_SEEDS,
        "novel-random": NOVEL_RANDOM,
        "novel-top": NOVEL_TOP,
        "novel-shuffled": NOVEL_SHUFFLED,
        "novel-untrained": NOVEL_UNTRAINED,
        "novel-other": NOVEL_OTHER,
        "novel-own": NOVEL_OWN,
        "distillation-shuffled": SHUFFLED_DISTILLATION,
        "distillation-untrained": UNTRAINED_DISTILLATION,
        "residuals-shuffled": SHUFFLED_RESIDUALS,
        "residuals-untrained": UNTRAINED_RESIDUALS,
        "head-shuffled": SHUFFLED_HEAD_REGRESSION,
        "head-untrained": UNTRAINED_HEAD_REGRESSION,
        "rows-shuffled": SHUFFLED_ROWS,
        "rows-untrained": UNTRAINED_ROWS,
        "theseus-shuffled": THESEUS_SHUFFLED,
        "theseus-drawn": THESEUS_DRAWN,
        "theseus-scaled-down": THESEUS_SCALED_DOWN,
        "transport-shuffled": TRANSPORT_SHUFFLED,
        "transport-untrained": TRANSPORT_UNTRAINED,
        "transport-scaled-down": TRANSPORT_SCALED_DOWN,
        "laten-shuffled": LATEN_SHUFFLED,
        "laten-untrained": LATEN_UNTRAINED,
        "laten-own": LATEN_OWN,
        "laten-scaled-down": LATEN_SCALED_DOWN,
    },
)
"""Every method by name, in the order of reports."""


def every_arm() -> tuple[str, ...]:
    """Every arm that a run can have, in the order of reports; the untouched student comes first."""
    return (VANILLA, *METHODS)


def arms_among(names: Iterable[str]) -> tuple[str, ...]:
    """Those of ``names`` that are arms, in the order of reports; looks up no other method."""
    found = set(names)
    return (*((VANILLA,) if VANILLA in found else ()), *METHODS.among(found))


def transfer_among(names: Iterable[str]) -> str:
    """The first of ``names`` that is a transfer and no control, as reports order them; or ""."""
    return next((name for name in METHODS.among(names) if METHODS[name].is_transfer), "")


def used_by(*methods: str, outputs: bool = False) -> str:
    """Say what of a teacher an arm uses, in words; "" if nothing.

    Args:
        methods: that its start point comes from, keys of ``METHODS``.
        outputs: whether its training learns from the teacher's outputs as well.
    """
    uses = frozenset[str]().union(*(METHODS[name].uses for name in methods))
    return in_words(uses | ({"outputs"} if outputs else frozenset()))
