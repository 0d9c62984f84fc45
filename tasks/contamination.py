"""Whether the splits share rows, or questions that differ in a few words only."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from pathlib import Path

from paraknow_core.data import read_split
from paraknow_core.data.contamination import SharedRows
from paraknow_core.data.deal import pair_name
from paraknow_core.errors import DataError
from paraknow_core.settings import Settings
from tasks.engine.json_files import read_json, write_json
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step
from tasks.rows.config import SPLIT_FILES

OVERLAP = "overlap.json"


class ContaminationConfig(Settings):
    """Nothing to set: whether an overlap is allowed does not change the overlap."""


def _compute(job: Job[ContaminationConfig]) -> Facts:
    """Compare every two splits; name all rows of one that another has too."""
    from paraknow_core.data.contamination import contamination as compare

    splits = {name: read_split(job.inputs["data"] / file) for name, file in SPLIT_FILES.items()}
    table = compare(splits)
    hits = [entry for entry in table if entry.hits]
    found = {"table": [asdict(entry) for entry in table], "lines": [e.describe() for e in hits]}
    write_json(job.out / OVERLAP, found)
    return {f"{entry.first}-{entry.second}-{entry.kind}": entry.hits for entry in hits}


def check_contamination(
    known: Mapping[str, Path], _locations: Mapping[str, Path], *, allow: Collection[str]
) -> None:
    """Refuse data whose splits share rows, unless that is allowed.

    Args:
        known: folder of the ``overlap``; nothing is checked without it.
        allow: names of pairs of splits for which the report's saying so is enough.

    Raises:
        DataError: says how many rows of which splits, with examples.
    """
    if "overlap" not in known:
        return
    table = [SharedRows(**entry) for entry in read_json(known["overlap"] / OVERLAP)["table"]]
    refuse_overlap(table, allow=allow)


def refuse_overlap(table: Collection[SharedRows], *, allow: Collection[str]) -> None:
    """Refuse what splits share, unless their pair is allowed.

    Raises:
        DataError: as `check_contamination`.
    """
    wrong = [e for e in table if e.hits and pair_name(e.first, e.second) not in allow]
    if wrong:
        pairs = ", ".join(dict.fromkeys(pair_name(e.first, e.second) for e in wrong))
        raise DataError(
            "The splits share texts, so a test would measure memory: "
            + "; ".join(entry.describe() for entry in wrong)
            + ". Take these rows out of one side, or allow these pairs of splits (allow_overlap: "
            f"[{pairs}]); the report then says so."
        )


contamination = Step(
    name="contamination", stage=Stage.ACQUIRE, version=2, compute=_compute, preview=True
)
