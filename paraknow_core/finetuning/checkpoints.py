"""What training runs are told apart by, and how many checkpoints of one are kept."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

KEPT_CHECKPOINTS = 2
"""If the newest turns out to be damaged, the run goes on from the one before it."""


def run_digest(facts: Mapping[str, Any]) -> str:
    """Digest everything that a run's numbers depend on, so that no other run resumes from it.

    Args:
        facts: plain JSON values.

    Returns:
        Hexadecimal SHA-256 of their canonical JSON.
    """
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()
