"""The settings of rows: what is refused, what is identity, and what the step makes of them."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from paraknow_core.data import read_split
from paraknow_core.data.examples import TokenisedExample
from paraknow_core.data.tokenisation import TokenisedSplit
from paraknow_core.errors import DataError
from paraknow_core.settings import identity_of
from tasks.acquire_data import acquire_data
from tasks.checks.cut_rows import tell_cut
from tasks.engine.ref import folder_of
from tasks.engine.run import RunConfig
from tasks.engine.run_step import run_step
from tasks.rows.config import DataConfig


def rows(path: Path, *numbers: int) -> str:
    texts = [json.dumps({"q": f"question {n}", "a": [f"answer {n}", "x"]}) for n in numbers]
    path.write_text("\n".join(texts) + "\n")
    return str(path)


def acquired(folder: Path, settings: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    run = RunConfig(store=str(folder / "store"))
    config = DataConfig.model_validate(settings)
    ref = run_step(acquire_data, label="data", config=config, inputs={}, run=run)
    place = folder_of(run.open_store(), ref)
    names = ("seeds", "train", "validation", "test")
    return ref, {name: read_split(place / f"{name}.parquet") for name in names}


COLUMNS = {"prompt": "q", "answer": "a"}


def test_each_split_from_a_file_of_its_own_and_the_key_is_their_content(tmp_path: Path) -> None:
    files = {
        "seeds": rows(tmp_path / "s.jsonl", 1, 2),
        "train": rows(tmp_path / "t.jsonl", 1, 2, 3),
        "validation": rows(tmp_path / "v.jsonl", 4),
        "test": rows(tmp_path / "e.jsonl", 5, 6),
        "fewshot": rows(tmp_path / "f.jsonl", 7),
    }
    settings: dict[str, Any] = {
        **{n: {"path": path} for n, path in files.items() if n != "fewshot"},
        "columns": COLUMNS,
        "template": "none",
        "sizes": dict.fromkeys(("seeds", "train", "validation", "test"), "all"),
        "may_share": ["seeds-train"],
        "wording": {"prompt": "Q: {{ q }}", "prefix": "\nA:"},
        "fewshot": {"count": 1, "rows": {"path": files["fewshot"]}},
    }
    ref, splits = acquired(tmp_path, settings)
    assert {name: len(found) for name, found in splits.items()} == {
        "seeds": 2,
        "train": 3,
        "validation": 1,
        "test": 2,
    }
    test = min(splits["test"], key=lambda row: row.prompt)
    assert test.prompt == "Q: question 7\nanswer 7\n\nQ: question 5\nA:"
    assert (test.answer, test.references, test.own) == (" answer 5", ("x",), "Q: question 5")
    moved = Path(files["seeds"]).rename(tmp_path / "moved.jsonl")
    again, _ = acquired(tmp_path, settings | {"seeds": {"path": str(moved)}})
    assert again.key == ref.key
    rows(tmp_path / "f.jsonl", 8)
    assert acquired(tmp_path, settings | {"seeds": {"path": str(moved)}})[0].key != ref.key


def test_a_source_may_have_columns_and_words_of_its_own(tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_text(json.dumps({"text": "open", "reply": "said"}) + "\n")
    words = {"prompt": "{{ text }}?", "prefix": "!"}
    source = {"path": str(other), "columns": {"answer": "reply"}, "wording": words}
    settings = {
        "rows": {"path": rows(tmp_path / "rows.jsonl", *range(6))},
        "test": source,
        "columns": COLUMNS,
        "template": "none",
        "sizes": {"seeds": 1, "train": "all", "validation": 1, "test": 1},
    }
    _, splits = acquired(tmp_path, settings)
    assert [(row.prompt, row.answer) for row in splits["test"]] == [("open?!", " said")]
    assert {row.prompt[:8] for row in splits["train"]} == {"question"}


def test_settings_that_are_not_used_leave_the_identity_as_it_was() -> None:
    assert identity_of(DataConfig()).keys() == {
        "rows",
        "test",
        "columns",
        "template",
        "sizes",
        "seed",
    }
    assert identity_of(DataConfig().rows).keys() == {"hub", "subset", "split", "revision"}
    changed = DataConfig.model_validate({"sizes": {"train": "all"}, "seeds_from": "train"})
    assert identity_of(changed)["sizes"]["train"] == "all"
    assert identity_of(changed)["seeds_from"] == "train"
    assert DataConfig.model_validate(changed.model_dump()) == changed


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"sizes": {"train": "some"}}, r"valid integer"),
        ({"sizes": {"train": 0}}, "greater than or equal to 1"),
        ({"sizes": {"train": "all", "test": "all"}}, "train and test cannot both have all"),
        ({"rows": {"path": "a", "hub": "b"}}, "rows gives both path 'a' and hub 'b'"),
        (
            {"fewshot": {"count": 1, "rows": {"path": "a", "hub": "b"}}},
            r"fewshot\.rows gives both path",
        ),
        ({"seeds": {"path": "a"}, "seeds_from": "train"}, "leave one of them out"),
        ({"may_share": ["train-tset"]}, "did you mean 'train-test'"),
        ({"fewshot": {"splits": ["tests"]}}, "did you mean 'test'"),
        ({"wording": {"prompt": "{% if %}"}}, "no valid Jinja template: line 1"),
    ],
)
def test_settings_that_cannot_work_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(ValidationError, match=words):
        DataConfig.model_validate(settings)


def test_splits_without_any_rows_are_named(tmp_path: Path) -> None:
    own = {"path": rows(tmp_path / "rows.jsonl", 1)}
    with pytest.raises(DataError, match=r"No rows given.*\(for seeds, train, validation\)"):
        acquired(tmp_path, {"test": own, "columns": COLUMNS})
    with pytest.raises(DataError, match=r"No rows given: set data\.rows\.path .*hub\.$"):
        acquired(tmp_path, {})


def test_a_report_says_what_splits_share() -> None:
    assert DataConfig().notes() == ()
    drawn = DataConfig.model_validate({"seeds_from": "train", "may_share": ["train-test"]})
    assert [note.split(" (")[0] for note in drawn.notes()] == [
        "The seeds are rows of the training split too",
        "These splits were allowed to share rows",
    ]
    assert drawn.may_share_rows() == ("train-test", "seeds-train")


def test_what_a_cut_off_took_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    row = TokenisedExample((1, 2), (-100, 2))
    with caplog.at_level(logging.WARNING, logger="paraknow"):
        whole = tell_cut(TokenisedSplit((row,), 0, 0), label="finetune", split="train")
        assert (whole, caplog.messages) == ({"truncated": 0}, [])
        cut = tell_cut(TokenisedSplit((row, row), 1, 3), label="finetune", split="train")
    assert cut == {"truncated": 1, "dropped": 3}
    assert caplog.messages == [
        "finetune: 3 of 5 rows of train lose their whole answer at the cut-off and are left out; "
        "raise cutoff, or shorten them",
        "finetune: 1 of 5 rows of train lose the end of their answer at the cut-off",
    ]
