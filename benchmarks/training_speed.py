"""Time of a training step: ours against a bare script of PEFT and the Transformers Trainer.

    python -m benchmarks.training_speed    # eight minutes of one core

Same rows, LoRA modules, rank, batches and optimiser. What is compared is a step: the difference
between a longer and a shorter training, so that loading, checks and the proof at the end, which a
bare script has not, are not in it. Medians of CPU seconds on one thread, taken in turns.
"""

import os
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks import inputs
from paraknow_core.data.examples import TokenisedExample

SHORT, LONG, ROUNDS, BATCH, RANK = 1, 4, 3, 8, 8
Train = Callable[[int], None]


def bare(student: Path, modules: list[str], rows: list[TokenisedExample], epochs: int) -> None:
    """What a user writes with PEFT and Transformers alone."""
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, Trainer, TrainingArguments

    from paraknow_core.data.batches import collate

    model: Any = get_peft_model(
        AutoModelForCausalLM.from_pretrained(student),
        LoraConfig(r=RANK, lora_alpha=RANK, lora_dropout=0.05, target_modules=modules),
    )
    with tempfile.TemporaryDirectory() as folder:
        arguments = TrainingArguments(
            output_dir=folder,
            learning_rate=1e-4,
            per_device_train_batch_size=BATCH,
            num_train_epochs=epochs,
            optim="adamw_torch",
            use_cpu=True,
            save_strategy="no",
            logging_steps=1,
            report_to=[],
            disable_tqdm=True,
            remove_unused_columns=False,
        )
        trainer = Trainer(model, arguments, train_dataset=rows, data_collator=collate)  # type: ignore[arg-type]
        trainer.log = lambda *_: None  # type: ignore[method-assign]
        trainer.train()


def ours(student: Path, start: Path, rows: list[TokenisedExample], epochs: int) -> None:
    """The step ``finetune`` of the project."""
    from paraknow_core.finetuning.finetune import finetune
    from paraknow_core.finetuning.recipe import FineTuningRecipe
    from paraknow_core.partial_results import PartialResults

    with tempfile.TemporaryDirectory() as folder:
        finetune(
            student_folder=student,
            start_folder=start,
            train=rows,
            out_folder=Path(folder) / "out",
            partial=PartialResults(Path(folder) / "work"),
            recipe=FineTuningRecipe(learning_rate=1e-4, batch_size=BATCH, epochs=epochs),
        )


def starts(student: Path, folder: Path) -> dict[str, Path]:
    """Plain LoRA's start point, and one whose product training subtracts."""
    import torch

    from paraknow_core.lora.adapter import LoraFactors, write_adapter
    from paraknow_core.lora.start_point import plain_start
    from paraknow_core.models.describe import MATRIX_ROLES

    plain = plain_start(
        student,
        folder / "plain",
        roles=MATRIX_ROLES,
        rank=RANK,
        alpha=float(RANK),
        seed=0,
        dropout=0.05,
    )
    drawn = {
        module: LoraFactors(0.01 * torch.randn_like(a), 0.01 * torch.randn_like(b))
        for module, (a, b) in plain.factors.items()
    }
    write_adapter(folder / "subtracted", replace(plain, factors=drawn))
    return {"plain LoRA": folder / "plain", "start subtracted": folder / "subtracted"}


def seconds_a_step(train: Train, steps_per_epoch: int) -> float:
    """CPU seconds of a step."""
    found = []
    for epochs in (SHORT, LONG):
        began = time.process_time()
        train(epochs)
        found.append(time.process_time() - began)
    return (found[1] - found[0]) / ((LONG - SHORT) * steps_per_epoch)


def main() -> None:
    os.environ |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
    import torch

    from paraknow_core.lora.adapter_reader import read_adapter

    torch.set_num_threads(1)
    rows = inputs.samples()
    print("| vocabulary | bare script, s a step | ours, plain LoRA | ours, start subtracted |")
    print("|--:|--:|--:|--:|")
    for vocabulary in (2048, 32_768):
        with tempfile.TemporaryDirectory() as folder:
            student = Path(folder) / "student"
            inputs.model(inputs.SMALL.student, vocabulary=vocabulary).save_pretrained(student)
            made = starts(student, Path(folder))
            modules = sorted(read_adapter(made["plain LoRA"]).factors)
            sides: dict[str, Train] = {"bare": lambda n, m=modules, s=student: bare(s, m, rows, n)}
            for name, start in made.items():
                sides[name] = lambda n, s=student, p=start: ours(s, p, rows, n)
            for train in sides.values():
                train(1)  # so that no side pays for imports
            taken: dict[str, list[float]] = {name: [] for name in sides}
            for _ in range(ROUNDS):
                for name, train in sides.items():
                    taken[name].append(seconds_a_step(train, -(-len(rows) // BATCH)))
            times = {name: statistics.median(found) for name, found in taken.items()}
            theirs = times.pop("bare")
            told = (f"{found:.3f} ({theirs / found:.2f}×)" for found in times.values())
            print(f"| {vocabulary:,} | {theirs:.3f} | {' | '.join(told)} |", flush=True)


if __name__ == "__main__":
    main()
