"""Training, validation and a teacher's outputs with logits in chunks: as with whole ones."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.starts import token_examples, transfer_start
from support.tiny import FAMILIES, tiny_model

from paraknow_core.data.packing import collate_packed
from paraknow_core.distillation.recipe import DistillationRecipe
from paraknow_core.distillation.targets import collate_taught, read_targets, teach, write_targets
from paraknow_core.distillation.teacher_pass import teacher_targets
from paraknow_core.finetuning.batches import answer_loss
from paraknow_core.finetuning.finetune import TrainingResult, finetune
from paraknow_core.finetuning.load_back import probe
from paraknow_core.finetuning.recipe import FineTuningRecipe
from paraknow_core.finetuning.trainer import AnswerTrainer, DistillingTrainer, trainable
from paraknow_core.lora.anchored_model import trainable_model
from paraknow_core.models import logit_chunks
from paraknow_core.models.load import load_model
from paraknow_core.partial_results import PartialResults

FEW = 64 * 3
"""Of a vocabulary of 64: three places at a time."""


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Let chunks be small from now on."""
    return lambda: monkeypatch.setattr(logit_chunks, "CHUNK_ELEMENTS", FEW)


def sizes_of(model: Any) -> list[int]:
    """The logits of each call of a head, from now on."""
    sizes: list[int] = []
    head = model.get_output_embeddings()
    head.register_forward_hook(lambda _module, _inputs, output: sizes.append(output.numel()))
    return sizes


def gradients(model: Any, loss: torch.Tensor) -> list[torch.Tensor]:
    return list(torch.autograd.grad(loss, list(trainable(model).values())))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_batchs_loss_and_gradients_are_those_of_whole_logits(
    tmp_path: Path, family: str, tied: bool, few: Any
) -> None:
    """Of a plain loss and of one with a teacher's targets, packed, with every matrix adapted."""
    folder = tiny_model(tmp_path / "student", family, tied=tied, layers=2)
    start = transfer_start(folder, tmp_path / "start")
    rows = token_examples(9)
    write_targets(
        teacher_targets(load_model(folder), rows, vocab_size=64, top_k=5, temperature=2.0),
        tmp_path,
    )
    model = trainable_model(load_model(folder).double(), start, dropout=0.0)
    batch = collate_packed(rows)
    taught = collate_taught(teach(rows, read_targets(tmp_path), temperature=2.0), packed=True)
    plain = AnswerTrainer.__new__(AnswerTrainer)
    mixed = DistillingTrainer.__new__(DistillingTrainer)
    mixed._mix = DistillationRecipe(share=0.5, temperature=2.0)
    mixed._answers, mixed._tokens = 0.0, 0
    for trainer, inputs in ((plain, batch), (mixed, taught)):
        trainer.model_accepts_loss_kwargs = True

        def measured(trainer: Any = trainer, inputs: Any = inputs) -> Any:
            loss = trainer.compute_loss(model, dict(inputs), num_items_in_batch=7)
            return loss.detach(), gradients(model, loss)

        whole, wanted = measured()
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(logit_chunks, "CHUNK_ELEMENTS", FEW)
            sizes = sizes_of(model)
            loss, found = measured()
        assert len(sizes) > 3
        assert max(sizes) <= FEW
        torch.testing.assert_close(loss, whole, rtol=1e-6, atol=0)
        for one, other in zip(found, wanted, strict=True):
            # Adapters are in float32, and so are Gemma 3's norms.
            torch.testing.assert_close(one, other, rtol=1e-4, atol=2e-7)
    assert mixed._tokens == 2 * sum(row.answer_tokens for row in rows)


def test_validation_loss_and_teachers_outputs_are_those_of_whole_logits(
    tmp_path: Path, few: Any
) -> None:
    folder = tiny_model(tmp_path, "gemma2")
    model, rows = load_model(folder), token_examples(12)

    def measured() -> tuple[float, Any]:
        options: dict[str, Any] = {"vocab_size": 60, "top_k": 5, "temperature": 2.0}
        rows_below = [row for row in rows if max(row.input_ids) < 60]
        targets = teacher_targets(model, rows_below, **options).tokens
        return answer_loss(model.train(), rows, batch_size=8), targets

    whole, wanted = measured()
    sizes = sizes_of(model)
    few()
    loss, found = measured()
    assert max(sizes) <= FEW
    assert model.training
    assert loss == pytest.approx(whole, rel=1e-6)
    assert torch.equal(found.ids_NK, wanted.ids_NK)
    torch.testing.assert_close(found.log_probs_NK, wanted.log_probs_NK)
    torch.testing.assert_close(found.log_rest_N, wanted.log_rest_N)


def test_of_long_probes_some_places_are_compared(tmp_path: Path, few: Any) -> None:
    model, rows = load_model(tiny_model(tmp_path)), token_examples(3)
    whole = probe(model, rows)
    few()
    for all_places, row, some in zip(whole, rows, probe(model, rows), strict=True):
        assert all_places.shape[1] == len(row.input_ids)
        assert some.shape == (1, 1, 64)
        torch.testing.assert_close(some, all_places[:, -1:])


def test_a_training_learns_the_same(tmp_path: Path, few: Any) -> None:
    folder = tiny_model(tmp_path / "student", layers=1, tied=True)
    transfer_start(folder, tmp_path / "start")

    def run(out: str, **changes: Any) -> TrainingResult:
        return finetune(
            student_folder=folder,
            start_folder=tmp_path / "start",
            train=token_examples(16),
            validation=token_examples(4, seed=1),
            out_folder=tmp_path / out,
            partial=PartialResults(tmp_path / f"{out} work"),
            recipe=FineTuningRecipe(learning_rate=5e-3, batch_size=8, epochs=2, **changes),
        )

    whole = run("whole", dropout=0.0)
    few()
    chunked = run("chunked", dropout=0.0)
    for one, two in zip(whole.rows, chunked.rows, strict=True):
        assert two == pytest.approx(one, rel=1e-3)
    for module in whole.adapter.factors:
        torch.testing.assert_close(
            chunked.adapter.delta(module), whole.adapter.delta(module), rtol=1e-2, atol=1e-4
        )
    again = [run(name, gradient_checkpointing=True) for name in ("one", "other")]
    assert again[0].rows == again[1].rows  # with dropout, of the head's input as well
