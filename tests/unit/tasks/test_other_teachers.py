"""Controls that put another model in the teacher's place: what they take, and what is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from support.direct import DirectRunner, run_direct
from support.pair import TEACHER, pair_settings, write_pair
from support.tiny import tiny_model

from flows.config.compare import CompareConfig
from flows.config.transfer import TransferConfig
from flows.graph.pair import acquire_pair, check_teachers
from flows.graph.start_points import start_point
from paraknow_core.errors import ConfigError, ShapeError, TokenizerError
from paraknow_core.methods import METHODS
from tasks.engine.ref import folder_of
from tasks.engine.stage import Stage


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = write_pair(tmp_path_factory.mktemp("pair"))
    tiny_model(made / "another", **TEACHER, seed=7)
    return made


def settings(folder: Path, store: Path, **changes: Any) -> dict[str, Any]:
    return pair_settings(folder, store) | {"extract": {"roles": ["embed", "v", "head"]}} | changes


def started(given: dict[str, Any], method: str, seed: int = 0) -> dict[str, torch.Tensor]:
    config = TransferConfig.model_validate(given)
    pair = acquire_pair(config, DirectRunner(config.run, Stage.LORA), methods=(method,))
    ref = start_point(method, pair, seed=seed).ref
    assert ref is not None
    return load_file(folder_of(config.run.open_store(), ref) / "adapter_model.safetensors")


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[n], other[n]) for n in one)


@pytest.mark.parametrize(
    ("control", "method"), [("other-teacher", "transfer"), ("novel-other", "novel-tokens")]
)
def test_only_the_teacher_is_another_one(
    folder: Path, tmp_path: Path, control: str, method: str
) -> None:
    """The control's start point is the method's own, of a pair with that teacher."""
    other = {"model": str(folder / "another")}
    found = started(settings(folder, tmp_path, other_teacher=other), control)
    assert same(found, started(settings(folder, tmp_path, teacher=other), method))
    assert not same(found, started(settings(folder, tmp_path), method))


def test_a_model_that_was_never_trained_is_drawn_for_each_seed_where_that_is_asked(
    folder: Path, tmp_path: Path
) -> None:
    one = {"extract": {"roles": ["v"]}}
    usual, each = (
        [
            started(settings(folder, tmp_path, **one, random_teacher=how), "random-teacher", seed)
            for seed in (0, 1)
        ]
        for how in ({}, {"each_seed": True})
    )
    assert same(*usual)
    assert not same(*each)
    assert same(usual[0], each[0])  # the draw of seed 0 is what stands for all by default


def test_knowledge_of_another_teacher_is_still_a_teachers() -> None:
    """A claim that the teacher's knowledge moved need not beat it."""
    for of, control in (("transfer", "other-teacher"), ("novel-tokens", "novel-other")):
        assert METHODS[control].of == of
        assert not METHODS[control].is_needed_by(of)


ANOTHER = {"model": "another"}


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"arms": ["transfer", "other-teacher"]}, "other-teacher needs another teacher of the"),
        ({"arms": ["novel-tokens", "novel-other"]}, "set other_teacher beside teacher"),
        (
            {"arms": ["transfer", "other-teacher"], "other_teacher": {"model": "t"}},
            "other_teacher is the teacher itself",
        ),
        (
            {"arms": ["novel-tokens", "novel-own"], "other_teacher": ANOTHER},
            r"the student in its teacher's place: .* no start point \(N = 0\). Leave novel-own out",
        ),
        (
            {"arms": ["plain", "novel-tokens"], "teacher": {"model": "s"}},
            r"but both are one model: .*\(N = 0\)",
        ),
        ({"other_teacher": {"pretrain": {}, "texts": {}}}, "other_teacher.texts: only a student"),
    ],
)
def test_a_control_without_its_model_is_refused_as_settings_are_read(
    changes: dict[str, Any], says: str
) -> None:
    pair = {"teacher": {"model": "t"}, "student": {"model": "s"}}
    with pytest.raises(ValueError, match=says):
        TransferConfig.model_validate(pair | changes)
    if "arms" not in changes:
        return
    plain, *others = ("plain", *(name for name in changes["arms"] if name != "plain"))
    given = {key: value for key, value in changes.items() if key != "arms"}
    whole = {
        "pairs": [{"name": "p", **pair, **given}],
        "tasks": [{"name": "t", "data": {"rows": {"path": "r"}, "sizes": {"validation": 8}}}],
        "methods": [plain, *others],
    }
    with pytest.raises(ValueError, match=says):
        CompareConfig.model_validate(whole)


def test_a_comparison_hands_its_pairs_other_teacher_on() -> None:
    pair = {"name": "p", "teacher": {"model": "t"}, "student": {"model": "s"}}
    whole = {
        "pairs": [pair | {"other_teacher": ANOTHER}],
        "tasks": [{"name": "t", "data": {"rows": {"path": "r"}, "sizes": {"validation": 8}}}],
        "controls": ["other-teacher"],
    }
    config = CompareConfig.model_validate(whole)
    found = config.transfer(config.pairs[0], config.tasks[0], config.controls[0])
    assert found.other_teacher is not None
    assert found.other_teacher.model == "another"


def test_a_model_that_cannot_take_the_place_is_refused_before_anything_is_computed(
    folder: Path, tmp_path: Path
) -> None:
    tiny_model(tmp_path / "narrow", **TEACHER | {"hidden": 32}, seed=7)
    arms = {"arms": ["transfer", "other-teacher"]}
    refused: list[tuple[Path, type[Exception], str]] = [
        (
            tmp_path / "narrow",
            ShapeError,
            r"embed is \[64, 32\], the teacher's is \[64, 48\], and 30 of 30 matrices differ",
        ),
        (
            tiny_model(tmp_path / "tied", **TEACHER, tied=True),
            ShapeError,
            r"head is missing, the teacher's is \[64, 48\], and 1 of 30",
        ),
        (copied(folder / "teacher", tmp_path / "twin"), ConfigError, "file by file"),
        (renamed(folder / "another", tmp_path / "named"), TokenizerError, "another tokenizer"),
    ]
    for model, error, says in refused:
        given = settings(folder, tmp_path / "store", other_teacher={"model": str(model)})
        with pytest.raises(error, match=says):
            run_direct(given | arms)
        store = TransferConfig.model_validate(given).run.open_store()
        assert {record.step for record in store.records()} == {"acquire-model", "acquire-data"}
    config = TransferConfig.model_validate(given)  # nobody asks for it, so it is not looked at
    check_teachers(acquire_pair(config, DirectRunner(config.run, Stage.LORA)), ["transfer"])


def copied(model: Path, to: Path) -> Path:
    to.mkdir()
    for file in model.iterdir():
        (to / file.name).write_bytes(file.read_bytes())
    return to


def renamed(model: Path, to: Path) -> Path:
    """The same weights, and a tokenizer in which one word is another."""
    copied(model, to)
    words = json.loads((to / "tokenizer.json").read_text())
    words["model"]["vocab"]["elsewhere"] = words["model"]["vocab"].pop("w3")
    (to / "tokenizer.json").write_text(json.dumps(words))
    return to
