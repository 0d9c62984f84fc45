"""The harness's own group of 57 subjects, on small made questions: weights and categories."""

from math import fsum
from pathlib import Path
from typing import Any

import lm_eval
import pytest
import yaml
from lm_eval.tasks import TaskManager
from lm_eval.tasks._index import TaskIndex
from lm_eval.tasks._yaml_loader import load_yaml
from support.benchmarks import choice, write_jsonl
from support.tiny import tiny_model

from paraknow_core.evaluation.benchmarks import opened as opening
from paraknow_core.evaluation.benchmarks.described import describe
from paraknow_core.evaluation.benchmarks.find import HARNESS, find
from paraknow_core.evaluation.benchmarks.opened import opened
from paraknow_core.evaluation.benchmarks.primary import check_primary, questions_of
from paraknow_core.evaluation.benchmarks.run import run_benchmark
from paraknow_core.evaluation.benchmarks.scores import BenchmarkScore, score_of
from paraknow_core.evaluation.benchmarks.wanted import SUBSET, Asking, Wanted
from paraknow_core.evaluation.metrics import METRICS
from paraknow_core.models.load import load_model, load_tokenizer

OWN = HARNESS / "mmlu" / "default"
CATEGORIES = ("mmlu_stem", "mmlu_other", "mmlu_social_sciences", "mmlu_humanities")


def subjects() -> dict[str, tuple[str, Path]]:
    """Task → the name of its subject in data files, and its definition."""
    files = find("mmlu", None).files
    return {
        name: (str(load_yaml(path, resolve_func=False)["dataset_name"]), path)
        for name, path in sorted(files.items())
    }


def harness(model: Path, data: Path, folder: Path) -> dict[str, dict[str, Any]]:
    """What `lm_eval` says of the same files, by definitions that name them as its guide has it."""
    folder.mkdir()
    for name, (subject, path) in subjects().items():
        files = {split: str(data / f"{subject}.{split}.jsonl") for split in ("dev", "test")}
        told = {"include": str(path), "task": name, "dataset_path": "json", "dataset_name": None}
        told["dataset_kwargs"] = {"data_files": files}
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(told))
    found = lm_eval.simple_evaluate(
        model="hf",
        model_args=f"pretrained={model},dtype=float32",
        tasks=["mmlu"],
        num_fewshot=0,
        device="cpu",
        batch_size=16,
        task_manager=TaskManager(include_defaults=False, include_path=[str(OWN), str(folder)]),
    )
    results: dict[str, dict[str, Any]] = found["results"]
    return results


def test_mmlu_is_weighted_by_questions_as_the_harness_does_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(opening.datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(  # the index of all 14,683 definitions takes 10 s
        "paraknow_core.evaluation.benchmarks.find._whole", lambda: TaskIndex.build([OWN])
    )
    monkeypatch.setattr("lm_eval.evaluator.add_env_info", lambda _storage: None)
    data, model = tmp_path / "data", tmp_path / "model"
    tiny_model(model, hidden=32, layers=2, heads=4, kv_heads=2, ffn=64, seed=2)
    for number, (subject, _path) in enumerate(subjects().values()):
        rows = [choice(3 * n + number, subject) for n in range(3 + 7 * number % 9)]
        write_jsonl(data / f"{subject}.dev.jsonl", rows[:1])
        write_jsonl(data / f"{subject}.test.jsonl", rows[1:])
    named = {split: str(data / f"{SUBSET}.{split}.jsonl") for split in ("dev", "test")}
    with opened(Wanted("mmlu", 0, None, named)) as benchmark:
        described = describe(benchmark)
        student = load_model(model), load_tokenizer(model)
        scores = run_benchmark(*student, benchmark, Asking()).scores
    check_primary(described, "mmlu 0-shot:acc")
    of: dict[str, BenchmarkScore] = {score.task: score for score in scores}
    assert len(of) == len(scores) == 1 + len(CATEGORIES) + 57
    assert questions_of(described, None) == of["mmlu"].items
    for name in ("mmlu", *CATEGORIES):
        parts = [of[task] for task in of[name].members]
        assert of[name].items == sum(part.items for part in parts)
        right = fsum(float(str(part.value)) * part.items for part in parts)
        assert of[name].value == pytest.approx(right / of[name].items, abs=1e-15)
        alike = fsum(float(str(part.value)) for part in parts) / len(parts)
        assert abs(alike - right / of[name].items) > 1e-9  # so a mean of subjects would be seen
    assert sum(len(of[name].members) for name in CATEGORIES) == len(of["mmlu"].members) == 57
    theirs = harness(model, data, tmp_path / "theirs")
    assert theirs.keys() == of.keys()
    for name, score in of.items():
        assert theirs[name]["acc,none"] == score.value
        assert theirs[name]["acc_stderr,none"] == score.stderr
    assert score_of(scores, METRICS.choose("mmlu:acc")).higher_is_better is True
