"""The one list of methods says what it must, and every report can show all of them."""

import pytest

from flows.config.needs import NEEDS
from flows.config.transfer import TransferConfig
from flows.graph.cuts import TEACHERS
from flows.graph.start_points import BUILDERS
from paraknow_core.alignment.layers import LAYER_STRATEGIES
from paraknow_core.methods import METHODS, PLAIN, TRANSFER, every_arm
from paraknow_core.report.transfer_summary import arm_name

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
    controls = {name for name, method in METHODS.items() if method.is_control}
    needed = {name for name, method in METHODS.items() if method.is_needed_by(TRANSFER)}
    assert needed == controls - {"random-layers", "other-seeds"}
    assert not any(method.is_needed_by(PLAIN) for method in METHODS.values())


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"arms": ["transfer", "pisa"]}, "unknown method 'pisa'; known are plain, transfer, pissa"),
        ({"arms": ["plain"]}, "transfer must be among them"),
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
