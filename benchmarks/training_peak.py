"""Peak memory of fine-tuning on a CPU, with glibc's own settings and with others.

    python -m benchmarks.training_peak    # four minutes of one core; Linux with glibc 2.35 or newer

Prints for each the estimate of ``--plan`` and the measured growth of the resident set.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import inputs
from benchmarks.measure import peak_growth
from paraknow_core.data.examples import NO_LOSS, TokenisedExample

SETTING = "glibc.malloc.hugetlb=1:glibc.malloc.mmap_threshold=4194304"
ROWS, TOKENS = 8, 256
CASES = {
    "60M": (inputs.MEDIUM.student, inputs.VOCABULARY, False),
    "60M, recomputed": (inputs.MEDIUM.student, inputs.VOCABULARY, True),
    "3M and a vocabulary of 32,768": (inputs.SMALL.student, 32_768, False),
}
"""What is trained: its size, its vocabulary, and whether activations are recomputed."""


def _rows() -> list[TokenisedExample]:
    ids = tuple(range(10, 10 + TOKENS))
    labels = (NO_LOSS,) * (TOKENS // 2) + ids[TOKENS // 2 :]
    return [TokenisedExample(ids, labels)] * (2 * ROWS)


def _train(
    size: inputs.Size, vocabulary: int, folder: Path, *, recomputed: bool
) -> tuple[int, int]:
    """Train for two steps; returns estimated and measured bytes."""
    import torch

    from paraknow_core.finetuning.finetune import finetune
    from paraknow_core.finetuning.recipe import FineTuningRecipe
    from paraknow_core.inspection.cost import training_bytes
    from paraknow_core.lora.start_point import plain_start
    from paraknow_core.models.describe import MATRIX_ROLES, describe
    from paraknow_core.partial_results import PartialResults

    torch.set_num_threads(1)
    student, start, out, work = (folder / name for name in ("student", "start", "out", "work"))
    inputs.model(size, vocabulary=vocabulary).save_pretrained(student)
    plain_start(student, start, roles=MATRIX_ROLES, rank=8, alpha=8.0, seed=0, dropout=0.05)
    growth = peak_growth(
        lambda: finetune(
            student_folder=student,
            start_folder=start,
            train=_rows(),
            out_folder=out,
            partial=PartialResults(work),
            recipe=FineTuningRecipe(
                learning_rate=1e-3, batch_size=ROWS, epochs=1, gradient_checkpointing=recomputed
            ),
        )
    )
    estimated = training_bytes(
        describe(student),
        element_bytes=4,
        adapter_bytes=(start / "adapter_model.safetensors").stat().st_size,
        tokens=ROWS * TOKENS,
        predicted=ROWS * TOKENS // 2,
        recomputed=recomputed,
    )
    return estimated, growth


def main() -> None:
    if len(sys.argv) > 1:  # one measurement, in a process of its own
        with tempfile.TemporaryDirectory() as warm:  # a first run, so that imports are not measured
            _train(inputs.TINY.student, inputs.VOCABULARY, Path(warm), recomputed=False)
        with tempfile.TemporaryDirectory() as folder:
            size, vocabulary, recomputed = CASES[sys.argv[1]]
            found = _train(size, vocabulary, Path(folder), recomputed=recomputed)
        print("estimated {:.2f} GB, measured {:.2f} GB".format(*(n / 1e9 for n in found)))
        return
    for case in CASES:
        for setting in ("", SETTING):
            print(f"{case}, GLIBC_TUNABLES={setting!r}: ", end="", flush=True)
            subprocess.run(
                [sys.executable, "-m", "benchmarks.training_peak", case],
                check=True,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"GLIBC_TUNABLES": setting},
            )


if __name__ == "__main__":
    main()
