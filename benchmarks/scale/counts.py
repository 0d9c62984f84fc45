"""How many steps a comparison of any size has: which cells of a small one share each step.

The planner plans a sample of 2 teachers × 4 students of 2 shapes × 2 tasks, keys and all. Each step
that it finds is asked for by some of the 16 cells: by those of one teacher and one task, say, and
then there is one such step for each teacher and task, however many there are.
"""

import json
import tempfile
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flows.config.compare import CompareConfig
from flows.config.transfer import TransferConfig
from flows.graph.arm import Arm, ArmOutcome, run_arm
from flows.graph.cell import Cell
from flows.graph.pair import ModelPair, acquire_pair
from flows.graph.runner import Handle
from flows.graph.transfer_steps import wire
from flows.planning.compare_planner import ComparePlanner
from flows.planning.planner import PlannedStep
from tasks.engine.run import RunConfig
from tasks.engine.step import C, Step

Shared = tuple[str, ...]
"""What there is one step for each of: some of ``teacher``, ``student`` or ``shape``, ``task``."""

METHODS = ("plain", "transfer", "pissa")
CONTROLS = ("same-spectrum", "shuffled-vocabulary")
RATES = (1e-4, 2e-4, 5e-4, 1e-3)
SEEDS = (0, 1, 2, 3, 4)
_ROWS = 40
_WORDS = 40


@dataclass(frozen=True)
class Size:
    """Of an undertaking: how many of each, students being of so many shapes."""

    teachers: int
    students: int
    shapes: int
    tasks: int

    @property
    def cells(self) -> int:
        """Pairs on tasks."""
        return self.teachers * self.students * self.tasks

    def of(self, shared: Shared) -> int:
        """Return how many steps there are of which one is for each of these."""
        sizes = {
            "teacher": self.teachers,
            "student": self.students,
            "shape": self.shapes,
            "task": self.tasks,
        }
        product = 1
        for name in shared:
            product *= sizes[name]
        return product


SAMPLE = Size(2, 4, 2, 2)


@dataclass(frozen=True)
class Law:
    """How many steps of each kind there are for each of what shares them, and how often asked for.

    Attributes:
        distinct: (step, shared by) → steps for each.
        asked: how often the wiring asks for a step, in a cell.
    """

    distinct: Mapping[tuple[str, Shared], int]
    asked: float

    def steps(self, size: Size) -> dict[str, int]:
        """Return step → how many an undertaking of this size has."""
        found: Counter[str] = Counter()
        for (step, shared), each in self.distinct.items():
            found[step] += each * size.of(shared)
        return dict(found)


class _Recorder(ComparePlanner):
    """A planner that notes which cells asked for each step."""

    def __init__(self, run: RunConfig, aside: Path) -> None:
        super().__init__(run, aside)
        self.cell = (0, 0, 0)
        self.asked_by: dict[int, set[tuple[int, int, int]]] = defaultdict(set)

    def start(self, step: Step[C], config: C, *, label: str, **inputs: Handle) -> PlannedStep:
        """Plan one step, and note for whom."""
        planned = super().start(step, config, label=label, **inputs)
        self.asked_by[id(planned)].add(self.cell)
        return planned


def compared(size: Size = SAMPLE) -> Law:
    """Return the law of a whole comparison: rates tuned, controls, five seeds each."""
    return _law(size, _plan_cells_of_comparison)


def moved(size: Size = SAMPLE) -> Law:
    """Return the law of one transfer a cell: one rate, one seed, and the untouched student."""
    return _law(size, _plan_transfers)


def counted(size: Size, law: str) -> dict[str, int]:
    """Return step → how many the planner itself finds for this size; see `compared` and `moved`."""
    plan = {"compared": _plan_cells_of_comparison, "moved": _plan_transfers}[law]
    with _sample(size) as (folder, planner):
        plan(size, folder, planner)
        return dict(Counter(step.step for step in planner.steps))


def _law(size: Size, plan: Any) -> Law:
    with _sample(size) as (folder, planner):
        plan(size, folder, planner)
        found: Counter[tuple[str, Shared]] = Counter()
        for step in planner.steps:
            found[step.step, _shared_by(planner.asked_by[id(step)], size)] += 1
        asked = sum(step.uses for step in planner.steps) / size.cells
    each = {}
    for (step, shared), count in found.items():
        each[step, shared], rest = divmod(count, size.of(shared))
        if rest:
            msg = f"{count} steps {step} are not as many for each of {shared}"
            raise AssertionError(msg)
    return Law(each, asked)


def _shared_by(cells: set[tuple[int, int, int]], size: Size) -> Shared:
    """Say what of a cell decides a step, from the cells that asked for it."""
    teachers, students, tasks = ({cell[n] for cell in cells} for n in range(3))
    if len(cells) != len(teachers) * len(students) * len(tasks):
        msg = f"no law is known by which these cells share a step: {sorted(cells)}"
        raise AssertionError(msg)
    of_a_shape = size.students // size.shapes
    found = []
    if len(teachers) == 1 < size.teachers:
        found.append("teacher")
    if len(students) == 1 < size.students:
        found.append("student")
    elif len(students) == of_a_shape < size.students:
        found.append("shape")
    elif len(students) != size.students:
        msg = f"students {sorted(students)} share a step"
        raise AssertionError(msg)
    if len(tasks) == 1 < size.tasks:
        found.append("task")
    return tuple(found)


@contextmanager
def _sample(size: Size) -> Iterator[tuple[Path, _Recorder]]:
    with tempfile.TemporaryDirectory(prefix="paraknow-scale-") as temporary:
        folder = Path(temporary)
        for n in range(size.teachers):
            _write_model(folder / f"teacher{n}", width=32, layers=2, seed=n)
        for n in range(size.students):
            shape = n * size.shapes // size.students
            _write_model(folder / f"student{n}", width=8 * (shape % 3 + 1), layers=1, seed=100 + n)
        for n in range(size.tasks):
            rows = [{"prompt": f"w{i} w{n} ", "answer": f"w{i % 7}"} for i in range(_ROWS)]
            text = "".join(json.dumps(row) + "\n" for row in rows)
            (folder / f"task{n}.jsonl").write_text(text, encoding="utf-8")
        (folder / "aside").mkdir()
        run = RunConfig(store=str(folder / "store"), device="cpu", threads=1)
        yield folder, _Recorder(run, folder / "aside")


def _settings(folder: Path, task: int) -> dict[str, Any]:
    return {
        "rows": {"path": str(folder / f"task{task}.jsonl")},
        "template": "none",
        "sizes": {"seeds": 4, "train": 16, "validation": 4, "test": 8},
    }


def _cells(size: Size) -> Iterator[tuple[int, int, int]]:
    for teacher in range(size.teachers):
        for student in range(size.students):
            for task in range(size.tasks):
                yield teacher, student, task


def _plan_cells_of_comparison(size: Size, folder: Path, planner: _Recorder) -> None:
    pairs = [
        {"name": f"t{t}-s{s}", "teacher": {"model": str(folder / f"teacher{t}")}}
        | {"student": {"model": str(folder / f"student{s}")}}
        for t in range(size.teachers)
        for s in range(size.students)
    ]
    config = CompareConfig.model_validate(
        {
            "name": "scale",
            "pairs": pairs,
            "tasks": [{"name": f"k{k}", "data": _settings(folder, k)} for k in range(size.tasks)],
            "methods": list(METHODS),
            "controls": list(CONTROLS),
            "settings": {"lora": {"rank": 4, "alpha": 4}, "decompose": {"max_rank": 4}}
            | {"evaluate": {"max_new_tokens": 2}},
            "tuning": {"learning_rates": list(RATES), "seeds": [1000]},
            "seeds": list(SEEDS),
            "run": planner.run.model_dump(),
        }
    )

    def run_arms(arms: Sequence[Arm], _acquired: ModelPair) -> list[ArmOutcome]:
        return [
            run_arm(
                arm,
                acquire_pair(arm.settings, planner, methods=(arm.config.start,)),
                planner,
                planner.together,
            )
            for arm in arms
        ]

    for cell, (pair, task) in zip(_cells(size), config.cells(), strict=True):
        planner.cell = cell
        outcome = Cell(config, pair, task).run(planner, run_arms)
        failed = outcome.reason or outcome.first_reason
        if failed:
            raise AssertionError(failed)


def _plan_transfers(size: Size, folder: Path, planner: _Recorder) -> None:
    for teacher, student, task in _cells(size):
        planner.cell = teacher, student, task
        config = TransferConfig.model_validate(
            {
                "name": "scale",
                "teacher": {"model": str(folder / f"teacher{teacher}")},
                "student": {"model": str(folder / f"student{student}")},
                "data": _settings(folder, task),
                "arms": ["transfer"],
                "lora": {"rank": 4, "alpha": 4},
                "decompose": {"max_rank": 4},
                "evaluate": {"max_new_tokens": 2},
                "run": planner.run.model_dump(),
            }
        )
        wire(config, planner)


def _write_model(folder: Path, *, width: int, layers: int, seed: int) -> None:
    """Write a model folder of a few kilobytes, of other weights for each seed."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import AutoConfig, AutoModelForCausalLM, PreTrainedTokenizerFast
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    words = ["<pad>", "<s>", "</s>", "<unk>", *(f"w{n}" for n in range(_WORDS))]
    config = AutoConfig.for_model(
        "llama",
        hidden_size=width,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=2 * width,
        vocab_size=len(words),
        tie_word_embeddings=False,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    torch.manual_seed(seed)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    known = models.WordLevel({word: n for n, word in enumerate(words)}, unk_token="<unk>")
    tokenizer = Tokenizer(known)
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        bos_token="<s>",
        eos_token="</s>",
        unk_token="<unk>",
    ).save_pretrained(folder)
