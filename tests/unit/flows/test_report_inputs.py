"""What a comparison's report is told of each method: its loss, its epochs, its trainings."""

from pathlib import Path
from typing import Any

from flows.config.compare import CompareConfig
from flows.config.load import load_config
from flows.graph.arm import ArmOutcome, SeedRun
from flows.graph.cell import CellOutcome
from flows.graph.runner import Handle
from flows.results.report_inputs import report_of
from tasks.comparison_parts.design import methods_of
from tasks.engine.ref import Ref

CONFIG = Path(__file__).parents[3] / "configs" / "distillation.yaml"
COMPOSED = {"name": "composed", "method": "transfer", "set": {"by_role": {"ffn": "milora"}}}


def trained(key: str) -> Handle:
    facts: dict[str, Any] = {"files": {}, "size": 0, "cached": False, "seconds": 1.0}
    return Handle(key, known=Ref(step="finetune", label=key, key=key, tree="t", **facts))


def test_a_report_knows_losses_epochs_parts_and_trainings() -> None:
    config = load_config(CompareConfig, CONFIG, ["controls=[same-spectrum]"])
    given = config.model_dump()
    config = CompareConfig.model_validate(given | {"methods": [*given["methods"], COMPOSED]})
    arms = [ArmOutcome(arm.name, arm.start, rate=1e-3) for arm in config.arms]
    arms[0].runs = [
        SeedRun(0, adapter=trained("a"), measured=trained("m")),
        SeedRun(1, adapter=trained("b"), reason="OSError: no 1"),
        SeedRun(2),
    ]
    cell = CellOutcome(config.pairs[0], config.tasks[0], arms=arms)
    report = report_of(config, [cell])
    found = {arm.name: arm for arm in report.cells[0].arms}
    assert found["plain"].adapters == ("a",)
    distilled = {name for name, arm in found.items() if arm.loss == "distillation"}
    starts = ("plain", "milora", "novel", "transfer")
    assert distilled == {f"{start}-distilled" for start in starts}
    assert found["plain-distilled"].trained_on == "0.9 KL at temperature 2, 0.1 answers"
    epochs = {name: arm.epochs for name, arm in found.items() if arm.epochs != 3}
    assert set(epochs.values()) == {6}
    assert set(epochs) == {name for name in found if name.endswith("-epochs")}
    assert set(found["composed"].by_role) == {"transfer", "milora"}
    uses = {method.name: method.uses for method in methods_of(report)}
    assert uses["milora"] == ""
    assert uses["milora-distilled"] == "outputs"
    assert uses["transfer-distilled"] == "parameters, outputs, labels"
    assert uses["same-spectrum"] == "parameters, labels"
