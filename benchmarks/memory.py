"""Peak memory on a CPU against what the tensors need, which is what ``--plan`` says, over a grid.

    python -m benchmarks.memory    # a quarter of an hour of one core; Linux with glibc

Each cell is a process of its own: the sensitivity of a teacher (with everything in memory, long
rows computed again as the step does it, or layer by layer), training a student (with activations
kept, or ``gradient_checkpointing``), or its evaluation (likelihood and generation), by length of
the rows, how many go through at once, and vocabulary. Printed are what the tensors need, the growth
of the resident set, weights and maps included, and how the two compare: the goal is at most 1.3
times, and no less than 0.7, where an estimate would be 30 % too high. Freed blocks go back to the
system as those of our worker processes do (``tasks.engine.freed_memory``).
"""

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import Any

from benchmarks import inputs
from benchmarks.measure import peak_growth
from paraknow_core.data.examples import NO_LOSS, Example, TokenisedExample
from tasks.engine.freed_memory import GIVES_BACK, small_blocks_given_back

SIZES = {"34M": inputs.SMALL.teacher, "3M": inputs.SMALL.student}
"""Models by their parameters without embedding and head."""


@dataclass(frozen=True)
class Cell:
    """What is measured: rows of so many tokens, so many at once."""

    work: str
    size: str
    vocabulary: int
    tokens: int
    rows: int
    way: str

    def shown(self) -> str:
        """The cell as the beginning of a table's row."""
        return (
            f"| {self.work}, {self.way} | {self.size} | {self.vocabulary:,} | {self.tokens:,} "
            f"| {self.rows} |"
        )


LARGE = 131_072
CELLS = (
    *(
        Cell("sensitivity", "34M", vocabulary, tokens, 1, way)
        for vocabulary in (8192, LARGE)
        for tokens in (64, 512, 2048)
        for way in ("whole", "by layer")
    ),
    *(
        Cell("training", "3M", vocabulary, tokens, rows, way)
        for vocabulary in (8192, LARGE)
        for tokens, rows in ((512, 1), (512, 8), (2048, 2))
        for way in ("kept", "checkpointed")
    ),
    *(
        Cell("evaluation", "3M", vocabulary, tokens, rows, "both tasks")
        for vocabulary in (8192, LARGE)
        for tokens, rows in ((512, 1), (512, 8), (2048, 8))
    ),
)


def _measure(cell: Cell, place: Path) -> tuple[int, int]:
    """Run a cell; returns needed and measured bytes."""
    import torch

    torch.set_num_threads(1)
    for folder, size, vocabulary in (
        ("warm", inputs.TINY.teacher, inputs.VOCABULARY),
        ("model", SIZES[cell.size], cell.vocabulary),
    ):
        inputs.model(size, vocabulary=vocabulary).save_pretrained(place / folder)
    run = {"sensitivity": _sensitivity, "training": _training, "evaluation": _evaluation}[cell.work]
    run(cell, place / "warm", tokens=16)  # imports what is imported late
    growth = peak_growth(lambda: run(cell, place / "model", tokens=cell.tokens))
    return _needed(cell, place / "model"), growth


def _needed(cell: Cell, folder: Path) -> int:
    from paraknow_core.inspection.cost import training_bytes
    from paraknow_core.inspection.evaluation_memory import evaluation_bytes
    from paraknow_core.inspection.sensitivity_memory import sensitivity_memory
    from paraknow_core.models.describe import describe

    model = describe(folder)
    if cell.work == "sensitivity":
        need = sensitivity_memory(
            model, element_bytes=4, longest=cell.tokens, tokens=2 * cell.tokens
        )
        return need.streamed if cell.way == "by layer" else need.whole
    if cell.work == "evaluation":
        return evaluation_bytes(
            model, element_bytes=4, rows=cell.rows, tokens=cell.tokens, answer=_ANSWER
        )
    adapter = (folder / "start" / "adapter_model.safetensors").stat().st_size
    return training_bytes(
        model,
        element_bytes=4,
        adapter_bytes=adapter,
        tokens=cell.rows * cell.tokens,
        predicted=cell.rows * cell.tokens // 2,
        longest=cell.tokens,
        recomputed=cell.way == "checkpointed",
    )


def _rows(tokens: int, count: int) -> list[TokenisedExample]:
    ids = tuple(10 + place % 1000 for place in range(tokens))
    labels = (NO_LOSS,) * (tokens // 2) + ids[tokens // 2 :]
    return [TokenisedExample(ids, labels)] * count


def _sensitivity(cell: Cell, folder: Path, *, tokens: int) -> object:
    from paraknow_core.inspection.sensitivity_memory import sensitivity_memory
    from paraknow_core.models.describe import describe
    from paraknow_core.models.load import load_model
    from paraknow_core.sensitivity.accumulate import accumulate
    from paraknow_core.sensitivity.streamed.stream import stream

    samples, scratch = _rows(tokens, 2), folder / "scratch"
    if cell.way == "by layer":
        scratch.mkdir()
        with small_blocks_given_back():
            return stream(folder, samples, take=lambda *_: [], out=scratch, scratch=scratch)
    need = sensitivity_memory(describe(folder), element_bytes=4, longest=tokens, tokens=2 * tokens)
    return accumulate(_own(load_model(folder)), samples, recompute_from=need.recompute_from)


def _training(cell: Cell, folder: Path, *, tokens: int) -> object:
    from paraknow_core.finetuning.finetune import finetune
    from paraknow_core.finetuning.recipe import FineTuningRecipe
    from paraknow_core.lora.start_point import plain_start
    from paraknow_core.models.describe import MATRIX_ROLES
    from paraknow_core.partial_results import PartialResults

    plain_start(
        folder, folder / "start", roles=MATRIX_ROLES, rank=8, alpha=8.0, seed=0, dropout=0.05
    )
    recipe = FineTuningRecipe(
        learning_rate=1e-3,
        batch_size=cell.rows,
        epochs=1,
        gradient_checkpointing=cell.way == "checkpointed",
    )
    return finetune(
        student_folder=folder,
        start_folder=folder / "start",
        train=_rows(tokens, 2 * cell.rows),
        out_folder=folder / "out",
        partial=PartialResults(folder / "work"),
        recipe=recipe,
    )


_ANSWER = 4


def _evaluation(cell: Cell, folder: Path, *, tokens: int) -> object:
    from paraknow_core.evaluation.evaluate import evaluate
    from paraknow_core.models.load import load_model

    words = [f"w{10 + place % 1000}" for place in range(tokens - 4)]  # within 2,048 positions
    prompt, answer = " ".join(words[: tokens // 2]) + " ", " ".join(words[tokens // 2 :])
    rows = [Example(f"r{number}", prompt, answer) for number in range(cell.rows)]
    return evaluate(
        _own(load_model(folder)),
        _tokenizer(),
        rows,
        max_new_tokens=_ANSWER,
        batch_size=cell.rows,
    )


def _tokenizer() -> Any:
    """A word is a token: w17 is 17."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    words = {f"w{number}": number for number in range(inputs.VOCABULARY - 1)}
    words["end"] = inputs.VOCABULARY - 1
    made = Tokenizer(models.WordLevel(words, unk_token="w0"))
    made.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return PreTrainedTokenizerFast(tokenizer_object=made, eos_token="end", pad_token="end")


def _own(model: Any) -> Any:
    """Make the weights the process's own: mapped ones count only as far as they were touched."""
    import torch

    for parameter in model.parameters():
        parameter.data = parameter.data.clone(memory_format=torch.contiguous_format)
    return model


def main() -> None:
    if len(sys.argv) > 1:  # one measurement, in a process of its own
        work, size, vocabulary, tokens, rows, way = sys.argv[1:]
        cell = Cell(work, size, int(vocabulary), int(tokens), int(rows), way)
        with tempfile.TemporaryDirectory() as place:
            print(json.dumps(_measure(cell, Path(place))))
        return
    print(
        "| work | model | vocabulary | tokens of a row | rows | needed MB | measured MB | times |"
    )
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    for cell in CELLS:
        answer = subprocess.run(
            [sys.executable, "-m", "benchmarks.memory", *map(str, astuple(cell))],
            check=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=os.environ | GIVES_BACK,
        )
        needed, measured = json.loads(answer.stdout.splitlines()[-1])
        times = measured / needed
        print(
            cell.shown(), f"{needed / 1e6:.0f} | {measured / 1e6:.0f} | {times:.2f} |", flush=True
        )


if __name__ == "__main__":
    main()
