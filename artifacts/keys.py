"""What a step's key is made of, and how two keys differ.

A field that is added to a step's config later must be left out of ``KeyPayload.config`` while it
equals its default, so that results stored before it existed stay valid. The payload cannot know
defaults; the place that builds the config dict keeps that rule.
"""

from dataclasses import dataclass, field
from enum import Enum
from typing import Final, NamedTuple

from blake3 import blake3

from artifacts.canonical import Json, canonical_bytes
from artifacts.errors import CanonicalError
from artifacts.names import Digest, StepKey, check_name, is_hex_digest

KEY_FORMAT: Final = 1
"""Raised when the payload's own form changes; every key changes with it."""

NUMERICS_EPOCH: Final = 1
"""Raised by hand when all results made before are to be distrusted, whatever their step."""


@dataclass(frozen=True, kw_only=True)
class KeyPayload:
    """Everything that decides what a step computes, and nothing else.

    Attributes:
        step: the step's name.
        version: raised by hand when the meaning of the step's output changes.
        config: every identity-bearing setting, defaults written out.
        inputs: role -> content digest of every input.
        seed: the random seed, or None for a step that draws nothing.
        numerics: what else decides the bits, such as dtypes, device type, TF32, SVD driver.
        epoch: NUMERICS_EPOCH at the time of writing.
        key_format: KEY_FORMAT at the time of writing.
    """

    step: str
    version: int
    config: dict[str, Json]
    inputs: dict[str, Digest]
    seed: int | None = None
    numerics: dict[str, str | bool] = field(default_factory=dict)
    epoch: int = NUMERICS_EPOCH
    key_format: int = KEY_FORMAT

    def __post_init__(self) -> None:
        check_name(self.step, "step name")
        for role, digest in self.inputs.items():
            check_name(role, "input role")
            if not is_hex_digest(digest):
                raise CanonicalError(
                    f"input {role!r}: {digest!r} is no digest (64 hexadecimal digits)"
                )
        _check_scalars(self)
        self.canonical()

    def as_json(self) -> dict[str, Json]:
        """Return the payload as plain JSON values, the form that is hashed and stored."""
        return {
            "key_format": self.key_format,
            "step": self.step,
            "version": self.version,
            "config": self.config,
            "inputs": dict(self.inputs),
            "seed": self.seed,
            "numerics": dict(self.numerics),
            "epoch": self.epoch,
        }

    def canonical(self) -> bytes:
        """Return the canonical bytes that the key is the digest of."""
        return canonical_bytes(self.as_json())

    def key(self) -> StepKey:
        """Return the step key: the full blake3 digest of the canonical payload."""
        return StepKey(blake3(self.canonical()).hexdigest())


class Absent(Enum):
    """The value of a field that one of two payloads lacks."""

    ABSENT = "absent"


ABSENT: Final = Absent.ABSENT


class PayloadDifference(NamedTuple):
    """One field in which two payloads differ."""

    field: str
    a: Json | Absent
    b: Json | Absent


def diff(a: KeyPayload, b: KeyPayload) -> list[PayloadDifference]:
    """List the fields in which two payloads differ, in name order.

    Returns:
        Field paths such as ``config.rank`` or ``inputs.teacher``; empty if the keys are equal.
    """
    return _differences("", a.as_json(), b.as_json())


def _differences(path: str, a: Json | Absent, b: Json | Absent) -> list[PayloadDifference]:
    if isinstance(a, dict) and isinstance(b, dict):
        found = []
        for name in sorted(a.keys() | b.keys()):
            below = f"{path}.{name}" if path else name
            found += _differences(below, a.get(name, ABSENT), b.get(name, ABSENT))
        return found
    if isinstance(a, list) and isinstance(b, list) and len(a) == len(b):
        pairs = enumerate(zip(a, b, strict=True))
        return [d for i, (x, y) in pairs for d in _differences(f"{path}[{i}]", x, y)]
    if _same(a, b):
        return []
    return [PayloadDifference(path, a, b)]


def _same(a: Json | Absent, b: Json | Absent) -> bool:
    """Compare as the key does: 1, 1.0 and True are three different values."""
    if a is ABSENT or b is ABSENT:
        return a is b
    return canonical_bytes(a) == canonical_bytes(b)


def _check_scalars(payload: KeyPayload) -> None:
    for name in ("version", "epoch", "key_format"):
        value = getattr(payload, name)
        if type(value) is not int or value < 1:
            raise CanonicalError(f"{name}: {value!r} must be an integer of at least 1")
    if payload.seed is not None and type(payload.seed) is not int:
        raise CanonicalError(f"seed: {payload.seed!r} must be an integer or None")
    for name, value in payload.numerics.items():
        if type(value) is not str and type(value) is not bool:
            raise CanonicalError(f"numerics.{name}: {value!r} must be a str or a bool")
