"""What arms took to train, from records, and where page and text show it."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from support.fake_comparison import fake_comparison
from support.tiny import tiny_model

from artifacts.keys import KeyPayload
from artifacts.names import Digest, StepKey
from artifacts.records import FileEntry, Record
from paraknow_core.models.describe import describe
from paraknow_core.report.comparison_markdown import as_markdown
from paraknow_core.report.page.data import Comparison, Pair, ShownMethod
from paraknow_core.report.page.outcome import Score
from paraknow_core.report.page.render import render_page
from tasks.comparison_parts.compute import Compute, compute_of, compute_told
from tasks.comparison_parts.config import ArmReport, CellReport

ROWS = {"data.train.parquet": "1" * 64}
WEIGHTS, PARAMETERS = "adapter_model.safetensors", 100


class Records(dict[str, Record]):
    """Stands in for a store, of which only records are asked for."""

    def lookup_record(self, key: StepKey) -> Record | None:
        return self.get(key)

    def add(
        self, step: str, *made_from: str, start: str = "", seconds: float = 0.0, **facts: Any
    ) -> str:
        key = f"{len(self) + 1:064x}"
        config = {"cutoff": 9, "epochs": facts.pop("epochs", 1)}
        config |= {"compute_dtype": facts.pop("compute_dtype", "float32")}
        inputs = ROWS if step in ("finetune", "teacher-logits") else {}
        self[key] = Record(
            key=StepKey(key),
            payload=KeyPayload(step=step, version=1, config=config, inputs=inputs),
            tree=Digest(key),
            files={WEIGHTS: FileEntry(Digest(key), 4 * PARAMETERS)} if step == "finetune" else {},
            facts=facts,
            provenance={
                "seconds": seconds,
                "inputs": {k: {"key": k} for k in made_from} | {"start": {"key": start}},
            },
        )
        return key


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("models")
    tiny_model(folder / "teacher", layers=3)
    tiny_model(folder / "student", layers=2)
    return {who: folder / who for who in ("teacher", "student")}


def used(folder: Path) -> int:
    """Weights that every token is multiplied with, counted in the file; an embedding is not."""
    tensors = load_file(folder / "model.safetensors")
    return sum(tensor.numel() for name, tensor in tensors.items() if "embed" not in name)


def test_training_and_each_pass_of_a_teacher_are_counted_once(folders: dict[str, Path]) -> None:
    models = {who: describe(folder) for who, folder in folders.items()}
    store = Records()
    outputs = store.add("teacher-logits", tokens=50, flops=7000.0)
    scores = store.add("sensitivity", tokens=20)
    start = store.add("lora", store.add("decompose", scores), scores)
    arms = {
        "plain": [store.add("finetune", seconds=s, epochs=3, tokens=150) for s in (2.0, 4.0)],
        "both": [store.add("finetune", start, outputs, seconds=5.0, epochs=6)],
        "none": [],
    }
    found = compute_of(store, arms, **models)  # type: ignore[arg-type]
    a_token = 4 * used(folders["student"]) + 6 * PARAMETERS
    assert found["plain"] == Compute(150 * a_token, 0, 3.0)
    # Its own record counts no tokens; those of the same rows say how many an epoch has.
    assert found["both"] == Compute(300 * a_token, 7000 + 20 * 6 * used(folders["teacher"]), 5.0)
    assert found["none"] == Compute()
    assert compute_of(store, arms, teacher=None, student=None)["plain"] == Compute()  # type: ignore[arg-type]


@pytest.mark.parametrize(("dtype", "in_model"), [("float32", 1), ("bfloat16", 2)])
def test_an_anchor_is_counted_where_there_is_one(
    folders: dict[str, Path], dtype: str, in_model: int
) -> None:
    """The delivered adapter has rank 2r; what is trained in float32 has the start point's rank."""
    models = {who: describe(folder) for who, folder in folders.items()}
    store = Records()
    start = store.add("lora")
    store[start] = replace(
        store[start], files={WEIGHTS: FileEntry(Digest(start), 4 * PARAMETERS // 2)}
    )
    trained = store.add("finetune", start=start, tokens=10, compute_dtype=dtype)
    (found,) = compute_of(store, {"arm": [trained]}, **models).values()  # type: ignore[arg-type]
    assert found.flops == 10 * (4 * used(folders["student"]) + 6 * in_model * PARAMETERS // 2)


def test_arms_are_told_in_multiples_of_plain_lora() -> None:
    arms = tuple(ArmReport(name=n, start=n) for n in ("milora", "plain", "pissa"))
    cell = CellReport(pair="p", task="t", arms=arms)
    took = {"milora": Compute(30.0, 12.0), "plain": Compute(20.0, 0.0), "pissa": Compute()}
    (told,) = compute_told(cell, took)
    assert "in multiples of what plain takes: milora 2.10. Trials" in told
    assert compute_told(cell, took | {"milora": Compute(20.0, 0.0)}) == ()
    assert compute_told(cell, dict.fromkeys(took, Compute())) == ()


def shown() -> Comparison:
    one = {"start": "plain", "values": (1.0,), "learning_rate": 0.1}
    scores = (
        Score(method="plain", mean=1.5, loss="answers", flops=2e9, seconds=3.0, **one),
        Score(method="longer", mean=1.4, loss="answers", flops=4e9, seconds=6.0, **one),
        Score(
            **one | {"method": "taught", "mean": 1.3, "loss": "0.9 KL, 0.1 answers"},
            **{"flops": 2e9, "teacher_flops": 1.5e9, "seconds": 4.0},
        ),
        Score(method="pissa", mean=1.7, start="pissa", loss="answers"),
    )
    methods = tuple(ShownMethod(name=s.method, kind="baseline") for s in scores if s.loss)
    taught = ShownMethod(name="taught", kind="baseline", uses="outputs")
    pair = Pair(name="p", teacher="a", student="b", task="t", scores=scores)
    methods = tuple(taught if m.name == "taught" else m for m in methods)
    return Comparison(title="c", methods=methods, pairs=(pair,))


def test_page_and_text_show_compute_start_by_loss_and_what_is_used() -> None:
    comparison = shown()
    text = as_markdown(comparison)
    assert "| method | FLOP a seed | teacher's FLOP, once | seconds a seed |" in text
    assert "| taught | 1.3000 |" in text
    assert "| taught | 2e+09 | 1.5e+09 | 4 |" in text
    assert "| pissa | 1.7000 |" in text
    assert "| pissa | – | – | – |" in text
    table = "| plain | 1.5000 (plain); 1.4000 (longer) | 1.3000 (taught) |"
    assert table in text
    assert text.count("| pissa |") == 3  # not among starts × losses: it has one loss only
    assert "| taught | baseline | outputs |" in text
    assert "| plain | baseline | nothing |" in text
    page = render_page(comparison, tell=pytest.fail)
    assert "teacher 1.50e9, once" in page
    assert "uses <bdi>outputs</bdi>" in page
    assert "1.5000 (plain); 1.4000 (longer)" in page
    assert "FLOP" not in as_markdown(fake_comparison())
    assert Comparison.from_json(comparison.to_json()) == comparison
