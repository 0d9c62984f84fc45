"""Canonical JSON: one byte string per value, so that a digest of it can bear identity.

The form, which must never change while keys made of it are in use:

* object keys sorted by code point, no spaces, UTF-8, no ASCII escaping beyond what JSON requires;
* integers of any size in decimal; floats as Python's shortest round-trip ``repr`` (``1e-05``,
  ``0.1``), so ``1`` and ``1.0`` differ: a config's declared types decide which of them it holds;
* ``-0.0`` is written ``0.0``, because the two compare equal everywhere a config is used;
* tuples are written as lists; every other type is refused, subclasses too (an enum member or a
  numpy float would otherwise slip in under a form that another version may change).
"""

import json
import math
from typing import Final, NoReturn

from artifacts.errors import CanonicalError

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]

MAX_DEPTH: Final = 64


def canonical_bytes(value: object) -> bytes:
    """Encode a value in its one canonical form.

    Args:
        value: None, bool, int, finite float, str, and lists, tuples or str-keyed dicts of these.

    Returns:
        UTF-8 bytes; ``parse(canonical_bytes(x))`` equals ``x`` up to tuples and ``-0.0``.

    Raises:
        CanonicalError: for any other type, NaN, infinity, a lone surrogate, or too deep a nesting.
    """
    plain = _plain(value, "value", 0)
    return json.dumps(
        plain, sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False
    ).encode()


def parse(data: bytes) -> Json:
    """Decode canonical bytes, refusing any other spelling of the same value.

    Raises:
        CanonicalError: if ``data`` is not JSON, repeats a key, or is not in canonical form.
    """
    value = parse_any(data)
    if canonical_bytes(value) != data:
        raise CanonicalError("not canonical JSON: the same value has another canonical spelling")
    return value


def parse_any(data: bytes) -> Json:
    """Decode JSON in any spelling, as strictly otherwise.

    Raises:
        CanonicalError: if ``data`` is not JSON, or repeats a key.
    """
    try:
        value: Json = json.loads(
            data.decode(), object_pairs_hook=_unique, parse_constant=_refuse_constant
        )
    except (ValueError, RecursionError) as error:
        raise CanonicalError(f"not canonical JSON: {error}") from error
    return value


def _plain(value: object, where: str, depth: int) -> Json:
    if depth > MAX_DEPTH:
        raise CanonicalError(f"{where}: nested deeper than {MAX_DEPTH} levels (a cycle?)")
    if type(value) is dict:
        return {
            _key(name, where): _plain(item, f"{where}.{name}", depth + 1)
            for name, item in value.items()
        }
    if type(value) is list or type(value) is tuple:
        return [_plain(item, f"{where}[{i}]", depth + 1) for i, item in enumerate(value)]
    return _scalar(value, where)


def _scalar(value: object, where: str) -> Json:
    if value is None or type(value) is bool or type(value) is int:
        return value
    if type(value) is str:
        return _text(value, where)
    if type(value) is float:
        if not math.isfinite(value):
            raise CanonicalError(f"{where}: {value!r} has no canonical form; use a finite number")
        return value + 0.0  # turns -0.0 into 0.0 and leaves every other float as it is
    raise CanonicalError(
        f"{where}: type {type(value).__module__}.{type(value).__qualname__} has no canonical form; "
        "convert it to None, bool, int, float, str, list or dict first"
    )


def _key(name: object, where: str) -> str:
    if type(name) is not str:
        raise CanonicalError(f"{where}: key {name!r} is no str; only str keys have an order")
    return _text(name, where)


def _text(text: str, where: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise CanonicalError(f"{where}: {text!r} is not encodable as UTF-8") from error
    return text


def _unique(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    made = dict(pairs)
    if len(made) != len(pairs):
        raise ValueError("an object repeats a key")
    return made


def _refuse_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not allowed")
