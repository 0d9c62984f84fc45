"""What a learning rate may be."""

import math
from collections.abc import Sequence

from paraknow_core.errors import ConfigError

LARGEST = 1e30
"""AdamW multiplies the rate in float32, which ends at 3e38; far below that, training diverges."""
ALLOWED = f"above 0, at most {LARGEST:g}"


def is_rate(value: float) -> bool:
    """Whether a training can be given this rate; it may still diverge."""
    return math.isfinite(value) and 0 < value <= LARGEST


def check_rates(rates: Sequence[float]) -> None:
    """Refuse a grid of learning rates that cannot be tried, or that tries one twice.

    Raises:
        ConfigError: says which rate, and what is allowed.
    """
    wrong = [rate for rate in rates if not is_rate(rate)]
    if wrong:
        raise ConfigError(f"learning rate {wrong[0]:g}; allowed is {ALLOWED}")
    twice = [rate for rate in rates if list(rates).count(rate) > 1]
    if twice:
        raise ConfigError(f"learning rate {twice[0]:g} is given twice; each is tried once")
