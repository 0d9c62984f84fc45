"""The paper's main table on stand-ins for its models and rows, whole, through the real flow."""

import json
from pathlib import Path

import pytest

from flows.compare import compare, finished
from flows.config.compare import CompareConfig
from flows.config.load import load_config
from flows.config.narrow import narrowed
from flows.planning.compare import make_compare_plan

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

MAIN = Path(__file__).parents[2] / "configs" / "paper" / "main.yaml"


def problems(path: Path, count: int, *, first: int = 0) -> Path:
    """Rows of GSM8K's form."""
    rows = [
        {
            "question": f"w{i} has {i} and w{i + 1} has {i % 7} ?",
            "answer": f"{i} + {i % 7} = <<{i}+{i % 7}={i + i % 7}>>{i + i % 7}\n#### {i + i % 7}",
        }
        for i in range(first, first + count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_the_main_table_runs_on_tiny_stand_ins(pair: Path, tmp_path: Path) -> None:
    rows = problems(tmp_path / "train.jsonl", 40)
    test = problems(tmp_path / "test.jsonl", 60, first=100)
    sizes = "tasks.gsm8k.data.sizes={seeds: 4, train: 16, validation: 4, test: all}"
    whole = load_config(
        CompareConfig,
        MAIN,
        [
            f"pairs.llama3.teacher.model={pair / 'teacher'}",
            f"pairs.llama3.student.model={pair / 'student'}",
            f"tasks.gsm8k.data.rows.path={rows}",
            f"tasks.gsm8k.data.test.path={test}",
            f"tasks.gsm8k-8.data.rows.path={rows}",
            f"tasks.gsm8k-8.data.test.path={test}",
            *(sizes, sizes.replace("gsm8k.", "gsm8k-8.")),
            *("tasks.gsm8k.evaluate.max_new_tokens=2", "tasks.gsm8k-8.evaluate.max_new_tokens=2"),
            *(
                "settings.lora.rank=4",
                "settings.decompose.max_rank=4",
                "settings.finetune.epochs=1",
            ),
            *("seeds=[0,1]", f"run.store={tmp_path / 'store'}", "run.device=cpu", "run.threads=1"),
        ],
    )
    both = make_compare_plan(narrowed(whole, pairs=["llama3"], tasks=["gsm8k", "gsm8k-8"]))
    trainings = [step for step in both.steps if step.step == "finetune"]
    assert len(trainings) == 4  # examples stand before test questions alone
    config = narrowed(whole, pairs=["llama3"], tasks=["gsm8k"])
    plan = make_compare_plan(config)
    assert not plan.failures
    assert plan.visible()[0].startswith("gsm8k: 60 test items show")
    assert plan.blind_spots[0].startswith("With 2 seeds and 1 comparison nothing can be shown")
    result = finished(compare(config, return_state=True))
    assert (result.failed, result.diverged, result.results) == (0, 0, 4)
    (verdict,) = result.verdicts.values()
    assert "nothing can be shown" in verdict
    assert make_compare_plan(config).all_cached
