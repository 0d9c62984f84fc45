import gc
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from support.starts import token_examples, transfer_start
from support.tiny import tiny_model
from torch.func import functional_call
from torch.nn import functional

from paraknow_core.data.batches import collate
from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.errors import ConfigError, DataError, NumericsError
from paraknow_core.finetuning.batches import answer_loss
from paraknow_core.finetuning.finetune import LOG, TrainingResult, finetune
from paraknow_core.finetuning.load_back import probe, prove
from paraknow_core.finetuning.recipe import FineTuningRecipe
from paraknow_core.lora.adapter import CONFIG, WEIGHTS, write_adapter
from paraknow_core.lora.adapter_reader import read_adapter
from paraknow_core.lora.anchored_model import quiet_peft
from paraknow_core.lora.start_point import plain_start
from paraknow_core.models.describe import MATRIX_ROLES
from paraknow_core.models.load import load_model
from paraknow_core.partial_results import PartialResults
from paraknow_core.seals import MANIFEST

Finetune = Callable[..., TrainingResult]
GOOD = TokenisedExample((1, 2), (NO_LOSS, 2))


@pytest.fixture(scope="module", autouse=True)
def quick_collections() -> Iterator[None]:
    """A run collects garbage twice; hide the imported libraries' objects from it (0.7 s a run)."""
    import peft  # noqa: F401
    import transformers.trainer  # noqa: F401

    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"), "llama", layers=1)


@pytest.fixture(scope="module")
def start(student: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("start")
    transfer_start(student, folder)
    return folder


@pytest.fixture
def run(student: Path, start: Path, tmp_path: Path) -> Finetune:
    """Fine-tune with small defaults; the output goes to `out` below the test's folder."""

    def with_defaults(**changes: Any) -> TrainingResult:
        given: dict[str, Any] = {
            "student_folder": student,
            "start_folder": start,
            "train": token_examples(20),
            "out_folder": tmp_path / "out",
            "work_folder": tmp_path / "work",
            "seed": 0,
            "learning_rate": 5e-3,
            "batch_size": 8,
            "epochs": 2,
        }
        given |= changes
        partial = PartialResults(given.pop("work_folder"))
        settings = {n: given.pop(n) for n in FineTuningRecipe.model_fields if n in given}
        return finetune(partial=partial, recipe=FineTuningRecipe(**settings), **given)

    return with_defaults


def mean_loss(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The loss of the method: mean over all answer tokens of a batch."""
    return functional.cross_entropy(
        logits[:, :-1].flatten(0, 1), labels[:, 1:].flatten(), ignore_index=NO_LOSS
    )


def test_training_is_plain_adamw_on_the_formula(run: Finetune, student: Path, start: Path) -> None:
    """Every example in each step's one batch, so that the order plays no part."""
    examples, epochs, rate = token_examples(6, seed=3), 4, 1e-2
    result = run(
        train=examples, batch_size=6, epochs=epochs, learning_rate=rate, dropout=0.0,
        warmup_ratio=0.5, max_grad_norm=0.5,
    )  # fmt: skip

    model, origin = load_model(student), read_adapter(start)
    leaves = {m: [f.clone().requires_grad_() for f in pair] for m, pair in origin.factors.items()}
    parameters = [leaf for pair in leaves.values() for leaf in pair]
    optimizer = torch.optim.AdamW(parameters, lr=rate, weight_decay=0.0)
    batch = collate(examples)
    for step, row in enumerate(result.rows):
        weights = {
            f"{m}.weight": model.get_submodule(m).weight.detach()
            - origin.delta(m)
            + origin.scale * b @ a
            for m, (a, b) in leaves.items()
        }
        loss = mean_loss(functional_call(model, weights, kwargs=batch).logits, batch["labels"])
        optimizer.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        warm = min(1.0, step / 2)  # two of four steps; then linearly down to 0
        optimizer.param_groups[0]["lr"] = rate * min(warm, (epochs - step) / 2)
        optimizer.step()
        assert row["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert row["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)
        assert row["learning_rate"] == pytest.approx(optimizer.param_groups[0]["lr"])
    for module, (a, b) in leaves.items():
        wanted = (origin.scale * b @ a).detach() - origin.delta(module)
        assert wanted.abs().max() > 1e-3
        torch.testing.assert_close(result.adapter.delta(module), wanted, rtol=1e-3, atol=1e-5)


@pytest.mark.parametrize(
    "facts",
    [
        {"family": "qwen2", "tied": True},
        {"family": "mistral", "kv_heads": 1},
        {"family": "llama", "dtype": torch.bfloat16},
        {"family": "qwen2", "tied": True, "dtype": torch.bfloat16, "trained_in": "bfloat16"},
        {"family": "llama", "trained_in": "bfloat16"},
    ],
)
def test_two_lines_load_what_was_trained(
    facts: dict[str, Any], run: Finetune, tmp_path: Path
) -> None:
    from peft import PeftModel

    named = facts.pop("trained_in", "float32")
    dtype = getattr(torch, named)
    folder = tiny_model(tmp_path / "student", layers=1, **facts)
    transfer_start(folder, tmp_path / "start")
    before = (folder / "model.safetensors").read_bytes()
    examples = token_examples(20)
    result = run(
        student_folder=folder,
        start_folder=tmp_path / "start",
        compute_dtype=named,
        validation=examples,
    )
    assert (folder / "model.safetensors").read_bytes() == before
    assert result.load_back.relative <= result.load_back.tolerance
    assert result.load_back.examples == 4
    with quiet_peft():
        model = PeftModel.from_pretrained(load_model(folder, dtype=dtype), tmp_path / "out")
    loss = answer_loss(model, examples, batch_size=8)
    assert loss == pytest.approx(
        result.rows[-1]["eval_loss"], rel=1e-5 if dtype == torch.float32 else 1e-2
    )
    assert loss < answer_loss(load_model(folder, dtype=dtype), examples, batch_size=8) - 0.1


def test_plain_lora_is_delivered_at_its_own_rank(
    run: Finetune, student: Path, tmp_path: Path
) -> None:
    plain_start(student, tmp_path / "plain", roles=MATRIX_ROLES, rank=3, alpha=6.0, seed=0)
    result = run(start_folder=tmp_path / "plain")
    config = json.loads((tmp_path / "out" / CONFIG).read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (3, 6, 0.0)
    assert not result.adapter.is_zero
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == [CONFIG, WEIGHTS, LOG]


def test_micro_batches_and_recomputation_change_nothing_but_rounding(run: Finetune) -> None:
    """Answers differ in length, so a mean of micro-batches' means would show."""
    whole = run(dropout=0.0)
    cut = run(dropout=0.0, micro_batch_size=2, gradient_checkpointing=True)
    assert len(cut.rows) == len(whole.rows) == 6
    for one, two in zip(whole.rows, cut.rows, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
    for module in whole.adapter.factors:
        torch.testing.assert_close(
            cut.adapter.delta(module), whole.adapter.delta(module), rtol=1e-2, atol=1e-4
        )


def test_runs_with_one_seed_see_the_same_batches(
    run: Finetune, student: Path, tmp_path: Path
) -> None:
    """At a learning rate of almost nothing, each step's loss tells which examples it had."""
    plain_start(student, tmp_path / "plain", roles=MATRIX_ROLES, rank=2, alpha=2.0, seed=9)
    still = {"learning_rate": 1e-12, "dropout": 0.0}
    transfer = [row["loss"] for row in run(**still).rows]
    plain = [row["loss"] for row in run(**still, start_folder=tmp_path / "plain").rows]
    other = [row["loss"] for row in run(**still, seed=1).rows]
    assert plain == pytest.approx(transfer, rel=1e-5)
    assert other != pytest.approx(transfer, rel=1e-3)
    assert transfer[:3] != pytest.approx(transfer[3:], rel=1e-3)  # each epoch has its own order


def test_the_run_follows_from_its_seed_and_leaves_the_callers_random_state(
    run: Finetune, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    before = torch.random.get_rng_state()
    run(out_folder=tmp_path / "one")
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(5)
    run(out_folder=tmp_path / "two")
    run(out_folder=tmp_path / "other", seed=1)
    one, two, other = ((tmp_path / n / WEIGHTS).read_bytes() for n in ("one", "two", "other"))
    assert one == two
    assert one != other


def test_validation_is_logged_and_changes_nothing(
    run: Finetune, student: Path, tmp_path: Path
) -> None:
    held_out = token_examples(7, seed=8)
    run(out_folder=tmp_path / "without")
    result = run(out_folder=tmp_path / "with", validation=held_out)
    without, with_ = ((tmp_path / n / WEIGHTS).read_bytes() for n in ("without", "with"))
    assert without == with_
    rows = [json.loads(line) for line in (tmp_path / "with" / LOG).read_text().splitlines()]
    assert rows == result.rows
    assert [row["step"] for row in rows] == [1, 2, 3, 4, 5, 6]
    assert [row["step"] for row in rows if "eval_loss" in row] == [3, 6]
    assert [row["epoch"] for row in rows][2::3] == [1.0, 2.0]
    assert all(math.isfinite(row["loss"]) and row["grad_norm"] > 0 for row in rows)


def test_answer_loss_weighs_every_answer_token_the_same(student: Path) -> None:
    examples = token_examples(9, seed=4)
    model = load_model(student).train()
    total, tokens = 0.0, 0
    for example in examples:
        logits = model(input_ids=torch.tensor([example.input_ids])).logits[0].log_softmax(-1)
        for position, label in enumerate(example.labels):
            if label != NO_LOSS:
                total -= logits[position - 1, label].item()
                tokens += 1
    for batch_size in (1, 4, 100):
        found = answer_loss(model, examples, batch_size=batch_size)
        assert found == pytest.approx(total / tokens, rel=1e-5)
    assert model.training


class Stopped(Exception):
    """Stands for whatever ends a process."""


def stop_at(step: int) -> Callable[[int, int, str], None]:
    def progress(done: int, total: int, message: str) -> None:
        if done == step:
            raise Stopped

    return progress


@pytest.mark.parametrize("stop", [4, 5, 7])
def test_a_stopped_run_goes_on_to_the_same_bytes(stop: int, run: Finetune, tmp_path: Path) -> None:
    """Nine steps; checkpoints after 3 (end of an epoch) and 6, validation after 3, 6 and 9."""
    settings = {"epochs": 3, "checkpoint_steps": 3, "validation": token_examples(5, seed=6)}
    whole = run(**settings, out_folder=tmp_path / "whole", work_folder=tmp_path / "other")
    assert whole.resumed_from is None
    with pytest.raises(Stopped):
        run(**settings, progress=stop_at(stop))
    assert not (tmp_path / "out").exists()
    resumed = run(**settings)
    assert resumed.resumed_from == 3 * (stop // 3) - (3 if stop % 3 == 0 else 0)
    assert resumed.steps == whole.steps == 9
    for name in (WEIGHTS, CONFIG, LOG):
        assert (tmp_path / "out" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_a_stop_inside_an_epoch_resumes_to_the_same_bytes(run: Finetune, tmp_path: Path) -> None:
    """The checkpoint is two micro-batches into an epoch: order and dropout go on from there."""
    settings = {"micro_batch_size": 4, "checkpoint_steps": 2, "dropout": 0.3}
    run(**settings, out_folder=tmp_path / "whole", work_folder=tmp_path / "other")
    with pytest.raises(Stopped):
        run(**settings, progress=stop_at(5))
    assert run(**settings).resumed_from == 4
    assert (tmp_path / "out" / WEIGHTS).read_bytes() == (tmp_path / "whole" / WEIGHTS).read_bytes()


def test_unfinished_and_foreign_checkpoints_are_not_resumed(run: Finetune, tmp_path: Path) -> None:
    settings = {"checkpoint_steps": 1, "epochs": 2}
    with pytest.raises(Stopped):
        run(**settings, progress=stop_at(5))
    older, newest = sorted((tmp_path / "work" / "saved").iterdir())
    assert [int(path.name) for path in (older, newest)] == [3, 4]
    (newest / MANIFEST).unlink()
    assert run(**settings).resumed_from == 3
    assert run(**settings, learning_rate=1e-3).resumed_from is None
    assert run(**settings, learning_rate=1e-3).resumed_from == 5
    assert run(**settings, learning_rate=1e-3, train=token_examples(19)).resumed_from is None


def test_checkpoints_by_time(run: Finetune, tmp_path: Path) -> None:
    run(checkpoint_seconds=1e-9)
    assert len(list((tmp_path / "work").glob(f"saved/*/{MANIFEST}"))) == 2
    run(checkpoint_seconds=1e9, work_folder=tmp_path / "none")
    assert not list((tmp_path / "none").glob("*/*"))


def test_progress_tells_step_and_loss_and_nothing_is_printed(
    run: Finetune, capfd: pytest.CaptureFixture[str]
) -> None:
    told: list[tuple[int, int, str]] = []
    result = run(progress=lambda *report: told.append(report))
    assert [(done, total) for done, total, _ in told] == [(n, 6) for n in range(1, 7)]
    assert told[0][2] == f"loss {result.rows[0]['loss']:.4f}"
    assert capfd.readouterr().out == ""


def test_a_diverging_run_is_stopped(run: Finetune, tmp_path: Path) -> None:
    with pytest.raises(NumericsError, match=r"(loss|grad norm) became .* at step \d+ of .*Lower"):
        run(learning_rate=1e30, checkpoint_steps=1)
    assert not (tmp_path / "out").exists()


def test_the_proof_notices_another_adapter(
    run: Finetune, student: Path, start: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    run()
    examples = token_examples(3)
    with quiet_peft():
        expected = probe(PeftModel.from_pretrained(load_model(student), tmp_path / "out"), examples)
    given = {"student_folder": student, "dtype": torch.float32, "device": "cpu"}
    assert prove(expected, examples, adapter_folder=tmp_path / "out", **given).relative < 1e-6
    with pytest.raises(NumericsError, match="differ by up to"):
        prove(expected, examples, adapter_folder=start, **given)
    broken = read_adapter(tmp_path / "out")
    broken.factors["model.layers.0.mlp.up_proj"].b.fill_(float("nan"))
    write_adapter(tmp_path / "nan", broken)
    with pytest.raises(NumericsError, match="nan"):
        prove(expected, examples, adapter_folder=tmp_path / "nan", **given)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"learning_rate": 0.0}, ["learning_rate: must be greater than 0 (given 0.0)"]),
        ({"learning_rate": float("nan")}, ["learning_rate: must be a finite number"]),
        ({"batch_size": 0}, ["batch_size: must be greater than or equal to 1 (given 0)"]),
        ({"micro_batch_size": 3}, ["micro_batch_size is 3", "divide", "8"]),
        ({"epochs": 0, "seed": -1}, ["epochs: must be", "seed: must be", "given -1"]),
        ({"warmup_ratio": 1.5}, ["warmup_ratio: must be less than or equal to 1"]),
        ({"lr_schedule": "step"}, ["'step'", "'linear', 'cosine' or 'constant'"]),
        ({"dropout": 1.0}, ["dropout: must be less than 1"]),
        ({"weight_decay": -0.1}, ["weight_decay: must be", "given -0.1"]),
        ({"max_grad_norm": 0.0}, ["max_grad_norm: must be greater than 0"]),
        ({"compute_dtype": "float64"}, ["float64", "float32"]),
        ({"device": "cuda:3"}, ["device is 'cuda:3'", "cpu or cuda"]),
        ({"checkpoint_steps": 0}, ["checkpoint_steps is 0"]),
    ],
)
def test_a_setting_out_of_range_is_refused(
    changes: dict[str, Any], words: list[str], run: Finetune
) -> None:
    with pytest.raises(ConfigError) as caught:
        run(**changes)
    assert all(word in str(caught.value) for word in words)


@pytest.mark.parametrize(
    ("examples", "words"),
    [
        ([], ["train", "no examples"]),
        ([GOOD, TokenisedExample((1, 2), (1, NO_LOSS))], ["Example 1", "no answer token"]),
        ([TokenisedExample((1, 2, 3), (NO_LOSS, 2))], ["3 tokens", "2 labels"]),
        ([TokenisedExample((1, 64), (NO_LOSS, 64))], ["64", "0..63"]),
        ([TokenisedExample((1, 2), (NO_LOSS, -1))], ["-1", "0..63"]),
    ],
)
def test_examples_that_cannot_be_trained_on_are_refused(
    examples: list[TokenisedExample], words: list[str], run: Finetune
) -> None:
    with pytest.raises(DataError) as caught:
        run(train=examples)
    assert all(word in str(caught.value) for word in words)
