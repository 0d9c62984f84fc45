"""What splits share, through the step: every row is named, and leave is given pair by pair."""

import json
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from paraknow_core.errors import DataError
from tasks.acquire_data import acquire_data
from tasks.contamination import ContaminationConfig, check_contamination, contamination
from tasks.engine.ref import folder_of
from tasks.engine.run import RunConfig
from tasks.engine.run_step import run_step
from tasks.rows.config import DataConfig


@pytest.fixture(scope="module")
def overlap(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five training rows that differ from test rows in two words, and seeds that are train's."""
    folder = tmp_path_factory.mktemp("overlap")
    asked = [" ".join(f"w{n}x{word}" for word in range(20)) for n in range(12)]
    rows = [{"prompt": text, "answer": str(n)} for n, text in enumerate(asked)]
    leaked = [{"prompt": f"Well then: {text}", "answer": "?"} for text in asked[:5]]
    for name, found in (("rows", rows), ("test", leaked)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in found))
    run = RunConfig(store=str(folder / "store"))
    settings: dict[str, Any] = {
        "rows": {"path": str(folder / "rows.jsonl")},
        "test": {"path": str(folder / "test.jsonl")},
        "sizes": {"seeds": 3, "train": "all", "validation": 0, "test": "all"},
        "seeds_from": "train",
    }
    config = DataConfig.model_validate(settings)
    data = run_step(acquire_data, label="data", config=config, inputs={}, run=run)
    made = run_step(
        contamination,
        label="contamination",
        config=ContaminationConfig(),
        inputs={"data": data},
        run=run,
    )
    return folder_of(run.open_store(), made)


def test_every_row_is_named_in_the_file_and_three_in_the_error(overlap: Path) -> None:
    table = json.loads((overlap / "overlap.json").read_text())["table"]
    named = {(e["first"], e["second"], e["kind"]): [row[1] for row in e["examples"]] for e in table}
    assert len(named["train", "test", "n-gram"]) == 5
    assert len(named["seeds", "train", "exact"]) == 3
    with pytest.raises(DataError, match=r"5 of 5 rows of test \(n-gram\).*; and 2 more") as caught:
        check_contamination({"overlap": overlap}, {}, allow=["seeds-train", "seeds-test"])
    assert "allow_overlap: [train-test]" in str(caught.value)
    assert "seeds" not in str(caught.value)


def test_leave_is_given_pair_by_pair(overlap: Path) -> None:
    check = partial(check_contamination, {"overlap": overlap}, {})
    check(allow=["seeds-train", "train-test", "seeds-test"])
    with pytest.raises(DataError, match=r"rows of train \(exact\) stand in seeds"):
        check(allow=["train-test", "seeds-test"])
    check_contamination({}, {}, allow=[])
