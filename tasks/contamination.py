"""Whether the splits share texts: exactly, or by a run of 13 words."""

from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from paraknow_core.data import read_split
from paraknow_core.errors import DataError
from paraknow_core.settings import Settings
from tasks.acquire_data import SPLIT_FILES
from tasks.engine.json_files import read_json, write_json
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step

OVERLAP = "overlap.json"


class ContaminationConfig(Settings):
    """Nothing to set: whether an overlap is allowed does not change the overlap."""


def _compute(job: Job[ContaminationConfig]) -> Facts:
    """Compare every two splits."""
    from paraknow_core.data.contamination import contamination as compare

    splits = {name: read_split(job.inputs["data"] / file) for name, file in SPLIT_FILES.items()}
    table = compare(splits)
    hits = [entry for entry in table if entry.hits]
    found = {"table": [asdict(entry) for entry in table], "lines": [e.describe() for e in hits]}
    write_json(job.out / OVERLAP, found)
    return {f"{entry.first}-{entry.second}-{entry.kind}": entry.hits for entry in hits}


def check_contamination(
    known: Mapping[str, Path], _locations: Mapping[str, Path], *, allow: bool
) -> None:
    """Refuse data whose splits share texts, unless that is allowed.

    Args:
        known: folder of the ``overlap``; nothing is checked without it.
        allow: whether the report's saying so is enough.

    Raises:
        DataError: says how many rows of which splits, with examples.
    """
    lines: list[Any] = read_json(known["overlap"] / OVERLAP)["lines"] if "overlap" in known else []
    if lines and not allow:
        raise DataError(
            "The splits share texts, so a test would measure memory: "
            + "; ".join(map(str, lines))
            + ". Take these rows out of one side, or set allow_overlap; the report then says so."
        )


contamination = Step(
    name="contamination", stage=Stage.ACQUIRE, version=1, compute=_compute, preview=True
)
