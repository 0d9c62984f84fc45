"""What a benchmark found: each metric under each filter, and every answer. Imports no harness."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from paraknow_core.errors import DataError
from paraknow_core.evaluation.items import Item
from paraknow_core.evaluation.metric import VALUE, Metric, measured, per_item
from paraknow_core.strict_data import read_json

SCORES, ANSWERS = "scores.json", "answers.parquet"
_TEXTS = (
    *("task", "filter", "target", "prompt", "response", "filtered"),
    *("prompt_hash", "doc_hash", "target_hash"),
)


@dataclass(frozen=True, kw_only=True)
class BenchmarkScore:
    """One metric under one filter, of one task or group.

    Attributes:
        task: its name in the harness.
        alias: how the harness shows it.
        metric: such as ``exact_match``.
        filter: such as ``strict-match``; ``none`` where the harness filters nothing.
        value: as the harness aggregates it; None if it is no finite number.
        stderr: its standard error; None where the harness has none.
        higher_is_better: None where the definition does not say.
        items: questions that were asked.
        shots: examples before each; None in a group whose tasks have different numbers.
        version: of the definition.
        members: of a group, the tasks below it; empty: a single task.
        weighted: of a group, whether its tasks count by their numbers of questions.
        is_root: whether it is what was asked for, and no part of a group.
    """

    task: str
    alias: str = ""
    metric: str
    filter: str
    value: float | None
    stderr: float | None = None
    higher_is_better: bool | None = None
    items: int
    shots: int | None = None
    version: str = ""
    members: tuple[str, ...] = ()
    weighted: bool = True
    is_root: bool = True

    @property
    def name(self) -> str:
        """Metric and filter, as the harness writes them."""
        return f"{self.metric},{self.filter}"

    @property
    def short_name(self) -> str:
        """The same, without the filter where nothing is filtered."""
        return self.metric if self.filter == "none" else self.name


@dataclass(frozen=True)
class BenchmarkResult:
    """All that a benchmark found.

    Attributes:
        name: what was asked for.
        scores: of groups, then of tasks.
        answers: a mapping for each task, question and filter, see ``write_answers``.
        cut: prompts that lost their beginning, as the model takes no more.
        harness: version of lm-evaluation-harness.
    """

    name: str
    scores: tuple[BenchmarkScore, ...]
    answers: tuple[Mapping[str, Any], ...]
    cut: int
    harness: str


def answer_metrics(answers: Sequence[Mapping[str, Any]]) -> tuple[str, ...]:
    """Name the metrics of answers, in their order."""
    return tuple(dict.fromkeys(name for answer in answers for name in answer["metrics"]))


def write_answers(path: Path, answers: Sequence[Mapping[str, Any]]) -> None:
    """Write answers as Parquet, a row for each task, question and filter.

    Columns: task, doc_id, filter, prompt, target, response and filtered (JSON: one for each
    request, such as log-likelihood in nats and whether it is greedy of each choice), the harness's
    three hashes, and one for each metric: a number where every value is one, else JSON.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    fields = [("task", pa.string()), ("doc_id", pa.int64())]
    fields += [(name, pa.string()) for name in _TEXTS if name != "task"]
    rows = [{name: answer[name] for name, _ in fields} for answer in answers]
    for metric in answer_metrics(answers):
        values = [answer["metrics"].get(metric) for answer in answers]
        numbers = all(value is None or isinstance(value, int | float) for value in values)
        column = metric if metric not in dict(fields) else f"metric {metric}"
        fields.append((column, pa.float64() if numbers else pa.string()))
        for row, value in zip(rows, values, strict=True):
            plain = value is None or numbers
            row[column] = (value if value is None else float(value)) if plain else json.dumps(value)
    table = pa.Table.from_pylist(rows, schema=pa.schema(fields))
    pq.write_table(table, path, compression="zstd", version="2.6", store_schema=False)


def scores_json(result: BenchmarkResult) -> dict[str, Any]:
    """Return scores as JSON values; ``read_scores`` is the way back."""
    scores = [{**vars(score), "members": list(score.members)} for score in result.scores]
    return {
        "benchmark": result.name,
        "lm_eval": result.harness,
        "prompts_cut": result.cut,
        "scores": scores,
    }


def read_scores(folder: Path) -> list[BenchmarkScore]:
    """Read the scores of a stored benchmark.

    Raises:
        DataError: if the file is none of these.
    """
    told = read_json(folder / SCORES, refuse=DataError)
    try:
        return [
            BenchmarkScore(**{**one, "members": tuple(one["members"])}) for one in told["scores"]
        ]
    except (KeyError, TypeError) as error:
        raise DataError(f"{folder / SCORES} holds no benchmark's scores: {error}") from error


def score_name(title: str, score: BenchmarkScore) -> str:
    """Name a score in a table that has many benchmarks: ``gsm8k exact_match,strict-match``."""
    task = "" if title.split(" ", maxsplit=1)[0] == score.task else f": {score.task}"
    return f"{title}{task} {score.short_name}"


def score_of(scores: Sequence[BenchmarkScore], metric: Metric) -> BenchmarkScore:
    """Find the score of what was asked for that a metric of a benchmark names, with its direction.

    Args:
        scores: of that benchmark.
        metric: of ``metric_of_benchmark``.

    Raises:
        DataError: if there is none of that name; names those that there are.
    """
    wanted = metric.name.rpartition(":")[2]
    roots = [score for score in scores if score.is_root]
    found = [score for score in roots if score.short_name == wanted]
    if len(found) != 1:
        known = ", ".join(f"{score.task} {score.short_name}" for score in roots) or "nothing"
        raise DataError(f"benchmark {metric.source!r} gave no one {wanted!r}; it gave {known}")
    (score,) = found
    if score.higher_is_better is None:  # of groups of groups the harness does not say it
        below = [s for s in scores if s.task in score.members and s.metric == score.metric]
        is_loss = any(one.higher_is_better is False for one in below)
        score = replace(score, higher_is_better=not is_loss)
    return score


def items_of(folder: Path, score: BenchmarkScore) -> list[Item]:
    """Read each question's value of a metric, as items that can be compared in pairs.

    A group's are those of all its tasks, if that is how its score is made.

    Returns:
        Items whose ``measured`` has ``VALUE``; empty where values are no numbers, or the group's
        tasks count the same whatever their size.
    """
    import pyarrow.parquet as pq

    if score.members and not score.weighted:
        return []
    tasks = set(score.members or (score.task,))
    table = pq.read_table(folder / ANSWERS)
    column = (
        f"metric {score.metric}" if f"metric {score.metric}" in table.schema.names else score.metric
    )
    if column not in table.schema.names or str(table.schema.field(column).type) != "double":
        return []
    names = ("task", "doc_id", "filter", column)
    rows = zip(*(table.column(name).to_pylist() for name in names), strict=True)
    return [
        Item(f"{task} {doc}", "", "", 0.0, 0, "", "", "", False, {VALUE: float(value)})
        for task, doc, used, value in rows
        if task in tasks and used == score.filter and value is not None
    ]


def metric_of(score: BenchmarkScore, values: Sequence[float] = ()) -> Metric:
    """Return a benchmark's metric as a comparison takes it.

    Args:
        score: whose it is.
        values: of items; if all are 0 or 1, they are right or wrong.
    """
    binary = bool(values) and all(value in (0.0, 1.0) for value in values)
    return Metric(
        name=VALUE,
        label=f"{score.alias or score.task} {score.name}",
        higher_is_better=score.higher_is_better is not False,
        value=measured(VALUE),
        weight=per_item,
        is_share=binary,
        is_binary=binary,
    )


def number_or_none(value: Any) -> float | None:
    """A finite number, or None; the harness writes N/A where there is none."""
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
