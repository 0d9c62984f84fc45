"""Whether a training diverged, read off what its steps stored: before anything is built on it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from paraknow_core.divergence import check_loss
from paraknow_core.errors import DivergedError
from paraknow_core.evaluation.metrics import check_not_diverged
from tasks.acquire_model import load_architecture
from tasks.engine.json_files import read_json

DIVERGED = "diverged.json"
"""In place of an adapter's files, in the output of a fine-tuning that ended in none."""


def check_adapter(known: Mapping[str, Path], _locations: Mapping[str, Path]) -> None:
    """Refuse a fine-tuning that has no adapter.

    Args:
        known: the folder of the ``adapter``, if it is known.

    Raises:
        DivergedError: with the reason that the training gave.
    """
    folder = known.get("adapter")
    if folder is not None and (folder / DIVERGED).is_file():
        raise DivergedError(str(read_json(folder / DIVERGED)["reason"]))


def check_trial(known: Mapping[str, Path], locations: Mapping[str, Path]) -> None:
    """Refuse a fine-tuning that diverged, judged by its last validation loss.

    The untouched student's loss is that of the first step, which is measured before anything is
    changed. It is of the training split: the test split has no part in choosing a rate.

    Args:
        known: the folders of the ``adapter`` and the ``student``, as far as they are known.
        locations: not looked at.

    Raises:
        DivergedError: as `check_adapter` and ``check_loss``.
    """
    check_adapter(known, locations)
    if not {"adapter", "student"} <= known.keys():
        return
    rows = _log(known["adapter"])
    found = [row["eval_loss"] for row in rows if "eval_loss" in row]
    if found:
        check_loss(
            found[-1],
            untouched=_first_loss(rows),
            vocabulary=load_architecture(known["student"]).vocab_size,
            what="validation loss",
            beside="the loss of its first step",
        )


def check_measured(known: Mapping[str, Path], _locations: Mapping[str, Path]) -> None:
    """Refuse a training that diverged, by its answers on test against the untouched student's.

    Args:
        known: folders of the evaluations ``measured`` and ``vanilla``, and of the ``student``, as
            far as they are known.

    Raises:
        DivergedError: as ``check_not_diverged``.
    """
    if {"measured", "vanilla", "student"} <= known.keys():
        check_not_diverged(
            read_json(known["measured"] / "metrics.json"),
            untouched=read_json(known["vanilla"] / "metrics.json"),
            vocabulary=load_architecture(known["student"]).vocab_size,
        )


def _first_loss(rows: Sequence[Mapping[str, Any]]) -> float | None:
    """The answers' loss of the first step; with distillation, "loss" is of something else."""
    first = next((row for row in rows if "loss" in row), {})
    found = first.get("answer_loss", first.get("loss"))
    return None if found is None else float(found)


def _log(folder: Path) -> list[dict[str, Any]]:
    from paraknow_core.report.page.collect import read_log

    return read_log(folder / "training_log.jsonl")
