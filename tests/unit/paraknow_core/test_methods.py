"""The one list of methods says what it must, and every report can show all of them."""

from dataclasses import replace
from typing import Any

import pytest
from support.items import arm, items

from flows.config.compare import CompareConfig
from flows.config.needs import NEEDS
from flows.config.transfer import TransferConfig
from flows.graph.cuts import TEACHERS
from flows.graph.pair import ModelPair
from flows.graph.runner import Handle
from flows.graph.start_points import BUILDERS, Builder
from flows.graph.transfer_steps import wire
from paraknow_core.alignment.layers import LAYER_STRATEGIES
from paraknow_core.methods import METHODS, PLAIN, TRANSFER, every_arm
from paraknow_core.report.transfer_summary import arm_name, compare_arms
from paraknow_core.statistics.judge import about, judge
from tasks.starts.lora import LoraConfig, lora

PAIR = {"teacher": {"model": "t"}, "student": {"model": "s"}}


def test_every_method_says_what_it_is_where_from_and_what_it_tells() -> None:
    assert every_arm() == ("vanilla", *METHODS)
    for method in METHODS.values():
        assert (
            method.is_plain + method.is_transfer + method.is_student_start + method.is_control == 1
        )
        assert method.start
        assert method.label
        assert "teacher" not in method.label.lower()
        assert method.tells.endswith(".")
        assert "arXiv" in method.source
    controls = [name for name, method in METHODS.items() if method.is_control]
    assert [name for name in METHODS if arm_name(name).startswith("control")] == controls


def test_every_name_that_an_entry_gives_is_there() -> None:
    for method in METHODS.values():
        named = {method.of, method.baseline, *method.rivals, *method.controls} - {""}
        assert named <= set(METHODS)
        assert method.builder in BUILDERS
        assert set(method.needs) <= set(NEEDS)
        assert method.is_control == bool(method.changes) == bool(method.of)
        assert (method.changes != "teacher") or method.replacement in TEACHERS
        assert (method.changes != "layers") or method.replacement in LAYER_STRATEGIES
        if method.is_transfer:
            assert method.uses
            assert METHODS[method.baseline].is_plain
            assert all(METHODS[name].of for name in method.controls)


def test_a_claim_about_the_teacher_needs_the_controls_without_its_knowledge() -> None:
    controls = {name for name, method in METHODS.items() if method.of == TRANSFER}
    needed = {name for name, method in METHODS.items() if method.is_needed_by(TRANSFER)}
    assert needed == controls - {"random-layers", "other-teacher", "other-seeds"}
    assert not any(method.is_needed_by(PLAIN) for method in METHODS.values())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        (
            {"arms": ["transfer", "pisa"]},
            r"unknown method 'pisa' \(did you mean 'pissa'\?\); known are plain, transfer, novel",
        ),
        ({"arms": ["plain"]}, "transfer or novel-tokens or .* must be among them"),
        ({"arms": ["transfer", "plain", "plain"]}, "each may be given once; given twice: plain"),
        ({"arms": ["transfer", "other-seeds"]}, "set other_data or other_problems"),
        ({"learning_rates": {"pisa": 0.1}}, "unknown method 'pisa'"),
        ({"learning_rates": {"pissa": 0.0}}, "should be greater than 0"),
    ],
)
def test_arms_that_cannot_be_are_refused(settings: dict[str, object], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        TransferConfig.model_validate(PAIR | settings)


def test_each_arm_has_its_learning_rate() -> None:
    given = {"baseline": {"learning_rate": 0.3}, "finetune": {"learning_rate": 0.2}}
    config = TransferConfig.model_validate(PAIR | given | {"learning_rates": {"pissa": 0.1}})
    assert [config.learning_rate(arm) for arm in ("plain", "transfer", "pissa")] == [0.3, 0.2, 0.1]


def test_plain_lora_can_still_be_switched_off() -> None:
    config = TransferConfig.model_validate(PAIR | {"baseline": {"enabled": False}})
    assert config.chosen_arms() == (TRANSFER,)
    assert TransferConfig.model_validate(PAIR).chosen_arms() == (PLAIN, TRANSFER)


COMPARISON = {
    "pairs": [{"name": "p", **PAIR}],
    "tasks": [{"name": "t", "data": {"rows": {"path": "r"}, "sizes": {"validation": 8}}}],
}


def test_a_method_is_tuned_over_its_own_grid_where_the_comparison_gives_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    usual = METHODS["pissa"]
    monkeypatch.setitem(METHODS._entries, "pissa", replace(usual, learning_rates=(3.0, 1.0, 2.0)))
    own = {"name": "milora", "learning_rates": [0.5, 0.25, 0.125]}
    of_each = {"methods": ["plain", "transfer", "pissa", own]}
    found = CompareConfig.model_validate(COMPARISON | of_each)
    usual_rates = METHODS["plain"].learning_rates
    assert [found.rates_of(arm) for arm in found.arms] == [
        usual_rates,
        usual_rates,
        (1.0, 2.0, 3.0),
        (0.125, 0.25, 0.5),
    ]
    shared = CompareConfig.model_validate(
        COMPARISON | of_each | {"tuning": {"learning_rates": [7.0, 5.0, 6.0]}}
    )
    assert shared.rates_of(shared.arms[2]) == (5.0, 6.0, 7.0)
    monkeypatch.setitem(METHODS._entries, "pissa", replace(usual, learning_rates=(1.0, 2.0)))
    with pytest.raises(ValueError, match=r"same number of learning rates.*'pissa': 2"):
        CompareConfig.model_validate(COMPARISON | of_each)


class Noted:
    """A runner that computes nothing and notes what each step takes."""

    def __init__(self) -> None:
        self.takes: dict[str, dict[str, str]] = {}

    def __call__(self, step: Any, config: Any, *, label: str, **inputs: Handle) -> Handle:
        self.takes[label] = {role: handle.label for role, handle in inputs.items()}
        return Handle(label)

    start = __call__

    def check(self, *_given: Any, **_settings: Any) -> None:
        """Nothing is known that could be checked."""


def test_a_transfer_of_another_kind_needs_an_entry_and_a_builder(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It is what the report is about, with its own controls and what of it there is to draw."""

    def start(method: str, pair: ModelPair, *, seed: int) -> Handle:
        return pair.do(
            lora, LoraConfig(alpha=len(method)), label=f"{method} {seed}", student=pair.student
        )

    entry = replace(METHODS[TRANSFER], builder="aside", label="the other", controls=("weaker",))
    control = replace(METHODS["same-spectrum"], of="other", builder="aside", label="the weaker one")
    monkeypatch.setitem(BUILDERS._entries, "aside", Builder(start))
    monkeypatch.setitem(METHODS._entries, "other", entry)
    monkeypatch.setitem(METHODS._entries, "weaker", control)
    noted = Noted()
    wire(TransferConfig.model_validate(PAIR | {"arms": ["plain", "other", "weaker"]}), noted)
    assert noted.takes["finetune other"]["start"] == "other 0"
    assert noted.takes["finetune weaker"]["start"] == "weaker 0"
    assert set(noted.takes["report"]) == {"vanilla", "plain", "other", "weaker"}
    assert "sensitivity" not in noted.takes
    losses = {"other": 1.0, "plain": 1.5, "weaker": 1.4, "pissa": 1.6}
    found = judge([arm(name, loss, seeds=6) for name, loss in losses.items()])
    assert found.sentence.startswith("In answer NLL (nats a token) the other is ")
    assert {c.against for c in found.contrasts if c.headline} == {"plain", "weaker", "pissa"}
    told = compare_arms({name: items(loss, 0) for name, loss in {"vanilla": 2.0, **losses}.items()})
    assert "It beats each control here that a claim about the teacher needs: 1." in told["verdict"]


def test_the_page_says_what_of_the_teacher_a_method_uses() -> None:
    uses = {name: method.used for name, method in METHODS.items() if method.used}
    assert uses[TRANSFER] == "parameters, labels"
    assert about(TRANSFER)[1].endswith("Of the teacher it uses: parameters, labels.")
    assert not any(METHODS[name].is_student_start or METHODS[name].is_plain for name in uses)
