"""What a benchmark is: definitions, questions and examples as digests, and what cannot be run."""

import difflib
import hashlib
import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, is_dataclass
from pathlib import Path
from typing import Any

from lm_eval.api.registry import METRIC_REGISTRY

from paraknow_core.errors import ConfigError, DataError
from paraknow_core.evaluation.benchmarks.opened import Opened

_NOT_MEANING = ("config_source",)
"""Of a definition's metadata: says where a file lies."""
_NOT_RUN = {
    "UNSAFE_CODE": "runs code that a model wrote, which is not done here",
    "MULTIMODAL": "asks about images or sounds, which a language model does not take",
}


def describe(opened: Opened) -> dict[str, Any]:
    """Describe a benchmark, and refuse what could not be run.

    Args:
        opened: as loaded, with its data.

    Returns:
        JSON values: ``tasks`` (name → definition, shots, digests of questions and examples,
        numbers of them, examples that are questions too) and ``groups`` (name → members,
        aggregation). Equal ones mean equal benchmarks, wherever their files lie.

    Raises:
        ConfigError: if examples are asked for of a task that takes or has none.
        DataError: if there are no questions, fewer examples than asked for, or examples among the
            questions, and the data is the user's.
    """
    tasks = {name: _task(opened, name, task) for name, task in sorted(opened.tasks.items())}
    groups = {
        name: {
            "members": list(group.child_names),
            "aggregation": [_plain(asdict(one)) for one in group.aggregate_metric_list or ()],
            "version": str(group.version),
        }
        for name, group in sorted(opened.groups.items())
    }
    return {"name": opened.wanted.name, "tasks": tasks, "groups": groups}


def check_same(opened: Opened, before: Mapping[str, Any]) -> None:
    """Refuse a benchmark that is no longer what it was when it was described.

    Raises:
        DataError: names the first task that differs, and how.
    """
    now = describe(opened)
    for name, task in before["tasks"].items():
        other = now["tasks"].get(name, {})
        changed = [what for what in task if task[what] != other.get(what)]
        if changed:
            raise DataError(
                f"benchmark task {name!r} is not what it was when it was acquired: its "
                f"{', '.join(changed)} differ. Put its files back, or name the data set's revision "
                "(dataset_kwargs: {revision: …}) in a definition of your own"
            )


def _task(opened: Opened, name: str, task: Any) -> dict[str, Any]:
    for mark, why in _NOT_RUN.items():
        if getattr(task, mark, False):
            raise ConfigError(f"benchmark task {name!r} {why}; take another task")
    _check_metrics(name, task)
    questions = [json_of(doc) for doc in task.eval_docs]
    if not questions:
        raise DataError(f"benchmark task {name!r} has no questions")
    found: dict[str, Any] = {
        "definition": _plain(_definition(task)),
        "output": str(task.OUTPUT_TYPE),
        "questions": len(questions),
        "questions_digest": _digest(questions),
        "shots": 0,
    }
    asked, fixed = opened.wanted.shots, task.get_config("num_fewshot")
    if asked and fixed == 0:
        raise ConfigError(
            f"{asked} shots are asked for, but benchmark task {name!r} is defined with 0 and takes "
            "no others; leave shots out, or take another task"
        )
    shots = opened.shots_of(task)
    return found | (_examples(opened, name, task, questions, shots) if shots else {})


def _check_metrics(name: str, task: Any) -> None:
    """Refuse a metric that the harness does not know: it would only fail after all answers."""
    known = getattr(task, "_metric_fn_list", {})
    if task.get_config("process_results") is not None:
        return
    for metric in (metric for metric, function in known.items() if function is None):
        near = difflib.get_close_matches(metric, METRIC_REGISTRY, n=1, cutoff=0.4)
        hint = f" (did you mean {near[0]!r}?)" if near else ""
        raise ConfigError(
            f"benchmark task {name!r} names metric {metric!r}, which lm-evaluation-harness does "
            f"not know{hint}"
        )


def _examples(
    opened: Opened, name: str, task: Any, questions: list[str], shots: int
) -> dict[str, Any]:
    if not _has_examples(task):
        raise ConfigError(
            f"{shots} shots are asked for, but benchmark task {name!r} has no split to take "
            "examples from but its questions; set shots: 0, or give fewshot_split in a definition "
            "of your own"
        )
    examples = [json_of(doc) for doc in task.fewshot_docs()]
    if len(examples) < shots:
        raise DataError(
            f"{shots} shots are asked for, but benchmark task {name!r} has {len(examples)} examples"
        )
    asked = set(questions)
    shared = sum(example in asked for example in examples)
    if shared and _is_users(opened, task):
        raise DataError(
            f"{shared} of the {len(examples)} few-shot examples of benchmark task {name!r} are "
            "among its questions; take them out of one of the two files"
        )
    return {
        "shots": shots,
        "examples": len(examples),
        "examples_digest": _digest(examples),
        "examples_among_questions": shared,
    }


def _has_examples(task: Any) -> bool:
    told = getattr(task, "fewshot_cfg", None)
    given = told is not None and (told.split is not None or told.samples is not None)
    return (
        given or task.has_training_docs() or (task.has_validation_docs() and task.has_test_docs())
    )


def _is_users(opened: Opened, task: Any) -> bool:
    """Whether the user has a say in the data: it is not the harness's definition and its data."""
    include = opened.wanted.include
    source = Path(str((task.get_config("metadata") or {}).get("config_source") or ""))
    own = include is not None and source.is_relative_to(include.resolve())
    return own or opened.wanted.has_own_data


def _definition(task: Any) -> dict[str, Any]:
    config = getattr(task, "config", None)
    if not is_dataclass(config):  # a task of the harness that is written in Python
        return {"class": type(task)}
    found: dict[str, Any] = asdict(config)  # type: ignore[arg-type]
    found["metadata"] = {
        key: value for key, value in (found["metadata"] or {}).items() if key not in _NOT_MEANING
    }
    kwargs = dict(found["dataset_kwargs"] or {})
    kwargs.pop("data_files", None)  # what they hold is in the digests
    kwargs.pop("data_dir", None)
    local = kwargs != (found["dataset_kwargs"] or {}) or Path(str(found["dataset_path"])).exists()
    dropped = ("num_fewshot", *(("dataset_path", "dataset_name") if local else ()))
    found["dataset_kwargs"] = kwargs
    return {key: value for key, value in found.items() if value is not None and key not in dropped}


def _plain(value: Any) -> Any:
    """JSON values of a definition; a function is its name and the digest of its file."""
    if isinstance(value, Mapping):
        return {str(key): _plain(one) for key, one in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_plain(one) for one in (sorted(value) if isinstance(value, set) else value)]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if callable(value):
        return _code_of(value)
    return repr(value)


def _code_of(function: Callable[..., Any]) -> dict[str, str]:
    name = getattr(function, "__qualname__", type(function).__name__)
    try:
        data = Path(inspect.getfile(function)).read_bytes()
    except (TypeError, OSError):
        data = b""
    return {"function": name, "file": hashlib.sha256(data).hexdigest()}


def json_of(value: Any) -> str:
    """One text for equal values; what JSON does not know is told by ``repr``."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=repr)


def _digest(texts: Iterable[str]) -> str:
    found = hashlib.sha256()
    for text in texts:
        found.update(text.encode("utf-8", "surrogatepass"))
        found.update(b"\n")
    return found.hexdigest()
