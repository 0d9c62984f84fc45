"""Steps of a real run, and what a page shows of them."""

from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import pytest
from support.pair import pair_settings

from artifacts.names import StepKey
from flows.config.transfer import TransferConfig
from flows.graph.transfer_steps import wire
from paraknow_core.evaluation.items import read_items
from paraknow_core.evaluation.metrics import REPORTED, metrics_of
from paraknow_core.report.page import collect
from paraknow_core.report.page.data import Comparison, Pair, ShownMethod
from paraknow_core.report.page.render import render_page
from tasks.acquire_model import load_architecture
from tasks.diagnose import (
    DIAGNOSTICS,
    LIKENESS,
    DiagnoseConfig,
    LikenessConfig,
    diagnose,
    likeness,
)
from tasks.engine.json_files import read_json
from tasks.engine.ref import Ref, folder_of
from tasks.engine.run import RunConfig
from tasks.engine.run_step import run_step


class Direct:
    """Runs steps one after another without a server, and keeps what they gave by label."""

    plans = False

    def __init__(self, run: RunConfig) -> None:
        self.run = run
        self.refs: dict[str, Ref] = {}

    def __call__(self, step: Any, config: Any, *, label: str, **inputs: Any) -> Any:
        known = {role: handle.ref for role, handle in inputs.items()}
        ref = run_step(step, label=label, config=config, inputs=known, run=self.run)
        self.refs[label] = ref
        return _Known(label, ref)

    start = __call__

    def check(self, check: Any, inputs: Any, *, before: Any = None) -> None:
        """Nothing to check beforehand."""

    def facts(self, handle: Any) -> dict[str, Any]:
        record = self.run.open_store().lookup(StepKey(handle.ref.key))
        return dict(record.facts) if record else {}

    def undecided(self, undecided: bool) -> AbstractContextManager[None]:
        return nullcontext()

    def folder(self, label: str) -> Path:
        return folder_of(self.run.open_store(), self.refs[label])


class _Known:
    def __init__(self, label: str, ref: Ref) -> None:
        self.label = label
        self.ref = ref


@pytest.fixture(scope="module")
def steps(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> Direct:
    settings = pair_settings(pair, tmp_path_factory.mktemp("store"))
    config = TransferConfig.model_validate(settings)
    done = Direct(config.run)
    wire(config, done)
    ref = {name: _Known(name, done.refs[name]) for name in done.refs}
    start = next(ref[name] for name in ref if done.refs[name].step == "lora")
    done(diagnose, DiagnoseConfig(), label="diagnose", student=ref["student"], start=start)
    done(
        likeness,
        LikenessConfig(texts=6),
        label="likeness",
        student=ref["student"],
        teacher=ref["teacher"],
        data=ref["data"],
    )
    return done


def labels(steps: Direct, step: str) -> list[str]:
    return [label for label, ref in steps.refs.items() if ref.step == step]


def test_diagnoses_are_those_of_the_stored_start(steps: Direct) -> None:
    import torch

    from paraknow_core.checkpoint.reader import Checkpoint
    from paraknow_core.lora.adapter_reader import read_adapter

    facts = read_json(steps.folder("diagnose") / DIAGNOSTICS)["modules"]
    adapter = read_adapter(steps.folder(labels(steps, "lora")[0]))
    assert {fact["module"] for fact in facts} == set(adapter.factors)
    with Checkpoint(Path(steps.refs["student"].location)) as student:
        for fact in facts:
            weight = student.read(f"{fact['module']}.weight").double()
            delta = adapter.delta(fact["module"]).double()
            assert fact["norm_ratio"] == pytest.approx(float(delta.norm() / weight.norm()))
            cosine = torch.cosine_similarity(delta.flatten(), weight.flatten(), dim=0)
            assert fact["cosine"] == pytest.approx(float(cosine), abs=1e-6)


def test_likeness_has_a_value_for_every_two_layers(steps: Direct) -> None:
    found = read_json(steps.folder("likeness") / LIKENESS)
    assert found["texts"] == 6
    assert [len(row) for row in found["matrix"]] == [4, 4]
    assert all(-1 <= value <= 1 for row in found["matrix"] for value in row)


def test_a_second_diagnosis_is_a_hit(steps: Direct) -> None:
    ref = steps.refs["diagnose"]
    inputs = {"student": steps.refs["student"], "start": steps.refs[labels(steps, "lora")[0]]}
    again = run_step(diagnose, label="x", config=DiagnoseConfig(), inputs=inputs, run=steps.run)
    assert (again.key, again.cached) == (ref.key, True)


def test_real_steps_fill_a_page(steps: Direct) -> None:
    student = load_architecture(steps.folder("student"))
    teacher = load_architecture(steps.folder("teacher"))
    layers = read_json(steps.folder(labels(steps, "align")[0]) / "layers.json")
    tuned, measured = labels(steps, "finetune"), labels(steps, "evaluate")
    logs = {name: collect.read_log(steps.folder(name) / "training_log.jsonl") for name in tuned}
    store = steps.run.open_store()
    records = [store.lookup(StepKey(ref.key)) for ref in steps.refs.values()]
    results = [(r.step, r.key, r.seconds, r.cached) for r in steps.refs.values()]
    shown = Pair(
        name="tiny",
        teacher="t",
        student="s",
        scores=tuple(
            collect.score_of(
                name, [read_json(steps.folder(name) / "metrics.json")], metrics=metrics_of(REPORTED)
            )
            for name in measured
        ),
        curves=tuple(c for name, log in logs.items() for c in collect.curves_of(name, [log])),
        sensitivity=collect.sensitivity_of(
            read_json(steps.folder("sensitivity") / "layer_sums.json"), layers
        ),
        windows=collect.windows_of(
            read_json(steps.folder(labels(steps, "extract")[0]) / "windows.json"), teacher
        ),
        spectra=collect.spectra_of(steps.folder(labels(steps, "decompose")[0]), student),
        modules=collect.modules_of("m", read_json(steps.folder("diagnose") / DIAGNOSTICS)),
        cka=collect.cka_of(read_json(steps.folder("likeness") / LIKENESS)),
        predictions=collect.predictions_of(
            {name: read_items(steps.folder(name) / "items.parquet") for name in measured}
        ),
        costs=collect.costs_of(results),
        origins=tuple(
            collect.origin_of(label, record.as_json())
            for label, record in zip(steps.refs, records, strict=True)
            if record is not None
        ),
    )
    matrices = 7 * student.num_layers + 2
    assert len(shown.windows) == len(shown.spectra) == len(shown.modules) == matrices
    assert all(0 < w.share <= 1 for w in shown.windows if w.share is not None)
    assert {c.split for c in shown.curves} == {"train", "validation"}
    assert len(shown.origins) == len(steps.refs)
    comparison = Comparison(title="tiny", methods=(ShownMethod(name="m"),), pairs=(shown,))
    assert Comparison.from_json(comparison.to_json()) == comparison
    page = render_page(comparison)
    assert page.count("handed over") == 3  # verdict, contrasts, trials
    assert all(ref.key in page for ref in steps.refs.values())
