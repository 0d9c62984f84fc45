"""What a learning rate may be."""

import math

LARGEST = 1e30
"""AdamW multiplies the rate in float32, which ends at 3e38; far below that, training diverges."""
ALLOWED = f"above 0, at most {LARGEST:g}"


def is_rate(value: float) -> bool:
    """Whether a training can be given this rate; it may still diverge."""
    return math.isfinite(value) and 0 < value <= LARGEST
