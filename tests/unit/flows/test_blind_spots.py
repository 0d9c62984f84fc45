"""A plan says what a comparison can never show, and a margin is checked as it is read."""

from pathlib import Path

import pytest

from flows.config.compare import CompareConfig
from flows.config.load import load_config
from flows.planning.design import blind_spots, visible_by_items
from flows.results.report_inputs import loss_of
from paraknow_core.errors import ConfigError

ROOT = Path(__file__).parents[3]


def config(*overrides: str) -> CompareConfig:
    five = "controls=[same-spectrum,shuffled-vocabulary,random-teacher]"
    rates = "tuning={learning_rates: [0.001]}"
    given = [rates, "methods=[plain,transfer,pissa,milora]", five, *overrides]
    return load_config(CompareConfig, ROOT / "configs" / "demo_compare.yaml", given)


def test_too_few_seeds_for_the_comparisons_of_a_cell_are_told() -> None:
    assert blind_spots(config("seeds=[0,1,2,3,4]")) == [
        "With 5 seeds and 5 comparisons nothing can be shown, as p < 0.05 cannot be reached; "
        "8 seeds can."
    ]
    assert blind_spots(config("seeds=[0,1,2]"))[0].startswith("With 3 seeds and 5 comparisons")
    assert blind_spots(config("seeds=[0,1,2,3,4,5,6,7]")) == []
    assert blind_spots(config("seeds=[0,1,2,3,4]", "methods=[plain]", "controls=[]")) == []


def test_a_claim_about_all_cells_may_be_out_of_reach_where_each_is_within_it() -> None:
    one = config()
    again = one.tasks[0].model_copy(update={"name": "again"})
    two = one.model_copy(update={"tasks": (*one.tasks, again)})
    assert blind_spots(two) == [
        "Of all 2 cells together: with 8 seeds and 10 comparisons nothing can be shown, as "
        "p < 0.05 cannot be reached; 9 seeds can."
    ]


def test_what_the_test_items_can_show_is_told() -> None:
    assert visible_by_items(problems(100, "")) == [
        "word-problems: 100 test items show a difference in exact match of 8.8 % where two models "
        "disagree on 10.0 % of the items, of 15.9 % where two models disagree on 30.0 % of the "
        "items (McNemar's test, in 80 of 100 repetitions)."
    ]
    assert visible_by_items(problems(6, "")) == []
    assert visible_by_items(problems(100, ", evaluate: {metrics: [answer_nll]}")) == []


def problems(items: int, more: str) -> CompareConfig:
    sizes = f"{{seeds: 4, train: 8, validation: 4, test: {items}}}"
    return config(f"tasks=[{{name: word-problems, problems: {{sizes: {sizes}}}{more}}}]")


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ("{loudness: 1}", "metric"),
        ("{answer_nll: 0}", "greater than 0"),
        ("{exact_match: .nan}", ""),
    ],
)
def test_a_margin_that_cannot_be_is_refused(given: str, told: str) -> None:
    with pytest.raises(ConfigError, match=rf"margins(.|\n)*{told}"):
        config(f"margins={given}")


def test_an_arm_is_distilled_by_its_own_settings_or_the_shared_ones() -> None:
    taught = {"finetune": {"distillation": {}}}
    own = config()
    shared = own.model_copy(update={"settings": {**own.settings, **taught}})
    arm = own.methods[0]
    assert loss_of(own, arm) == "answers"
    assert loss_of(own, arm.model_copy(update={"set": taught})) == "distillation"
    assert loss_of(shared, arm) == "distillation"
    without = arm.model_copy(update={"set": {"finetune": {"distillation": None}}})
    assert loss_of(shared, without) == "answers"


def test_an_arm_with_other_epochs_is_not_in_the_family() -> None:
    longer = "{name: pissa, set: {finetune: {epochs: 9}}}"
    given = f"methods=[plain,transfer,{longer},milora]"
    assert "5 comparisons" in blind_spots(config("seeds=[0,1,2,3,4]"))[0]
    assert "4 comparisons" in blind_spots(config("seeds=[0,1,2,3,4]", given))[0]
