"""Peak memory of fine-tuning on a CPU, with glibc's own settings and with others.

    python -m benchmarks.training_peak    # two minutes; Linux with glibc 2.35 or newer

Prints for each the estimate of ``paraknow inspect`` and the measured growth of the resident set.
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


def _rows() -> list[TokenisedExample]:
    ids = tuple(range(10, 10 + TOKENS))
    labels = (NO_LOSS,) * (TOKENS // 2) + ids[TOKENS // 2 :]
    return [TokenisedExample(ids, labels)] * (2 * ROWS)


def _train(size: inputs.Size, folder: Path, *, recomputed: bool) -> tuple[int, int]:
    """Train for two steps; returns estimated and measured bytes."""
    import torch

    from paraknow_core.finetuning.finetune import finetune
    from paraknow_core.finetuning.recipe import FineTuningRecipe
    from paraknow_core.inspection.cost import activation_bytes, logits_bytes
    from paraknow_core.lora.start_point import plain_start
    from paraknow_core.models.describe import MATRIX_ROLES, describe
    from paraknow_core.partial_results import PartialResults

    torch.set_num_threads(1)
    student, start, out, work = (folder / name for name in ("student", "start", "out", "work"))
    inputs.model(size).save_pretrained(student)
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
    model, tokens = describe(student), ROWS * TOKENS
    adapter = 5 * (start / "adapter_model.safetensors").stat().st_size
    batch = activation_bytes(model, tokens, adapter=True, recomputed=recomputed)
    return 4 * model.num_parameters + adapter + batch + logits_bytes(model, tokens), growth


def main() -> None:
    if len(sys.argv) > 1:  # one measurement, in a process of its own
        with tempfile.TemporaryDirectory() as warm:  # a first run, so that imports are not measured
            _train(inputs.TINY.student, Path(warm), recomputed=False)
        with tempfile.TemporaryDirectory() as folder:
            found = _train(inputs.MEDIUM.student, Path(folder), recomputed=sys.argv[1] == "True")
        print("estimated {:.2f} GB, measured {:.2f} GB".format(*(n / 1e9 for n in found)))
        return
    for recomputed in (False, True):
        for setting in ("", SETTING):
            print(f"recomputed: {recomputed}, GLIBC_TUNABLES={setting!r}: ", end="", flush=True)
            subprocess.run(
                [sys.executable, "-m", "benchmarks.training_peak", str(recomputed)],
                check=True,
                stderr=subprocess.DEVNULL,
                env=os.environ | {"GLIBC_TUNABLES": setting},
            )


if __name__ == "__main__":
    main()
