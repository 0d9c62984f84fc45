"""Training on a student whose matrices are held in 4 bits, where bitsandbytes is installed."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.starts import token_examples, transfer_start
from support.tiny import tiny_model

from paraknow_core.data.batches import collate
from paraknow_core.errors import ConfigError
from paraknow_core.finetuning.finetune import TrainingResult, finetune, numbers_of
from paraknow_core.finetuning.recipe import FineTuningRecipe
from paraknow_core.inspection.cost import training_bytes
from paraknow_core.lora.adapter import WEIGHTS
from paraknow_core.lora.adapter_reader import read_adapter
from paraknow_core.lora.anchored_model import ANCHOR, trainable_model
from paraknow_core.models import four_bit
from paraknow_core.models.describe import describe
from paraknow_core.models.load import load_model
from paraknow_core.partial_results import PartialResults

SIZES = {"hidden": 64, "ffn": 128, "layers": 1}


def test_without_the_library_one_sentence_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(four_bit, "find_spec", lambda _name: None)
    with pytest.raises(ConfigError, match=r"needs the library bitsandbytes: `pip install"):
        load_model(tiny_model(tmp_path / "student", layers=1), quantise="nf4")


def test_keys_without_it_are_as_before_and_matrices_take_a_seventh(tmp_path: Path) -> None:
    assert "quantise" not in numbers_of(FineTuningRecipe())
    assert numbers_of(FineTuningRecipe(quantise="nf4"))["quantise"] == "nf4"
    model = describe(tiny_model(tmp_path / "student", **SIZES))
    about: dict[str, Any] = {
        "element_bytes": 4, "adapter_bytes": 0, "tokens": 0, "predicted": 0
    }  # fmt: skip
    ends = 2 * 4 * 64 * 64
    whole, held = (training_bytes(model, **about, quantised=q) for q in (False, True))
    assert (held - ends) / (whole - ends) == pytest.approx(1 / 7.75, rel=0.01)


@pytest.mark.filterwarnings("ignore")  # bitsandbytes' own, of its kernels for CPUs
@pytest.mark.parametrize(
    ("family", "tied", "dtype"),
    [("llama", False, "float32"), ("qwen2", True, "bfloat16"), ("gpt2", True, "float32")],
)
def test_training_starts_at_the_quantised_student_and_delivers_for_it(
    tmp_path: Path, family: str, tied: bool, dtype: str
) -> None:
    pytest.importorskip("bitsandbytes")
    folder = tiny_model(tmp_path / "student", family, tied=tied, **SIZES)
    transfer_start(folder, tmp_path / "start")
    start, examples = read_adapter(tmp_path / "start"), token_examples(8)
    batch = {n: t for n, t in collate(examples).items() if n != "labels"}
    held: dict[str, Any] = {"dtype": getattr(torch, dtype), "quantise": "nf4"}
    with torch.no_grad():
        bare = load_model(folder, **held)(**batch).logits.float()
        model = trainable_model(load_model(folder, **held), start, dropout=0.0).eval()
        found = model(**batch).logits.float()
    assert any(ANCHOR in name for name, _ in model.named_parameters())
    assert all(p.dtype == torch.float32 for p in model.parameters() if p.requires_grad)
    largest = float(bare.abs().max())
    assert float((found - bare).abs().max()) < (1e-4 if dtype == "float32" else 5e-2) * largest

    def train(name: str, **validation: Any) -> TrainingResult:
        return finetune(
            student_folder=folder,
            start_folder=tmp_path / "start",
            train=examples,
            out_folder=tmp_path / name,
            partial=PartialResults(tmp_path / f"{name} work"),
            recipe=FineTuningRecipe(
                learning_rate=1e-2, batch_size=4, epochs=3, compute_dtype=dtype, quantise="nf4"
            ),
            **validation,
        )

    result = train("out", validation=examples)
    train("blind")
    one, two = ((tmp_path / name / WEIGHTS).read_bytes() for name in ("out", "blind"))
    assert one == two  # what is evaluated is trained on as before
    assert result.load_back.relative <= result.load_back.tolerance
    judged = [row["eval_loss"] for row in result.rows if "eval_loss" in row]
    assert judged[-1] < judged[0]
    assert result.adapter.rank == 2 * start.rank
