"""What processes of one training do in tests; they import it by name."""

import gc
import os
import signal
from pathlib import Path
from typing import Any

import numpy
from support.starts import token_examples

from paraknow_core.finetuning.finetune import TrainingResult, finetune
from paraknow_core.finetuning.recipe import FineTuningRecipe
from paraknow_core.models import logit_chunks
from paraknow_core.partial_results import PartialResults
from paraknow_core.progress import Progress

WHOLE = logit_chunks.CHUNK_ELEMENTS
ROWS = 18
"""In batches of 8 the last one of an epoch has two rows: one micro-batch, and one that is idle."""


def train(
    folder: Path, progress: Progress, partial: PartialResults, out: str, **changes: Any
) -> TrainingResult:
    """One small training, from what is in ``folder``."""
    settings = {"learning_rate": 5e-3, "batch_size": 8, "epochs": 2, "dropout": 0.0} | changes
    logit_chunks.CHUNK_ELEMENTS = settings.pop("logits_at_once", WHOLE)
    return finetune(
        student_folder=folder / "student",
        start_folder=folder / settings.pop("start", "start"),
        train=token_examples(ROWS),
        validation=token_examples(5, seed=6),
        out_folder=folder / out,
        partial=partial,
        checkpoint_steps=settings.pop("checkpoint_steps", None),
        targets_folder=settings.pop("targets", None),
        recipe=FineTuningRecipe(**settings),
        progress=progress,
    )


def train_all(
    progress: Progress,
    folder: Path,
    cases: dict[str, tuple[PartialResults, dict[str, Any]]],
    dies_at: int = 0,
) -> dict[str, tuple[Any, ...]]:
    """Train one after another; of each the log, the adapter's products, and where it went on.

    At a step ``dies_at`` the first process kills the second one, and then waits for its share.
    """
    (folder / f"{os.environ['RANK']}.pid").write_text(str(os.getpid()))

    def told(done: int, total: int, message: str) -> None:
        progress(done, total, message)
        if done == dies_at:
            os.kill(int((folder / "1.pid").read_text()), signal.SIGKILL)

    gc.freeze()  # each training collects twice: hide what libraries have from it
    found = {}
    for out, (partial, changes) in cases.items():
        result = train(folder, told, partial, out, **changes)
        deltas = {m: numpy.asarray(result.adapter.delta(m)) for m in result.adapter.factors}
        found[out] = result.rows, deltas, result.resumed_from, result.best_step
    return found
