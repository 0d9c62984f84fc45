"""A transfer on a task's file, through a run's own steps: what a reader has to know is told."""

import json
import logging
from pathlib import Path

import pytest
from support.direct import run_direct
from support.pair import pair_settings, write_pair

from artifacts.names import StepKey
from paraknow_core.evaluation.items import read_items
from tasks.engine.ref import folder_of
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage

TASK = """\
data:
  rows: {path: ROWS}
  template: none
  wording: {prompt: "{{ question }} ", answer: "{{ answer }}"}
  fewshot: {count: 1, joint: " ", separator: " "}
  sizes: {seeds: 4, train: all, validation: 2, test: 4}
  seeds_from: train
evaluate: {primary: exact_match, long_prompts: cut}
"""


def test_a_task_runs_and_tells_what_a_reader_has_to_know(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = write_pair(tmp_path / "pair")
    rows = [{"question": f"w{n} w{n}", "answer": [f"w{n + 1}", "w0"]} for n in range(12)]
    rows += [{"question": " ".join([f"w{n}"] * 40), "answer": "w1"} for n in range(12, 16)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    task = tmp_path / "mine.yaml"
    task.write_text(TASK.replace("ROWS", str(tmp_path / "rows.jsonl")))
    given = pair_settings(folder, tmp_path / "store") | {
        "task": str(task),
        "arms": ["plain", "transfer"],
        "extract": {"roles": ["head"]},
    }
    del given["data"]
    for step in ("sensitivity", "finetune"):
        given[step] = given.get(step, {}) | {"cutoff": 30}
    with caplog.at_level(logging.WARNING, logger="paraknow"):
        refs = run_direct(given, Stage.REPORT)
    store = RunConfig(store=str(tmp_path / "store")).open_store()
    record = store.lookup(StepKey(refs["finetune transfer"].key))
    assert record is not None
    dropped = int(str(record.facts["dropped"]))
    assert dropped >= 1
    told = (
        f"finetune transfer: {dropped} of 10 rows of train lose their whole answer at the cut-off"
    )
    assert any(message.startswith(told) for message in caplog.messages)
    items = read_items(folder_of(store, refs["evaluate transfer"]) / "items.parquet")
    assert len(items) == 4
    assert len({item.prompt.split(" ", 1)[0] for item in items}) == 1  # the example comes first
    summary = folder_of(store, refs["report"]) / "summary.md"
    assert "The seeds are rows of the training split too" in summary.read_text()
