"""Batches that waste less: rows of like lengths together, and several rows in one sequence."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.starts import token_examples, transfer_start
from support.tiny import FAMILIES, tiny_model
from torch import Tensor
from torch.nn import functional

from paraknow_core.data.batches import collate
from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.data.packing import collate_packed, pack
from paraknow_core.distillation.loss import TokenTargets
from paraknow_core.distillation.targets import TaughtExample, collate_taught, take_targets
from paraknow_core.errors import ConfigError
from paraknow_core.finetuning import trainer
from paraknow_core.finetuning.batches import predictions
from paraknow_core.finetuning.finetune import TrainingResult, finetune, numbers_of
from paraknow_core.finetuning.length_groups import LengthGroups
from paraknow_core.finetuning.packing_check import check_packing
from paraknow_core.finetuning.recipe import FineTuningRecipe
from paraknow_core.lora.adapter import WEIGHTS
from paraknow_core.lora.start_point import plain_start
from paraknow_core.models.describe import MATRIX_ROLES
from paraknow_core.models.load import load_model
from paraknow_core.partial_results import PartialResults

Run = Callable[..., TrainingResult]
SLIDING: dict[str, dict[str, Any]] = {
    "mistral": {"sliding_window": 3},
    "qwen2": {"sliding_window": 3, "use_sliding_window": True, "max_window_layers": 1},
    "gemma2": {"sliding_window": 3},
    "gemma3_text": {"sliding_window": 3},
    "phi3": {"sliding_window": 3},
}
"""Windows that are shorter than rows, and so than what a sequence of several rows would show."""


def rows_of(*lengths: int) -> list[TokenisedExample]:
    source = random.Random(len(lengths))
    drawn = [tuple(source.randrange(4, 64) for _ in range(length)) for length in lengths]
    return [TokenisedExample(ids, (NO_LOSS,) * 2 + ids[2:]) for ids in drawn]


@pytest.mark.parametrize("lengths", [(9, 5, 3, 8, 6, 1), (4,), (2, 2, 2), (3, 1, 1, 1, 1, 1, 1)])
def test_every_row_is_in_one_sequence_that_is_no_longer_than_the_longest(
    lengths: tuple[int, ...],
) -> None:
    rows = [TokenisedExample((4,) * n, (4,) * n) for n in lengths]
    found = pack(rows)
    assert sorted(map(id, (row for sequence in found for row in sequence))) == sorted(map(id, rows))
    sums = [sum(len(row.input_ids) for row in sequence) for sequence in found]
    assert max(sums) == max(lengths)
    assert all(one + other > max(lengths) for i, one in enumerate(sums) for other in sums[:i])


@pytest.mark.parametrize(
    ("family", "changes"),
    [(f, {}) for f in FAMILIES] + list(SLIDING.items()),
)
def test_each_rows_loss_and_gradient_are_those_of_the_row_alone(
    tmp_path: Path, family: str, changes: dict[str, Any]
) -> None:
    folder = tiny_model(tmp_path / "model", family, layers=2, **changes)
    model: Any = load_model(folder).double()
    weights = list(model.parameters())
    rows = rows_of(9, 3, 8, 6, 5)
    assert len(pack(rows)) == 4

    def losses(batch: dict[str, Tensor]) -> Tensor:
        logits, labels = predictions(model, batch)
        return functional.cross_entropy(logits, labels, reduction="none")

    together = losses(collate_packed(rows))
    at = 0
    for row in (row for sequence in pack(rows) for row in sequence):
        alone = losses(collate([row]))
        found = together[at : at + len(alone)]
        at += len(alone)
        torch.testing.assert_close(found, alone, rtol=1e-9, atol=1e-12)
        ours, wanted = (
            torch.autograd.grad(loss.sum(), weights, retain_graph=True, allow_unused=True)
            for loss in (found, alone)
        )
        for one, other in zip(ours, wanted, strict=True):
            # Gemma 3's norms compute in float32, whatever the model's dtype.
            torch.testing.assert_close(one, other, rtol=1e-5, atol=2e-8)
    assert at == len(together) == sum(row.answer_tokens for row in rows)


def test_a_teachers_targets_lie_beside_the_tokens_they_are_of() -> None:
    taught = [
        TaughtExample(
            row.input_ids,
            row.labels,
            TokenTargets(torch.tensor(row.labels[2:])[:, None], torch.zeros(n, 1), torch.ones(n)),
        )
        for row in rows_of(9, 3, 8, 6, 5)
        for n in (row.answer_tokens,)
    ]
    batch = collate_taught(taught, packed=True)
    targets = take_targets(batch)
    assert targets.ids_NK[:, 0].tolist() == batch["labels"][batch["labels"] != NO_LOSS].tolist()


def test_a_model_that_mixes_rows_is_refused_by_name(tmp_path: Path) -> None:
    model: Any = load_model(tiny_model(tmp_path / "model", "qwen3", layers=1)).train()
    check_packing(model, rows_of(9, 5))
    assert model.training
    forward = model.forward
    model.forward = lambda position_ids=None, **given: forward(**given)
    with pytest.raises(ConfigError, match=r"a qwen3 model .* Set packing to false"):
        check_packing(model, rows_of(9, 5))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("batching")
    tiny_model(folder / "student", layers=1)
    transfer_start(folder / "student", folder / "start")
    plain_start(folder / "student", folder / "plain", roles=MATRIX_ROLES, rank=2, alpha=2.0, seed=9)
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Run:
    def with_defaults(out: str = "out", start: str = "start", **changes: Any) -> TrainingResult:
        beside = {n: changes.pop(n) for n in ("progress", "checkpoint_steps") if n in changes}
        settings = {"learning_rate": 5e-3, "batch_size": 8, "epochs": 2, "dropout": 0.0} | changes
        return finetune(
            student_folder=folder / "student",
            start_folder=folder / start,
            train=token_examples(44),
            out_folder=tmp_path / out,
            partial=PartialResults(tmp_path / f"{out} work"),
            recipe=FineTuningRecipe(**settings),
            **beside,
        )

    return with_defaults


@pytest.fixture
def shapes(monkeypatch: pytest.MonkeyPatch) -> list[tuple[list[TokenisedExample], Any]]:
    """The examples of every batch that is trained on, and the batch's shape."""
    seen: list[tuple[list[TokenisedExample], Any]] = []
    for name in ("collate", "collate_packed"):
        made = getattr(trainer, name)

        def watched(rows: Any, made: Any = made) -> Any:
            batch = made(rows)
            seen.append((list(rows), tuple(batch["input_ids"].shape)))
            return batch

        monkeypatch.setattr(trainer, name, watched)
    return seen


def test_packed_training_is_the_same_training(run: Run, shapes: list[Any]) -> None:
    padded = run()
    batches, rows = [set(rows) for rows, _ in shapes], sum(shape[0] for _, shape in shapes)
    shapes.clear()
    packed = run("packed", packing=True, micro_batch_size=4)
    assert [{*one, *other} for (one, _), (other, _) in _pairs(shapes)] == batches
    assert sum(shape[0] for _, shape in shapes) < rows
    for one, two in zip(padded.rows, packed.rows, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert two["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)
    for module in padded.adapter.factors:
        torch.testing.assert_close(
            packed.adapter.delta(module), padded.adapter.delta(module), rtol=1e-2, atol=1e-4
        )


def _pairs(found: list[Any]) -> list[tuple[Any, Any]]:
    """Micro-batches, two a step; the last step of an epoch has one."""
    paired, number = [], 0
    while number < len(found):
        whole = len(found[number][0]) == 4 and (len(paired) % 6) < 5
        paired.append((found[number], found[number + 1] if whole else ([], None)))
        number += 2 if whole else 1
    return paired


def test_the_batches_of_groups_are_the_same_for_every_start(run: Run, shapes: list[Any]) -> None:
    run(group_by_length=True)
    batches = [rows for rows, _ in shapes]
    for epoch in (batches[:6], batches[6:]):
        drawn = sorted(row.input_ids for rows in epoch for row in rows)
        assert drawn == sorted(row.input_ids for row in token_examples(44))
    assert batches[:6] != batches[6:]
    shapes.clear()
    run("plain", start="plain", group_by_length=True, dropout=0.2)
    assert [rows for rows, _ in shapes] == batches


def test_grouped_rows_need_less_padding() -> None:
    lengths = [len(row.input_ids) for row in token_examples(400)]

    def padding(order: list[int]) -> int:
        batches = [[lengths[i] for i in order[at : at + 8]] for at in range(0, 400, 8)]
        return sum(len(batch) * max(batch) - sum(batch) for batch in batches)

    order = list(LengthGroups(lengths, batch_size=8, seed=0))
    assert sorted(order) == list(range(400))
    assert padding(order) < padding(list(range(400))) / 4
    assert order != list(LengthGroups(lengths, batch_size=8, seed=1))


def test_a_killed_training_in_groups_and_packed_goes_on_to_the_same_bytes(
    run: Run, tmp_path: Path
) -> None:
    settings = {"group_by_length": True, "packing": True, "dropout": 0.1, "checkpoint_steps": 4}
    whole = run(**settings)

    def stop(step: int, _total: int, _message: str) -> None:
        if step == 9:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("killed", **settings, progress=stop)
    again = run("killed", **settings)
    assert again.resumed_from == 8
    assert again.rows == whole.rows
    one, two = ((tmp_path / name / WEIGHTS).read_bytes() for name in ("out", "killed"))
    assert one == two


def test_the_order_is_transformers_own_at_a_seed_an_epoch() -> None:
    from transformers.trainer_pt_utils import get_length_grouped_indices

    lengths = [1 + n * 7 % 11 for n in range(30)]
    groups = LengthGroups(lengths, batch_size=4, seed=5)
    orders = [list(groups)]
    groups.set_epoch(1)
    orders += [list(groups)]
    wanted = [
        get_length_grouped_indices(lengths, 4, generator=torch.Generator().manual_seed(5 + epoch))
        for epoch in (0, 1)
    ]
    assert orders == wanted
    assert len(groups) == 30


def test_keys_of_trainings_without_them_are_as_before() -> None:
    assert not {"packing", "group_by_length"} & numbers_of(FineTuningRecipe()).keys()
    changed = numbers_of(FineTuningRecipe(packing=True, group_by_length=True))
    assert (changed["packing"], changed["group_by_length"]) == (True, True)
