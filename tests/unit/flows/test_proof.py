"""Orders of pairs in the settings of a comparison: what cannot show anything is refused."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from flows.config.compare import CompareConfig
from flows.planning.compare import make_compare_plan

CONFIGS = Path(__file__).parents[3] / "configs"
PRESETS = sorted(CONFIGS.glob("proof_*.yaml"))


def preset(name: str) -> Any:
    return yaml.safe_load((CONFIGS / f"proof_{name}.yaml").read_text())


@pytest.mark.parametrize("path", PRESETS, ids=lambda p: p.stem)
def test_every_preset_plans_the_teachers_scores_or_untrained_starts(
    path: Path, tmp_path: Path
) -> None:
    given = yaml.safe_load(path.read_text()) | {"seeds": [0, 1, 2, 3, 4]}
    given["run"] = {"store": str(tmp_path / "store")}
    config = CompareConfig.model_validate(given)
    plan = make_compare_plan(config)
    assert not plan.failures
    labels = [step.label for step in plan.steps]
    teachers = {name for order in config.proof.orders for name in order.pairs}
    assert labels.count("evaluate teacher") == len(teachers)
    untrained = [label for label in labels if label.endswith("untrained")]
    assert bool(untrained) is config.proof.step_zero


def test_there_is_a_preset_of_each_kind() -> None:
    assert len(PRESETS) >= 4


TOLD_THE_SAME = preset("planted_facts")["pairs"][1]["teacher"]["pretrain"] | {"seed": 5}


def change(given: Any, *path: Any, to: Any) -> Any:
    inner = given
    for part in path[:-1]:
        inner = inner[part]
    inner[path[-1]] = to
    return given


@pytest.mark.parametrize(
    ("name", "path", "to", "said"),
    [
        ("dose", ("proof", "orders", 0, "pairs", 0), "learnt-15", "did you mean 'learnt-150'"),
        ("dose", ("proof", "orders", 0, "kind"), "doze", "did you mean 'dose'"),
        ("dose", ("proof", "orders", 0, "pairs"), ["learnt-150"], "at least 2"),
        ("swap", ("pairs", 0, "student"), {"model": "other"}, "have different students"),
        ("swap", ("pairs", 0, "teacher"), preset("swap")["pairs"][1]["teacher"], "same teacher"),
        ("planted_facts", ("tasks", 0, "problems", "facts_seed"), 1, "must ask for the same"),
        (
            "planted_facts",
            ("pairs", 0, "teacher", "pretrain"),
            TOLD_THE_SAME,
            "only the teacher of",
        ),
        ("planted_facts", ("pairs", 1, "teacher", "pretrain", "facts"), 0, "must be told facts"),
    ],
)
def test_orders_that_show_nothing_are_refused(
    name: str, path: tuple[Any, ...], to: Any, said: str
) -> None:
    with pytest.raises(ValidationError, match=said):
        CompareConfig.model_validate(change(preset(name), *path, to=to))


def test_a_student_that_is_told_the_facts_is_refused() -> None:
    given = preset("planted_facts")
    for pair in given["pairs"]:
        pair["student"] = {"pretrain": {**pair["student"]["pretrain"], "facts": 200}}
    with pytest.raises(ValidationError, match="told facts itself"):
        CompareConfig.model_validate(given)
