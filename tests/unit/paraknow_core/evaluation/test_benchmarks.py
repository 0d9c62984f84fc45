"""Benchmarks through lm-evaluation-harness: its command line's numbers, and what is refused."""

import json
import re
import sys
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from lm_eval import evaluator
from lm_eval.__main__ import cli_evaluate
from lm_eval.tasks._index import TaskIndex
from support.benchmarks import SUBJECTS, choice, write_data, write_definitions, write_jsonl
from support.tiny import tiny_model

from paraknow_core.errors import ConfigError, DataError
from paraknow_core.evaluation.benchmarks import opened as opening
from paraknow_core.evaluation.benchmarks.described import check_same, describe
from paraknow_core.evaluation.benchmarks.find import HARNESS, find
from paraknow_core.evaluation.benchmarks.opened import NotHereError, opened
from paraknow_core.evaluation.benchmarks.run import run_benchmark
from paraknow_core.evaluation.benchmarks.scores import (
    ANSWERS,
    SCORES,
    VALUE,
    BenchmarkResult,
    items_of,
    read_scores,
    scores_json,
    write_answers,
)
from paraknow_core.evaluation.benchmarks.wanted import SUBSET, Asking, Wanted
from paraknow_core.models.load import load_model, load_tokenizer
from tasks.engine.json_files import write_json

SHIPPED = HARNESS / "gsm8k" / "gsm8k.yaml"
REAL = Path(__file__).parents[4].parent / "shared" / "data"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("benchmarks")
    tiny_model(folder / "model", hidden=32, layers=2, heads=4, kv_heads=2, ffn=64, seed=2)
    write_definitions(folder / "definitions", write_data(folder / "data"))
    return folder


@pytest.fixture(scope="module")
def model(place: Path) -> Any:
    return load_model(place / "model"), load_tokenizer(place / "model")


@pytest.fixture(autouse=True)
def _offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """As with HF_DATASETS_OFFLINE=1, which `datasets` reads when it is imported."""
    monkeypatch.setattr(opening.datasets.config, "HF_HUB_OFFLINE", True)


def run(model: Any, wanted: Wanted, **asking: Any) -> BenchmarkResult:
    with opened(wanted) as benchmark:
        describe(benchmark)
        return run_benchmark(*model, benchmark, Asking(**{"max_gen_toks": 5, **asking}))


def command_line(place: Path, shots: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """What `lm_eval` itself writes. Its own 14,683 definitions are left out: they take 10 s."""
    build, folder = TaskIndex.build, place / f"out-{shots}"
    monkeypatch.setattr(
        TaskIndex, "build", staticmethod(lambda paths: build([p for p in paths if p != HARNESS]))
    )
    monkeypatch.setattr(evaluator, "add_env_info", lambda _storage: None)
    given = f"lm_eval run --model hf --model_args pretrained={place / 'model'},dtype=float32"
    given += f" --tasks sums,facts --num_fewshot {shots} --batch_size 4 --device cpu --log_samples"
    given += f" --include_path {place / 'definitions'} --output_path {folder}"
    monkeypatch.setattr(sys, "argv", given.split())
    cli_evaluate()
    (whole,) = folder.rglob("results_*.json")
    found: dict[str, Any] = json.loads(whole.read_text())
    found["samples"] = {
        name: [json.loads(line) for line in path.read_text().splitlines()]
        for name in ("sums", *(f"facts_{subject}" for subject in SUBJECTS))
        for path in folder.rglob(f"samples_{name}_*.jsonl")
    }
    return found


@pytest.mark.parametrize("shots", [0, 2])
def test_numbers_are_those_of_the_harness_s_command_line(
    place: Path, model: Any, shots: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    theirs = command_line(place, shots, monkeypatch)
    told, answered = 0, 0
    for name in ("sums", "facts"):
        wanted = Wanted(name, shots, place / "definitions")
        ours = run(model, wanted, batch_size=4, max_gen_toks=None)
        for score in ours.scores:
            said = theirs["results"][score.task]
            assert said[f"{score.metric},{score.filter}"] == score.value
            assert said[f"{score.metric}_stderr,{score.filter}"] == score.stderr
            assert (said["sample_len"], theirs["n-shot"][score.task]) == (score.items, score.shots)
            told += 1
        for answer in ours.answers:
            (sample,) = (
                one
                for one in theirs["samples"][answer["task"]]
                if (one["doc_id"], one["filter"]) == (answer["doc_id"], answer["filter"])
            )
            assert {name: sample[name] for name in sample["metrics"]} == answer["metrics"]
            assert _numbers(sample["resps"]) == _numbers(json.loads(answer["response"]))
            assert sample["prompt_hash"] == answer["prompt_hash"]
            answered += 1
    assert (told, answered) == (2 + 3 * 2, 2 * 9 + 7 + 11)
    values = {sample["acc"] for name in SUBJECTS for sample in theirs["samples"][f"facts_{name}"]}
    assert values == {0.0, 1.0}


def _numbers(value: Any) -> Any:
    """The harness's file has numbers as texts."""
    if isinstance(value, list):
        return [_numbers(one) for one in value]
    return str(value)


def test_a_batch_of_any_size_gives_the_same_answers(
    place: Path, model: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    wanted = Wanted("sums", 2, place / "definitions")
    by_one = run(model, wanted, batch_size=1, limit=3)
    auto = run(model, wanted, batch_size="auto", max_batch_size=2, limit=3)
    assert [one["filtered"] for one in auto.answers] == [one["filtered"] for one in by_one.answers]
    assert capsys.readouterr().out == ""  # where a command prints JSON


def test_what_is_stored_is_what_is_pooled(place: Path, model: Any, tmp_path: Path) -> None:
    found = run(model, Wanted("facts", 2, place / "definitions"))
    write_json(tmp_path / SCORES, scores_json(found))
    write_answers(tmp_path / ANSWERS, found.answers)
    scores = read_scores(tmp_path)
    assert scores == list(found.scores)
    group, unweighted = scores[0], scores[1]
    assert (group.name, group.is_root, group.weighted) == ("acc,none", True, True)
    values = [item.measured[VALUE] for item in items_of(tmp_path, group)]
    assert sum(values) / len(values) == pytest.approx(group.value, abs=1e-15)
    assert not unweighted.weighted  # its tasks count the same, so items cannot be pooled
    assert items_of(tmp_path, unweighted) == []
    single = next(one for one in scores if one.task == "facts_virology")
    assert len(items_of(tmp_path, single)) == single.items == 11


def files(folder: Path, train: str = "train") -> dict[str, str]:
    return {"train": str(folder / f"{train}.jsonl"), "test": str(folder / "test.jsonl")}


@pytest.mark.parametrize("shots", [0, 5, 8])
def test_gsm8k_is_the_harness_s_with_local_files(place: Path, model: Any, shots: int) -> None:
    wanted = Wanted("gsm8k", shots, data_files=files(place / "data" / "gsm8k"))
    found = run(model, wanted)
    assert [score.name for score in found.scores] == [
        "exact_match,strict-match",
        "exact_match,flexible-extract",
    ]
    prompt = found.answers[0]["prompt"]
    assert prompt.count("Question: ") == shots + 1
    assert prompt.endswith("\nAnswer:")


def test_mmlu_has_its_subjects_letters_and_weights(
    place: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two of its 57 subjects, with the harness's own definitions of them."""
    folder = place / "two-subjects"
    folder.mkdir(exist_ok=True)
    own = HARNESS / "mmlu" / "default"
    for subject in SUBJECTS:
        text = f"include: {own}/mmlu_{subject}.yaml\ntask: two_{subject}\n"
        (folder / f"two_{subject}.yaml").write_text(text)
    (folder / "two.yaml").write_text(
        "group: two\ntask: [two_anatomy, two_virology]\n"
        "aggregate_metric_list: [{metric: acc, weight_by_size: true}]\n"
    )
    named = {
        split: str(place / "data" / "mmlu" / f"{SUBSET}.{split}.jsonl") for split in ("dev", "test")
    }
    for shots in (0, 4):
        found = run(model, Wanted("two", shots, folder, named))
        group, *tasks = found.scores
        assert [(one.task, one.items) for one in tasks] == [
            ("two_anatomy", 7),
            ("two_virology", 11),
        ]
        assert (group.task, group.items, group.metric) == ("two", 18, "acc")
        a, b = (one.value for one in tasks)
        assert group.value == pytest.approx((7 * a + 11 * b) / 18, abs=1e-15)
        first = found.answers[0]
        assert first["prompt"].startswith("The following are multiple choice questions (with")
        assert first["prompt"].count("Answer:") == shots + 1
        assert len(json.loads(first["filtered"])) == 4  # a likelihood of each letter


def test_super_ni_takes_the_best_of_its_references(place: Path, model: Any) -> None:
    wanted = Wanted("super_ni", 2, data_files=files(place / "data" / "super_ni"))
    with opened(wanted) as benchmark:
        score = benchmark.tasks["super_ni"].process_results
    doc = {"targets": ["a dog.", "The cat sat on mats"]}
    assert score(doc, ["the cat sat on mats!"]) == {"exact_match": 1.0, "rougeL": 1.0}
    found = score(doc, ["a cat"])
    assert (found["exact_match"], found["rougeL"]) == (0.0, pytest.approx(0.5))  # of "a dog"
    assert score({"targets": "a dog"}, ["A  dog"])["exact_match"] == 1.0
    found_all = run(model, wanted)
    assert {one.name for one in found_all.scores} == {"exact_match,none", "rougeL,none"}
    assert "w" in json.loads(found_all.answers[0]["target"])[0]


def test_what_a_benchmark_is_follows_from_its_content(place: Path, tmp_path: Path) -> None:
    copied = write_definitions(tmp_path / "elsewhere", write_data(tmp_path / "copies"))
    with opened(Wanted("facts", 2, place / "definitions")) as first:
        told = describe(first)
        check_same(first, told)
    with opened(Wanted("facts", 2, copied)) as second:
        assert describe(second) == told
    rows = [choice(n, "anatomy") for n in range(5, 11)]
    write_jsonl(tmp_path / "copies" / "mmlu" / "anatomy.test.jsonl", rows)
    with (
        opened(Wanted("facts", 2, copied)) as third,
        pytest.raises(DataError, match=r"'facts_anatomy' is not what it was .* questions_digest"),
    ):
        check_same(third, told)


def refused(wanted: Wanted, error: type[Exception], match: str) -> None:
    with pytest.raises(error, match=match), opened(wanted) as benchmark:
        describe(benchmark)


def test_an_unknown_task_is_refused_with_the_nearest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "paraknow_core.evaluation.benchmarks.find._whole",
        lambda: TaskIndex.build([HARNESS / "gsm8k"]),
    )
    with pytest.raises(ConfigError, match=r"unknown benchmark 'gsm9k' .did you mean 'gsm8k'"):
        find("gsm9k", None)


def test_data_that_needs_a_network_is_refused_offline() -> None:
    refused(
        Wanted("gsm8k"), NotHereError, "the data of benchmark 'gsm8k' cannot be had: .*name loc"
    )


def test_data_files_that_are_not_there_or_of_no_kind_are_refused(tmp_path: Path) -> None:
    refused(Wanted("gsm8k", data_files={"test": "no.jsonl"}), DataError, "'no.jsonl' .*not exist")
    refused(Wanted("gsm8k", data_files={"test": "no.zip"}), ConfigError, "one kind: .json, .jsonl")


def sums(place: Path, tmp_path: Path, replaced: Mapping[str, str]) -> Wanted:
    """The definition ``sums`` with something else in some of its lines."""
    text = (place / "definitions" / "sums.yaml").read_text()
    for before, after in replaced.items():
        assert before in text
        text = text.replace(before, after)
    (tmp_path / "sums.yaml").write_text(text)
    return Wanted("sums", 2, tmp_path)


@pytest.mark.parametrize(
    ("replaced", "match"),
    [
        (
            {"test_split: test\n": ""},
            r"sums.yaml:1: task 'sums' lacks test_split or validation_spl",
        ),
        ({"doc_to_text:": "doc_to_tex:"}, r"sums.yaml:1: task 'sums' lacks doc_to_text"),
        ({"test.jsonl": "tset.jsonl"}, r"sums.yaml:3: data file '.*tset.jsonl' does not exist"),
        ({"output_type: generate_until": "output_type: [a"}, r"sums.yaml:\d+: .*"),
        ({"task: sums\n": ""}, r"sums.yaml:1: names neither a task nor a group"),
        (
            {"metric: exact_match": "metric: exact_mach"},
            r"'exact_mach', .*did you mean 'exact_match",
        ),
        ({"output_type: generate_until": "output: x"}, r"'sums' cannot be loaded: .*'output'"),
    ],
)
def test_a_definition_with_a_fault_is_refused_with_its_line(
    place: Path, tmp_path: Path, replaced: dict[str, str], match: str
) -> None:
    refused(sums(place, tmp_path, replaced), ConfigError, match)


def test_examples_that_cannot_be_given_are_refused(place: Path, tmp_path: Path) -> None:
    without = {"training_split: train\nfewshot_split: train\n": ""}
    refused(
        sums(place, tmp_path, without), ConfigError, "2 shots .* no split to take examples from"
    )
    fixed = {"metadata:": "num_fewshot: 0\nmetadata:"}
    refused(
        sums(place, tmp_path, fixed), ConfigError, "'sums' is defined with 0 and takes no others"
    )
    many = Wanted("sums", 9, place / "definitions")
    refused(many, DataError, "9 shots are asked for, but benchmark task 'sums' has 8 examples")
    own = {"gsm8k/train.jsonl": "gsm8k/test.jsonl"}
    refused(sums(place, tmp_path, own), DataError, "9 of the 9 few-shot examples .* its questions")


@pytest.mark.skipif(not (REAL / "gsm8k").is_dir(), reason="the real data is not here")
@pytest.mark.parametrize("shots", [0, 8])
def test_the_real_gsm8k_is_asked_as_the_harness_words_it(model: Any, shots: int) -> None:
    wanted = Wanted("gsm8k", shots, data_files=files(REAL / "gsm8k"))
    with opened(wanted) as benchmark:
        told = describe(benchmark)["tasks"]["gsm8k"]
        found = run_benchmark(*model, benchmark, Asking(limit=2, max_gen_toks=3))
    assert (told["questions"], told["shots"]) == (1319, shots)
    assert "Janet\u2019s ducks" in found.answers[0]["prompt"]
    assert bool(found.cut) == bool(shots)  # the tiny model has 256 positions


LETTERS = """\
task: real_mmlu
dataset_path: json
dataset_kwargs: {{data_files: {{test: {rows}}}}}
test_split: test
output_type: multiple_choice
doc_to_text: "{{{{messages[0].content}}}}"
doc_to_choice: [A, B, C, D]
doc_to_target: "{{{{'ABCD'.index(messages[1].content[-1])}}}}"
"""


@pytest.mark.skipif(not (REAL / "mmlu").is_dir(), reason="the real data is not here")
def test_real_questions_of_mmlu_are_ranked_by_a_definition_of_ones_own(
    model: Any, tmp_path: Path
) -> None:
    rows = REAL / "mmlu" / "mmlu_data_1000.jsonl"
    (tmp_path / "real.yaml").write_text(LETTERS.format(rows=rows))
    found = run(model, Wanted("real_mmlu", None, tmp_path), limit=3)
    assert ("acc", 3) in [(one.metric, one.items) for one in found.scores]
    assert len(json.loads(found.answers[0]["filtered"])) == 4


def real_instructions() -> list[dict[str, Any]]:
    """Real rows of Super-NI as the data set has them; rows of one task lend each other answers."""
    lines = (
        (REAL / "super_ni" / "super_ni_data_1000.jsonl").read_text(encoding="utf-8").splitlines()
    )
    rows = [json.loads(line) for line in lines]
    answers: dict[str, list[str]] = {}
    for row in rows:
        answers.setdefault(row["id"].split("-")[0], []).append(row["messages"][1]["content"])
    return [
        {
            "definition": row["messages"][0]["content"],
            "inputs": row["id"],
            "targets": answers[row["id"].split("-")[0]][:3],
        }
        for row in rows
    ]


def rouge_l(reference: str, answer: str) -> float:
    """The F-measure of the longest common subsequence of stems (Lin 2004, eq. 2 to 4, β = 1)."""
    from nltk.stem.porter import PorterStemmer

    stem = PorterStemmer().stem
    a, b = (
        [stem(word) if len(word) > 3 else word for word in re.findall("[a-z0-9]+", text.lower())]
        for text in (reference, answer)
    )
    longest = np.zeros((len(a) + 1, len(b) + 1))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            before = max(longest[i, j + 1], longest[i + 1, j])
            longest[i + 1, j + 1] = longest[i, j] + 1 if one == other else before
    shared = float(longest[-1, -1])
    return 2 * shared / (len(a) + len(b)) if shared else 0.0


@pytest.mark.skipif(not (REAL / "super_ni").is_dir(), reason="the real data is not here")
def test_real_rows_of_super_ni_are_scored_with_the_best_of_their_references(
    model: Any, tmp_path: Path
) -> None:
    rows = real_instructions()
    several = [row for row in rows if len(set(row["targets"])) > 2]
    assert len(several) > 100
    test = write_jsonl(tmp_path / "test.jsonl", several[:3])
    train = write_jsonl(tmp_path / "train.jsonl", rows[-3:])
    wanted = Wanted("super_ni", 0, data_files={"train": str(train), "test": str(test)})
    with opened(wanted) as benchmark:
        score = benchmark.tasks["super_ni"].process_results
        found = run_benchmark(*model, benchmark, Asking(max_gen_toks=3))
    assert [(one.name, one.items) for one in found.scores] == [
        ("exact_match,none", 3),
        ("rougeL,none", 3),
    ]
    assert several[0]["definition"][-20:] in found.answers[0]["prompt"]
    assert json.loads(found.answers[0]["target"]) == several[0]["targets"]
    for row, other in pairwise(several[:101]):
        for said in (row["targets"][1], other["targets"][0]):
            right = [rouge_l(one, said) for one in row["targets"]]
            told = score(row, [said])
            assert told["rougeL"] == pytest.approx(max(right), abs=1e-12)
            assert told["exact_match"] == float(said in row["targets"]) or told["rougeL"] == 1
