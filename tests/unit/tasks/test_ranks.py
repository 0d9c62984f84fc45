"""One training in several processes: the same one, ended as a whole, gone on with as a whole."""

import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy
import pytest
import torch
from support.child_work import begin_both, second_fails, whereabouts
from support.patience import PATIENCE, wait_until
from support.ranked import ROWS, train, train_all
from support.starts import token_examples, transfer_start
from support.tiny import tiny_model
from torch.utils.data import SequentialSampler

from paraknow_core.data.examples import NO_LOSS
from paraknow_core.distillation.loss import TokenTargets
from paraknow_core.distillation.targets import (
    TaughtExample,
    TeacherTargets,
    offsets_of,
    rows_digest,
    write_targets,
)
from paraknow_core.errors import ConfigError, DataError
from paraknow_core.finetuning.finetune import LOG
from paraknow_core.finetuning.rank_batches import RankBatches, idle_row
from paraknow_core.finetuning.ranks import Ranks, join
from paraknow_core.finetuning.recipe import (
    FineTuningRecipe,
    examples_at_once,
    numbers_of,
    trainer_arguments,
)
from paraknow_core.lora.adapter import WEIGHTS
from paraknow_core.lora.start_point import plain_start
from paraknow_core.models import logit_chunks
from paraknow_core.models.describe import MATRIX_ROLES
from paraknow_core.partial_results import PartialResults
from paraknow_core.progress import no_progress
from tasks.checks.preflight import check_processes
from tasks.engine.child import ChildCancelledError, ChildError
from tasks.engine.devices.ranks import run_in_ranks
from tasks.engine.devices.turn import device_names, gpus_of
from tasks.engine.run import RunConfig
from tasks.engine.workers import WorkerPool, WorkersClosedError

SAME: dict[str, dict[str, Any]] = {
    "accumulated": {"micro_batch_size": 2, "start": "plain"},
    "grouped and packed": {"group_by_length": True, "packing": True, "micro_batch_size": 4},
    "stopped early": {
        "learning_rate": 2e-2,
        "epochs": 4,
        "lr_schedule": "constant",
        "early_stopping": {"patience": 1, "every": 2},
    },
    "distilled": {
        "distillation": {"share": 0.5},
        "targets": True,
        "epochs": 1,
        "logits_at_once": 192,
    },
}
"""Trainings that are to be the same in two processes as in one."""
DRAWN: dict[str, Any] = {"dropout": 0.2, "checkpoint_steps": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("ranks")
    tiny_model(folder / "student", layers=1)
    transfer_start(folder / "student", folder / "start")
    plain_start(folder / "student", folder / "plain", roles=MATRIX_ROLES, rank=2, alpha=2.0, seed=9)
    rows = token_examples(ROWS)
    answers = torch.tensor([label for row in rows for label in row.labels if label != NO_LOSS])
    rest = torch.full((len(answers),), -1.0)
    told = TokenTargets(answers[:, None], torch.full((len(answers), 1), -0.5), rest)
    write_targets(TeacherTargets(told, offsets_of(rows), rows_digest(rows), 2.0), folder)
    return folder


def settings_of(case: dict[str, Any], folder: Path) -> dict[str, Any]:
    return case | ({"targets": folder} if "targets" in case else {})


@pytest.fixture(scope="module")
def in_two(folder: Path) -> dict[str, tuple[Any, ...]]:
    """What two processes train, one after another; one training had been killed in its middle."""
    drawn = DRAWN | {"processes": 2}
    stopped = {"killed": (PartialResults(folder / "killed work"), drawn)}
    begin = partial(run_in_ranks, train_all, count=2, folder=folder)
    with pytest.raises(ChildError, match=r"^process 2 of 2 failed.*exit code -9"):
        begin(progress=no_progress, cases=stopped, dies_at=3)
    assert not (folder / "killed" / WEIGHTS).exists()
    cases = {"killed": (PartialResults(folder / "killed work"), drawn)}
    cases["whole"] = PartialResults(folder / "whole work"), drawn
    for name, case in SAME.items():
        how = settings_of(case, folder) | {"processes": 2}
        cases[name] = PartialResults(folder / f"{name} work"), how
    seen: list[tuple[int, int]] = []
    found: dict[str, tuple[Any, ...]] = begin(
        progress=lambda done, total, _: seen.append((done, total)), cases=cases
    )
    assert len(seen) == sum(len(rows) for rows, *_ in found.values()) - 2, "each step is told once"
    return found


@pytest.mark.parametrize("name", SAME)
def test_two_processes_train_what_one_trains(
    name: str,
    in_two: dict[str, tuple[Any, ...]],
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    how = settings_of(SAME[name], folder)
    monkeypatch.setattr(logit_chunks, "CHUNK_ELEMENTS", 0)  # is put back
    alone = train(folder, no_progress, PartialResults(tmp_path), f"{name} alone", **how)
    rows, deltas, _, best = in_two[name]
    assert (len(rows), best) == (alone.steps, alone.best_step)
    for one, two in zip(alone.rows, rows, strict=True):
        assert one.keys() == two.keys()
        assert two["learning_rate"] == one["learning_rate"]
        for field in one.keys() - {"epoch", "learning_rate"}:
            assert two[field] == pytest.approx(one[field], rel=2e-5), (one["step"], field)
    for module in alone.adapter.factors:
        largest = float(alone.adapter.delta(module).abs().max())
        numpy.testing.assert_allclose(
            deltas[module], alone.adapter.delta(module), rtol=0, atol=1e-4 * largest
        )


def test_a_killed_training_goes_on_to_the_same_bytes(
    in_two: dict[str, tuple[Any, ...]], folder: Path
) -> None:
    assert in_two["killed"][2] == 2
    assert in_two["whole"][2] is None
    for name in (WEIGHTS, LOG):
        one, two = ((folder / run / name).read_bytes() for run in ("whole", "killed"))
        assert one == two, name


@pytest.mark.parametrize(
    ("how", "error", "message"),
    [
        ("refuses", DataError, r"^row 7 is empty$"),
        ("breaks", ChildError, r"^process 2 of 2 failed.*ZeroDivisionError: by zero"),
        ("SIGTERM", ChildCancelledError, "cancelled"),
    ],
)
def test_what_fails_in_one_process_ends_all_and_is_told(
    how: str, error: type[Exception], message: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=f"(?s){message}"):
        run_in_ranks(second_fails, count=2, progress=no_progress, folder=tmp_path, how=how)
    pids = [int(path.read_text()) for path in tmp_path.iterdir()]
    assert len(pids) == 2
    for pid in pids:
        assert has_ended(pid)


def test_processes_end_with_the_worker_that_started_them(pool: WorkerPool, tmp_path: Path) -> None:
    failed: list[Exception] = []

    def work() -> None:
        try:
            with pool.worker("cpu") as worker:
                worker.run(begin_both, progress=no_progress, folder=tmp_path)
        except Exception as error:  # noqa: BLE001 - is looked at below
            failed.append(error)

    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    places = [tmp_path / "0", tmp_path / "1"]
    wait_until("both have begun", lambda: all(p.is_file() for p in places) or failed)
    assert not failed
    pids = [int(place.read_text()) for place in places]
    pool.close()
    thread.join(PATIENCE)
    assert [type(error) for error in failed] == [WorkersClosedError]
    for pid in pids:
        wait_until(f"{pid} has ended", lambda pid=pid: has_ended(pid))


def has_ended(pid: int) -> bool:
    """Whether a process is gone, or only waits for somebody to ask how it ended."""
    try:
        told = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return True
    return told.rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("rows", [16, 17, 18, 21, 23, 3])
@pytest.mark.parametrize("count", [2, 4])
def test_processes_share_each_batch_as_one_process_cuts_it(rows: int, count: int) -> None:
    order = SequentialSampler(range(rows))
    shares = [
        RankBatches(order, batch_size=8, at_once=2, ranks=Ranks(n, count), idle=rows)
        for n in range(count)
    ]
    dealt = [list(share) for share in shares]
    assert [len(share) for share in shares] == [len(batches) for batches in dealt]
    assert len({len(batches) for batches in dealt}) == 1, "they would wait for each other"
    turns = 8 // (2 * count)
    for at in range(0, len(dealt[0]), turns):
        step = [
            each for turn in range(at, at + turns) for b in dealt for each in b[turn : turn + 1]
        ]
        begin = at * 2 * count
        wanted = list(range(begin, min(begin + 8, rows)))
        assert [row for each in step for row in each if row < rows] == wanted
        assert [each for each in step if each != [rows]] == [
            wanted[n : n + 2] for n in range(0, len(wanted), 2)
        ]


def test_an_idle_row_has_no_loss_of_either_kind() -> None:
    (row,) = token_examples(1)
    assert (idle_row(row).answer_tokens, len(idle_row(row).input_ids)) == (0, 1)
    told = TokenTargets(torch.zeros(2, 3), torch.zeros(2, 3), torch.zeros(2))
    idle = idle_row(TaughtExample(row.input_ids, row.labels, told))
    assert isinstance(idle, TaughtExample)
    assert (idle.answer_tokens, len(idle.targets.log_rest_N)) == (0, 0)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"processes": 3, "batch_size": 8}, "3 does not divide the batch size, 8"),
        (
            {"processes": 2, "micro_batch_size": 4, "batch_size": 4},
            "micro_batch_size of 4, but 8 does not divide the batch size, 4",
        ),
        ({"processes": 2, "quantise": "nf4"}, "in 4 bits .* is trained in one process"),
        ({"processes": 0}, "processes"),
    ],
)
def test_what_processes_cannot_share_is_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        FineTuningRecipe(**settings)


def test_processes_change_neither_keys_nor_the_batch(tmp_path: Path) -> None:
    shared = FineTuningRecipe(batch_size=16, processes=2)
    assert numbers_of(shared) == numbers_of(FineTuningRecipe(batch_size=16))
    assert examples_at_once(shared) == 8
    told = trainer_arguments(shared, drafts=tmp_path, steps=1, device="cpu")
    assert (told["per_device_train_batch_size"], told["gradient_accumulation_steps"]) == (8, 1)
    with pytest.raises(ConfigError, match="processes is 2, but this training was started in 1"):
        join(2, device="cpu")


def test_gpus_that_are_not_there_are_refused_before_anything_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def check(processes: int) -> None:
        check_processes({}, {}, processes=processes, run=RunConfig(device="cuda"))

    monkeypatch.setattr(RunConfig, "device_type", lambda _run: "cuda")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setattr(torch.distributed, "is_backend_available", lambda name: name == "nccl")
    check(2)
    with pytest.raises(ConfigError, match=r"processes is 3, .* but this process sees 2"):
        check(3)
    monkeypatch.setattr(RunConfig, "device_type", lambda _run: "cpu")
    check(1)
    with pytest.raises(ConfigError, match="this build of torch lacks gloo"):
        check(3)


def test_gpus_are_taken_in_one_order_whatever_is_shown_first() -> None:
    shown = {"CUDA_VISIBLE_DEVICES": "2, 1,3"}
    assert gpus_of(shown, 2) == ("2", "1")
    assert device_names("cuda", shown, 2) == ("gpu1", "gpu2")
    assert device_names("cuda", {}, 2) == ("gpu0", "gpu1")
    with pytest.raises(ConfigError, match=r"processes is 4.* shows 3 here"):
        gpus_of(shown, 4)


@pytest.fixture
def pool() -> Iterator[WorkerPool]:
    pool = WorkerPool(cpu=1, gpus=("0", "1", "1"))
    yield pool
    pool.close()


def test_a_training_takes_the_slots_of_all_its_gpus(pool: WorkerPool) -> None:
    ended: list[int] = []

    def take() -> None:
        for _ in range(3):
            with pool.worker("cuda", 2):
                pass
        ended.append(1)

    with pool.worker("cuda", 2) as worker:
        _, shown = worker.run(whereabouts, progress=no_progress, name="CUDA_VISIBLE_DEVICES")
        assert shown == "0,1"
        others = [threading.Thread(target=take, daemon=True) for _ in range(3)]
        for other in others:
            other.start()
        assert not ended
    wait_until("all have had both", lambda: len(ended) == 3)
    for other in others:
        other.join(PATIENCE)
    with pool.worker("cuda") as one, pool.worker("cuda") as two, pool.worker("cuda") as three:
        each = [one, two, three]
        assert sorted(w.environment["CUDA_VISIBLE_DEVICES"] for w in each) == ["0", "1", "1"]
    with pytest.raises(ConfigError, match=r"processes is 3, .* slots\.gpus has 0, 1"):
        pool.worker("cuda", 3).__enter__()
