"""Whatever stands in a settings file: one line that names the setting, or a plan that can be kept.

Settings are drawn from the edges of their schema. A plan in a new store, where the models are still
to be trained, must say the same as a plan in a store that has them.
"""

import copy
import math
import re
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from artifacts.errors import StoreError
from flows.config.compare import CompareConfig
from flows.config.load import load_config
from flows.config.transfer import TransferConfig
from flows.planning.compare import make_compare_plan
from flows.planning.transfer import make_plan
from paraknow_core.demo import pretrain as pretraining
from paraknow_core.demo.pretrain_material import Material
from paraknow_core.demo.pretrain_recipe import PretrainingRecipe
from paraknow_core.errors import ParaknowError
from paraknow_core.setting_errors import _settings_in
from tasks.engine.run import RunConfig
from tasks.engine.run_step import run_step
from tasks.engine.stage import Stage
from tasks.pretrain import pretrain

TEACHER = {"hidden_size": 32, "layers": 3, "ffn": 48, "heads": 4, "kv_heads": 2, "task_steps": 1}
STUDENT = {"hidden_size": 16, "layers": 2, "ffn": 32, "heads": 2, "kv_heads": 1, "task_steps": 1}
PROBLEMS = {"sizes": {"seeds": 4, "train": 16, "validation": 4, "test": 4}}
STEPS = {
    "decompose": {"max_rank": 4},
    "lora": {"rank": 4, "alpha": 4},
    "finetune": {"batch_size": 8, "epochs": 1},
    "evaluate": {"max_new_tokens": 4},
}
TRANSFER = {
    "teacher": {"pretrain": TEACHER},
    "student": {"pretrain": STUDENT},
    "problems": PROBLEMS,
    **STEPS,
}
COMPARE = {
    "pairs": [{"name": "p", "teacher": TRANSFER["teacher"], "student": TRANSFER["student"]}],
    "tasks": [{"name": "t", "problems": PROBLEMS}],
    "methods": [{"name": "plain"}, {"name": "transfer"}],
    "settings": STEPS,
    "tuning": {"learning_rates": [1e-3], "seeds": [9]},
    "seeds": [0, 1, 2, 3, 4],
    "allow_overlap": True,
}
Stores = tuple[Path, Path]

NUMBERS = [
    *(math.nan, math.inf, -math.inf, "1e400", "1e-3", 1e300, 1e31, 5e-324, -0.5, 0.0, 1.5),
    *(-1, 0, 1, 3, 49, 97, 4900, 2**32, 2**64, 10**12, 10**40, 16**5000, True),
]
TEXTS = ["", "nope", "q", "pissa", "\ud800", "a\0b\x1b[31m\n", "~nobody99/x", "x" * 5000, None]
LISTS = [
    *([], [0, 0, 0], [0, 1], [-1], [math.nan], [1e-3, 1e-3], ["nope"], ["q", "q"], [[1]], [None]),
    *({}, {"nope": 1}, {1: 2}, {"plain": math.nan}, {"finetune": 5}, list(range(2000))),
]
EDGES = st.sampled_from([*NUMBERS, *TEXTS, *LISTS])
ELSEWHERE = ("run.store", "teacher.model", "student.model", "data", "other_data")
"""What leads out of the test's folder, or is not used."""


class Dumper(yaml.SafeDumper):
    """Writes integers of any size; Python refuses the decimal digits of very large ones."""


Dumper.add_representer(
    int, lambda dumper, value: dumper.represent_scalar("tag:yaml.org,2002:int", hex(value))
)


def places(model: Any, path: str = "") -> Iterator[str]:
    """Every setting of a type of settings, at any depth, in the words of ``--set``."""
    for name, field in model.model_fields.items():
        here = f"{path}{name}"
        if here.startswith(ELSEWHERE):
            continue
        yield here
        below = _settings_in(field.annotation)
        if below is not None:
            yield from places(below, f"{here}.")


def put(given: dict[str, Any], place: str, value: object) -> dict[str, Any]:
    """Copy settings with one changed; a list is entered at its first entry."""
    changed = copy.deepcopy(given)
    *parents, last = place.split(".")
    inner: Any = changed
    for parent in parents:
        inner = inner.setdefault(parent, {})
        inner = inner[0] if isinstance(inner, list) else inner
    inner[last] = value
    return changed


def planned(model: Any, given: dict[str, Any], store: Path) -> str | list[str]:
    """Load and plan; gives the one line of a refusal, or what cannot run of a comparison."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "settings.yaml")
        path.write_text(yaml.dump(given, Dumper=Dumper))
        try:
            config = load_config(model, path, [f"run.store={store}", "run.download=false"])
            if isinstance(config, TransferConfig):
                make_plan(config, Stage.REPORT)
                return []
            return make_compare_plan(config).failures
        except (ParaknowError, StoreError) as error:
            return str(error).replace(str(path), "FILE").replace(str(store), "STORE")


def agree(model: Any, given: dict[str, Any], stores: Stores) -> str | list[str]:
    """Plan in a new store and in one that has the models; both must say the same."""
    new, trained = stores
    said = planned(model, given, new)
    if not (isinstance(said, str) and said.startswith("FILE")):  # not refused while it was read
        assert planned(model, given, trained) == said
    return said


def is_told(said: str | list[str], place: str) -> None:
    """A refusal is one short line of printable text that names a part of the setting's path."""
    if isinstance(said, str):
        assert said.isprintable(), said
        assert len(said) < 1500
        # It may be no YAML to begin with; or what the setting has to do with is named.
        named = [*place.split("."), "data.rows", *STEPS, "no valid YAML: line "]
        assert any(name in said for name in named), said


@pytest.fixture(scope="module")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stores]:
    """A new store, and one that has both models; plans put nothing into them."""
    new = tmp_path_factory.mktemp("new") / "store"
    store = tmp_path_factory.mktemp("trained") / "store"
    run = RunConfig(store=str(store), threads=1, device="cpu")
    here = replace(pretrain, own_process=False)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretraining, "pretrain", untrained)
        for recipe in (TEACHER, STUDENT):
            run_step(here, label="model", config=PretrainingRecipe(**recipe), inputs={}, run=run)
    yield new, store
    assert not list(RunConfig(store=str(new)).open_store().records())


def untrained(
    *, out_folder: Path, recipe: PretrainingRecipe, material: Material, **_: Any
) -> pretraining.PretrainResult:
    """Write the model as training would, after no step: a plan looks at no weight."""
    model = pretraining._new_model(recipe, material, "cpu")
    pretraining._write_model(model, material, out_folder)
    return pretraining.PretrainResult(1, 1.0, 1.0, {}, None)


OF_TRANSFER = st.sampled_from([p for p in places(TransferConfig) if "pretrain" not in p])
OF_PRETRAINING = st.sampled_from(
    [f"teacher.pretrain.{name}" for name in PretrainingRecipe.model_fields]
)
OF_COMPARISON = st.sampled_from(
    [p for p in places(CompareConfig) if not p.startswith(("pairs", "tasks.data", "tasks.other"))]
    + [f"settings.{p}" for p in places(TransferConfig) if p.partition(".")[0] in STEPS]
    + [f"methods.set.{step}" for step in STEPS]
)


@settings(max_examples=80)
@given(OF_TRANSFER, EDGES)
def test_a_transfer_is_refused_in_one_line_or_planned_for_good(
    stores: Stores, place: str, value: object
) -> None:
    is_told(agree(TransferConfig, put(TRANSFER, place, value), stores), place)


@settings(max_examples=40)
@given(OF_PRETRAINING, EDGES)
def test_a_recipe_is_refused_in_one_line_or_planned(
    stores: Stores, place: str, value: object
) -> None:
    is_told(planned(TransferConfig, put(TRANSFER, place, value), stores[0]), place)


@settings(max_examples=25)
@given(OF_COMPARISON, EDGES)
def test_a_comparison_is_refused_in_one_line_or_planned_for_good(
    stores: Stores, place: str, value: object
) -> None:
    is_told(agree(CompareConfig, put(COMPARE, place, value), stores), place)


def test_a_comparison_may_set_whatever_a_start_point_or_a_step_has() -> None:
    """All sections of a transfer but those that a comparison has a place of its own for."""
    own = {"name", "teacher", "student", "data", "problems", "baseline", "run"}
    own |= {"task", "recipe", "arms", "learning_rates", "other_data", "other_problems", "judge"}
    own |= {"other_teacher", "teacher_base", "teacher_adapter", "budget"}
    for section in TransferConfig.model_fields.keys() - own:
        CompareConfig.model_validate(COMPARE | {"settings": {section: {}} | STEPS})


@pytest.mark.parametrize(
    ("place", "value", "message"),
    [
        ("align.layers", [0], r"align\.layers is \[0\]; it must name 2 different .* of 0\.\.2"),
        ("align.layers", [0, 3], r"align\.layers is \[0, 3\].*0\.\.2"),
        ("decompose.max_rank", 4900, r"decompose\.max_rank is 4900.*allows 1\.\.8"),
        ("decompose.max_rank", 9, r"decompose\.max_rank is 9.*allows 1\.\.8"),
        ("teacher.pretrain.layers", 1, "student has 2 layers, the teacher only 1"),
        ("teacher.pretrain.hidden_size", 8, "student is wider than the teacher"),
        ("arms", ["transfer", "lora-ga"], None),
        ("evaluate.max_new_tokens", 120, r"max_new_tokens is 120.*takes 128.*Allowed is 1\.\."),
        ("evaluate.max_new_tokens", 100, None),
    ],
)
def test_the_plan_looks_at_the_models_that_the_settings_describe(
    stores: Stores, place: str, value: object, message: str | None
) -> None:
    changed = put(TRANSFER, place, value)
    if "pretrain" in place:  # another model, which neither store has
        said = planned(TransferConfig, changed, stores[0])
    else:
        said = agree(TransferConfig, changed, stores)
    assert re.search(message, str(said)) if message else said == []


def test_lora_ga_needs_twice_the_rank(stores: Stores) -> None:
    given = put(TRANSFER, "arms", ["transfer", "lora-ga"])
    given["lora"]["rank"] = given["decompose"]["max_rank"] = 5
    assert "lora.rank is 5, and lora-ga takes 2 times" in agree(TransferConfig, given, stores)
    many = put(COMPARE, "methods", ["plain", {"name": "g", "method": "lora-ga"}])
    many["settings"] = STEPS | {"lora": {"rank": 5}, "decompose": {"max_rank": 5}}
    assert "lora-ga takes 2 times" in agree(CompareConfig, many, stores)[0]


def test_what_is_foreseen_of_a_model_is_what_it_will_be(stores: Stores) -> None:
    found = []
    for store in stores:
        config = TransferConfig.model_validate(TRANSFER | {"run": {"store": str(store)}})
        plan = make_plan(config, Stage.REPORT)
        found.append([(step.label, step.estimate) for step in plan.steps[2:]])
    assert found[0][:2] == found[1][:2]
