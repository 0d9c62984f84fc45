"""The loss of distillation against TRL's, what is kept of a teacher, and what training does."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from support.starts import token_examples, transfer_start
from support.tiny import tiny_model

from paraknow_core.data.batches import collate
from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.distillation.loss import TokenTargets, kl_of_targets
from paraknow_core.distillation.recipe import DistillationRecipe, loss_name
from paraknow_core.distillation.targets import (
    collate_taught,
    read_targets,
    take_targets,
    teach,
    write_targets,
)
from paraknow_core.distillation.teacher_pass import teacher_targets
from paraknow_core.errors import ConfigError, DataError, NumericsError
from paraknow_core.finetuning import trainer
from paraknow_core.finetuning.finetune import TrainingResult, finetune
from paraknow_core.finetuning.recipe import FineTuningRecipe, numbers_of
from paraknow_core.lora.adapter import WEIGHTS
from paraknow_core.models.load import load_model
from paraknow_core.partial_results import PartialResults

VOCAB = 64


def logits(seed: int, places: int = 12, *, spread: float = 3.0) -> torch.Tensor:
    return spread * torch.randn(
        places, VOCAB, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )


def kept(teacher_NV: torch.Tensor, k: int, temperature: float) -> TokenTargets:
    """The obvious dense computation: sort all probabilities, keep k, add up the others."""
    log_p_NV = (teacher_NV / temperature).log_softmax(1)
    order = log_p_NV.argsort(1, descending=True)
    rest_N = log_p_NV.gather(1, order)[:, k:].exp().sum(1)
    return TokenTargets(order[:, :k], log_p_NV.gather(1, order[:, :k]), rest_N.log())


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_loss_is_that_of_trls_gkd_trainer(monkeypatch, temperature) -> None:
    monkeypatch.setenv("TRL_EXPERIMENTAL_SILENCE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trl.experimental.gkd import GKDTrainer
    teacher, student = logits(0), logits(1).requires_grad_()
    labels = torch.full((3, 4), 5)
    labels[0, 2:] = labels[2, 0] = NO_LOSS
    theirs = GKDTrainer.generalized_jsd_loss(
        student.view(3, 4, VOCAB),
        teacher.view(3, 4, VOCAB),
        labels=labels,
        beta=0,
        temperature=temperature,
    )
    (their_gradient,) = torch.autograd.grad(theirs, student)
    asked = labels.flatten() != NO_LOSS
    targets = kept(teacher[asked], VOCAB, temperature)
    ours = kl_of_targets(student[asked], targets, temperature=temperature) / asked.sum()
    (our_gradient,) = torch.autograd.grad(ours, student)
    torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=0)
    torch.testing.assert_close(our_gradient, their_gradient, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("k", [1, 8, 63])
def test_with_fewer_tokens_the_error_is_within_what_is_said_of_it(k: int) -> None:
    temperature = 2.0
    teacher, student = logits(0), logits(1).requires_grad_()
    p_NV, q_NV = (x.detach() / temperature for x in (teacher, student))
    p_NV, q_NV = p_NV.softmax(1), q_NV.softmax(1)
    targets = kept(teacher, k, temperature)
    ours = kl_of_targets(student, targets, temperature=temperature)
    (gradient_NV,) = torch.autograd.grad(ours, student)
    others_NV = torch.ones_like(p_NV).scatter(1, targets.ids_NK, 0)
    rest_N = targets.log_rest_N.exp()
    their_rest, our_rest = p_NV * others_NV, q_NV * others_NV
    ratio_NV = (their_rest / their_rest.sum(1, True)) * (
        (their_rest / their_rest.sum(1, True)) / (our_rest / our_rest.sum(1, True))
    ).log().nan_to_num(0)
    exact = (p_NV * (p_NV / q_NV).log()).sum()
    assert ours <= exact + 1e-12
    torch.testing.assert_close(exact - ours, (rest_N * ratio_NV.sum(1)).sum())
    error_NV = gradient_NV - (q_NV - p_NV) / temperature
    assert (error_NV * (1 - others_NV)).abs().max() < 1e-12
    assert bool((error_NV.abs().sum(1) <= 2 * rest_N / temperature + 1e-12).all())
    assert k == 63 or error_NV.abs().max() > 1e-4


def test_no_probability_left_is_no_nan() -> None:
    certain = logits(0)
    certain[:, 3] += 1000
    student = logits(1).float().requires_grad_()
    for k in (1, VOCAB):
        targets = kept(certain, k, 1.0)
        value = kl_of_targets(student, targets, temperature=1.0)
        value.backward()
        assert value.isfinite()
    assert bool(student.grad.isfinite().all())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("taught")
    tiny_model(made / "student", "llama", layers=1)
    tiny_model(made / "teacher", "llama", hidden=32, layers=2, seed=1)
    transfer_start(made / "student", made / "start")
    teacher, examples = load_model(made / "teacher"), token_examples(20)
    for name, facts in {"all": {"top_k": VOCAB}, "some": {"top_k": 5}}.items():
        (made / name).mkdir()
        found = teacher_targets(teacher, examples, vocab_size=VOCAB, temperature=2.0, **facts)
        write_targets(found, made / name)
    return made


def test_the_teachers_outputs_are_those_of_each_row_alone(folder: Path) -> None:
    model, examples = load_model(folder / "teacher").double(), token_examples(20)
    for name, k in (("all", VOCAB), ("some", 5)):
        stored = read_targets(folder / name)
        assert stored.temperature == 2.0
        for number, row in enumerate(examples):
            with torch.no_grad():
                whole = model(torch.tensor([row.input_ids])).logits[0]
            answers = [p - 1 for p, label in enumerate(row.labels) if label != NO_LOSS]
            wanted, found = kept(whole[answers], k, 2.0), stored.row(number)
            assert torch.equal(found.ids_NK.long(), wanted.ids_NK)
            torch.testing.assert_close(
                found.log_probs_NK.double(), wanted.log_probs_NK, rtol=0, atol=1e-5
            )
            torch.testing.assert_close(
                found.log_rest_N.double(), wanted.log_rest_N, rtol=0, atol=1e-4
            )


def test_a_pass_that_was_killed_goes_on_to_the_same_bytes(folder: Path, tmp_path: Path) -> None:
    model, examples = load_model(folder / "teacher"), token_examples(20)
    facts: dict[str, Any] = {"vocab_size": VOCAB, "top_k": 5, "temperature": 2.0, "batch_size": 3}
    whole = teacher_targets(model, examples, **facts)

    def stop(done: int, total: int, _message: str) -> None:
        if done == 9:
            raise KeyboardInterrupt

    for_later: dict[str, Any] = {"partial": PartialResults(tmp_path), "every_seconds": 0}
    with pytest.raises(KeyboardInterrupt):
        teacher_targets(model, examples, **facts, **for_later, progress=stop)
    began: list[int] = []
    again = teacher_targets(
        model, examples, **facts, **for_later, progress=lambda done, *_: began.append(done)
    )
    assert began[0] == 9
    for name in vars(whole.tokens):
        assert torch.equal(getattr(again.tokens, name), getattr(whole.tokens, name))


def test_a_teacher_with_a_broken_weight_is_named(folder: Path) -> None:
    model = load_model(folder / "teacher")
    with torch.no_grad():
        model.lm_head.weight[7] = float("nan")
    with pytest.raises(NumericsError, match="training row"):
        teacher_targets(model, token_examples(4), vocab_size=VOCAB, top_k=5, temperature=1.0)


Finetune = Callable[..., TrainingResult]


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Finetune:
    def with_defaults(out: str = "out", **changes: Any) -> TrainingResult:
        given: dict[str, Any] = {"epochs": 2, "batch_size": 8, "learning_rate": 5e-3} | changes
        settings = {n: given.pop(n) for n in FineTuningRecipe.model_fields if n in given}
        return finetune(
            student_folder=folder / "student",
            start_folder=folder / "start",
            train=given.pop("train", token_examples(20)),
            out_folder=tmp_path / out,
            partial=PartialResults(given.pop("work", tmp_path / f"work-{out}")),
            recipe=FineTuningRecipe(**settings),
            **given,
        )

    return with_defaults


@pytest.fixture
def batches(monkeypatch: pytest.MonkeyPatch) -> list[list[TokenisedExample]]:
    """The examples of every batch that is trained on, in their order."""
    seen: list[list[TokenisedExample]] = []

    def watched(name: str) -> None:
        made = getattr(trainer, name)
        monkeypatch.setattr(
            trainer, name, lambda rows, **how: seen.append(list(rows)) or made(rows, **how)
        )

    watched("collate")
    watched("collate_taught")
    return seen


def test_batches_are_the_other_arms_and_the_loss_is_the_mixture(
    run: Finetune, folder: Path, batches: list[list[TokenisedExample]]
) -> None:
    still: dict[str, Any] = {"learning_rate": 1e-12, "dropout": 0.0}
    plain = [row["loss"] for row in run(**still).rows]
    tokens = [[(row.input_ids, row.labels) for row in batch] for batch in batches]
    wanted = [dense_kl(folder, batch) for batch in batches]
    for share, micro in ((1.0, 0), (0.75, 2)):
        batches.clear()
        mix = {"share": share, "temperature": 2}
        taught = run(
            out=f"out{share}",
            **still,
            distillation=mix,
            targets_folder=folder / "all",
            micro_batch_size=micro,
        ).rows
        rows = [(row.input_ids, row.labels) for batch in batches for row in batch]
        assert rows == [row for batch in tokens for row in batch]
        assert micro or [len(batch) for batch in batches] == [len(batch) for batch in tokens]
        assert [row["answer_loss"] for row in taught] == pytest.approx(plain, rel=1e-5)
        mixed = [share * kl + (1 - share) * nll for kl, nll in zip(wanted, plain, strict=True)]
        assert [row["loss"] for row in taught] == pytest.approx(mixed, rel=1e-4)


def dense_kl(folder: Path, rows: list[TokenisedExample]) -> float:
    """Mean KL over a batch's answer tokens, in float64, of all logits of both models."""
    models = [load_model(folder / who).double().eval() for who in ("student", "teacher")]
    total, count = 0.0, 0
    for row in rows:
        places = [p - 1 for p, label in enumerate(row.labels) if label != NO_LOSS]
        with torch.no_grad():
            q, p = (
                (m(torch.tensor([row.input_ids])).logits[0][places] / 2).log_softmax(1)
                for m in models
            )
        total += float((p.exp() * (p - q)).sum())
        count += len(places)
    return total / count


def test_a_killed_training_goes_on_to_the_same_bytes(
    run: Finetune, folder: Path, tmp_path: Path
) -> None:
    mix: dict[str, Any] = {
        "distillation": {"temperature": 2.0, "top_k": 5},
        "targets_folder": folder / "some",
        "checkpoint_steps": 2,
    }
    whole = run(**mix)

    def stop(step: int, _total: int, _message: str) -> None:
        if step == 5:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(out="killed", **mix, progress=stop)
    again = run(out="killed", **mix)
    assert (whole.resumed_from, again.resumed_from) == (None, 4)
    assert again.rows == whole.rows
    one, two = ((tmp_path / name / WEIGHTS).read_bytes() for name in ("out", "killed"))
    assert one == two


def test_targets_and_setting_go_together(run: Finetune, folder: Path) -> None:
    mix = {"temperature": 2.0}
    with pytest.raises(ConfigError, match="no teacher's targets are given"):
        run(distillation=mix)
    with pytest.raises(ConfigError, match="distillation is not set"):
        run(targets_folder=folder / "all")
    with pytest.raises(DataError, match="are of 20 other rows than the 19"):
        run(distillation=mix, targets_folder=folder / "all", train=token_examples(19))
    with pytest.raises(DataError, match="are of temperature 2, the training's is 3"):
        run(distillation={"temperature": 3}, targets_folder=folder / "all")


def test_a_batch_without_its_targets_is_the_batch_of_the_other_arms(folder: Path) -> None:
    examples = token_examples(20)
    taught = teach(examples, read_targets(folder / "all"), temperature=2.0)
    batch, plain = collate_taught(taught[3:7]), collate(examples[3:7])
    targets = take_targets(batch)
    assert batch.keys() == plain.keys()
    assert all(torch.equal(batch[name], plain[name]) for name in plain)
    assert len(targets.ids_NK) == int((plain["labels"] != NO_LOSS).sum())


@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"share": 0}, "share"),
        ({"share": 1.1}, "share"),
        ({"temperature": 0}, "temperature"),
        ({"temperature": float("nan")}, "temperature"),
        ({"top_k": 0}, "top_k"),
        ({"shares": 0.5}, "share"),
    ],
)
def test_settings_out_of_range_are_refused(given: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        FineTuningRecipe(distillation=given)


def test_a_training_without_it_is_called_what_it_was() -> None:
    assert "distillation" not in numbers_of(FineTuningRecipe())
    assert numbers_of(FineTuningRecipe(distillation={}))["distillation"]["share"] == 0.9
    assert loss_name(None) == "answers"
    assert loss_name(DistillationRecipe()) == "0.9 KL at temperature 2, 0.1 answers"
    assert loss_name(DistillationRecipe(share=1)) == "KL at temperature 2"
