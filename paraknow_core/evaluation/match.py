"""When a generated text counts as the right answer. A new rule is one function and one line."""

import re
from collections.abc import Callable
from decimal import Decimal

from paraknow_core.errors import DataError
from paraknow_core.registry import Registry

# A minus after a digit, letter or bracket subtracts ("10-3"); elsewhere it is a sign.
_NUMBER = re.compile(r"(?:(?<![\w.)])-)?(?:\d[\d,]*(?:\.\d+)?|\.\d+)")

_LETTER = re.compile(r"(?<![\w'’])([A-J])(?![\w'’])")
_SAID_LETTER = re.compile(r"(?i:answer is)[\s:(\[\"'*]*([A-J])(?![\w'’])")

Extract = Callable[[str], str]
"""Takes a text, and returns the part of it that is compared; "" if there is none."""


def whole_text(text: str) -> str:
    """The text, with runs of white space as one space."""
    return " ".join(text.split())


def last_number(text: str) -> str:
    """The last number, without thousands separators and trailing zeros ("$1,234.50" → "1234.5").

    The rule by which SeeKing (arXiv 2310.11451, §4) scores GSM8K.
    """
    numbers = _NUMBER.findall(text)
    if not numbers:
        return ""
    value = Decimal(numbers[-1].replace(",", ""))
    plain = f"{value:f}"
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if value == 0 else plain


def letter(text: str) -> str:
    """The letter of an option: after "answer is", else the first of A to J that stands alone.

    The options of MMLU and its like; "I" and "A" count as letters wherever they stand alone.
    """
    found = _SAID_LETTER.search(text) or _LETTER.search(text)
    return found.group(1) if found else ""


MATCHES: Registry[Extract] = Registry(
    "match",
    {"exact": whole_text, "last_number": last_number, "letter": letter},
    error=DataError,
)


def get_match(name: str) -> Extract:
    """Look a rule up by name.

    Raises:
        DataError: if there is none of that name; names the nearest one.
    """
    return MATCHES.choose(name)
