"""Which checkpoints of a training run can be trusted: those with a marker, written last.

A process may die at any instant of a save. A checkpoint counts only if it holds ``complete.json``,
which is written after every other file has reached the disk, and which names the run.
"""

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from paraknow_core.durable_files import flush, settle

MARKER = "complete.json"
KEPT_CHECKPOINTS = 2
"""The second newest stays until the newest is complete; both, in case a disk loses the newest."""
_PREFIX = "checkpoint-"


def run_digest(facts: Mapping[str, Any]) -> str:
    """Digest everything that a run's numbers depend on, so that no other run resumes from it.

    Args:
        facts: plain JSON values.

    Returns:
        Hexadecimal SHA-256 of their canonical JSON.
    """
    text = json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode()).hexdigest()


def mark_complete(checkpoint: Path, *, run: str) -> None:
    """Vouch for a checkpoint whose files have all been written.

    Args:
        checkpoint: the folder; its files are flushed to the disk first.
        run: what ``run_digest`` gave for this run.
    """
    for path in sorted(checkpoint.iterdir()):
        flush(path)
    unfinished = checkpoint / f"{MARKER}.tmp"
    unfinished.write_text(json.dumps({"run": run}) + "\n", encoding="utf-8")
    settle(unfinished, checkpoint / MARKER)
    flush(checkpoint.parent)


def step_of(checkpoint: Path) -> int:
    """The number of optimizer steps that a checkpoint's weights have seen, from its name."""
    return int(checkpoint.name.removeprefix(_PREFIX))


def prune(work_folder: Path, *, run: str, keep: int) -> Path | None:
    """Delete unfinished checkpoints, those of other runs, and all but the newest.

    Args:
        work_folder: holds one ``checkpoint-<step>`` folder for each; need not exist.
        run: what ``run_digest`` gave for this run.
        keep: how many complete checkpoints stay, at least 1.

    Returns:
        The newest complete checkpoint of this run, or None.
    """
    folders = [p for p in work_folder.glob(f"{_PREFIX}*") if p.is_dir()]
    usable = sorted((p for p in folders if _is_complete(p, run)), key=step_of, reverse=True)
    for folder in folders:
        if folder not in usable[:keep]:
            _delete(folder)
    return usable[0] if usable else None


def _is_complete(checkpoint: Path, run: str) -> bool:
    try:
        marker = json.loads((checkpoint / MARKER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    is_numbered = checkpoint.name.removeprefix(_PREFIX).isdecimal()
    return is_numbered and isinstance(marker, dict) and marker.get("run") == run


def _delete(checkpoint: Path) -> None:
    (checkpoint / MARKER).unlink(missing_ok=True)  # first: half a deletion must not look complete
    shutil.rmtree(checkpoint)
