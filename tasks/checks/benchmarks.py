"""What can be known of benchmarks before anything expensive runs."""

from collections.abc import Mapping
from pathlib import Path

from paraknow_core.errors import ConfigError
from tasks.engine.json_files import read_json
from tasks.harness.benchmark_tasks import TASKS

_LENGTHS = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
"""What the harness takes for the most tokens that are generated."""
_USUAL_LENGTH = 256
"""The harness's own, where a definition gives none."""


def check_chat_template(_known: Mapping[str, Path], locations: Mapping[str, Path]) -> None:
    """Refuse a chat template that the student does not have.

    Args:
        locations: where the ``student`` lies; nothing is checked without it.

    Raises:
        ConfigError: if its tokenizer has none.
    """
    if "student" not in locations:
        return
    from paraknow_core.models.load import load_tokenizer

    folder = locations["student"]
    if not getattr(load_tokenizer(folder), "chat_template", None):
        raise ConfigError(
            f"evaluate.harness.chat_template is true, but the tokenizer in {folder} has no chat "
            "template; take the instruction-tuned student, or set it to false"
        )


def check_room(
    known: Mapping[str, Path], locations: Mapping[str, Path], *, max_gen_toks: int | None
) -> None:
    """Refuse answers that leave a student no room for the question.

    Args:
        known: folder of the acquired ``tasks``; nothing is checked without it.
        locations: where the ``student`` lies; nothing is checked without it.
        max_gen_toks: as it is set for all benchmarks; None: as each task is defined.

    Raises:
        ConfigError: names the task and both numbers.
    """
    if "student" not in locations or "tasks" not in known:
        return
    from paraknow_core.models.config import read_config

    positions = read_config(locations["student"]).get("max_position_embeddings")
    for name, task in read_json(known["tasks"] / TASKS)["tasks"].items():
        if positions is None or task["output"] != "generate_until":
            continue
        said = task["definition"].get("generation_kwargs") or {}
        most = next((said[key] for key in _LENGTHS if key in said), _USUAL_LENGTH)
        most = most if max_gen_toks is None else max_gen_toks
        if most >= positions:
            raise ConfigError(
                f"benchmark task {name!r} generates up to {most} tokens, but the student has "
                f"{positions} positions for question and answer; set evaluate.harness.max_gen_toks "
                f"to fewer than {positions}"
            )


def check_primary(known: Mapping[str, Path], _locations: Mapping[str, Path], *, name: str) -> None:
    """Refuse a primary metric that a benchmark does not have.

    Args:
        known: folder of the acquired ``tasks``; nothing is checked without it.
        name: of the metric, such as ``gsm8k:exact_match,strict-match``.

    Raises:
        ConfigError: names the metrics that it has, and the nearest.
    """
    if "tasks" not in known:
        return
    from paraknow_core.evaluation.benchmarks.primary import check_primary as check

    check(read_json(known["tasks"] / TASKS), name)


def count_right_or_wrong(folder: Path, name: str, *, limit: int | None) -> int:
    """Count a benchmark's questions; 0 if its metric is not right or wrong of each.

    Args:
        folder: of the acquired tasks.
        name: of the metric.
        limit: questions of each task; None: all.
    """
    from paraknow_core.evaluation.benchmarks.primary import is_right_or_wrong, questions_of

    return questions_of(read_json(folder / TASKS), limit) if is_right_or_wrong(name) else 0
