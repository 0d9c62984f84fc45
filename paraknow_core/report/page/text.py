"""Numbers and names as they are written on the page."""

import math
import re
import unicodedata
from collections.abc import Iterable, Sequence

MISSING = "–"
_ODD = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(
        chr(plane + last) for plane in range(0, 0x110000, 0x10000) for last in (0xFFFE, 0xFFFF)
    )
    + "]"
)
"""Control characters, lone surrogates, and what Unicode says is no character."""


def clean(text: str) -> str:
    """Make every character showable: control characters and lone surrogates become visible signs.

    Line breaks and tabs stay. Escaping is not done here.
    """
    return _ODD.sub(lambda found: _showable(found[0]), text)


def _showable(sign: str) -> str:
    code = ord(sign)
    if code == 0x7F:
        return "␡"
    return chr(0x2400 + code) if code < 0x20 else "\ufffd"  # pictures of control characters


def short(text: str, size: int = 26) -> str:
    """One line of at most ``size`` characters; the middle of a longer text is left out.

    Invisible signs (direction marks, joiners) are dropped, as a cut could separate their pairs.
    """
    line = " ".join("".join(s for s in clean(text) if unicodedata.category(s) != "Cf").split())
    if len(line) <= size:
        return line
    head = size // 2
    return f"{line[:head]}…{line[len(line) - (size - 1 - head) :]}"


def number(value: float | None, digits: int = 3, *, sign: bool = False) -> str:
    """A number with a true minus; very large and, without ``sign``, very small ones in powers."""
    if value is None or not math.isfinite(value):
        return MISSING
    size = abs(value)
    fixed = size == 0 or ((sign or 10**-digits <= size) and size < 1e6)
    text = f"{value:+.{digits}f}" if sign else f"{value:.{digits}f}"
    if not fixed:
        text = f"{value:+.2e}" if sign else f"{value:.2e}"
    return text.replace("-", "−")


def compact(value: float | None) -> str:
    """A number for an axis or a setting: 0.0016, 4e−05, 1200."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:.4g}".replace("-", "−")


def flop(value: float | None) -> str:
    """A number of operations, to three digits: 4.06e10."""
    if value is None or not math.isfinite(value):
        return MISSING
    return f"{value:.2e}".replace("e+0", "e").replace("e+", "e") if value else "0"


def percent(value: float | None) -> str:
    """A share as per cent."""
    return MISSING if value is None or not math.isfinite(value) else f"{100 * value:.1f} %"


def p_value(value: float | None) -> str:
    """A p-value to three digits, never as zero."""
    if value is None or not math.isfinite(value):
        return MISSING
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def seconds(value: float | None) -> str:
    """A duration in the unit that suits it."""
    if value is None or not math.isfinite(value):
        return MISSING
    if value < 120:
        return f"{value:.1f} s"
    return f"{value / 60:.1f} min" if value < 7200 else f"{value / 3600:.1f} h"


def finite(values: Iterable[float | None]) -> list[float]:
    """Those that are numbers."""
    return [v for v in values if v is not None and math.isfinite(v)]


def room(names: Sequence[str]) -> float:
    """Units that the longest of these names takes in a drawing, at most."""
    return 6.6 * max((len(name) for name in names), default=0)
