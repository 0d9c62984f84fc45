"""Which metrics of a benchmark a verdict can be about, known before any model is asked."""

import difflib
from collections.abc import Mapping
from typing import Any

from paraknow_core.errors import ConfigError

RIGHT_OR_WRONG = frozenset(
    {"acc", "acc_norm", "acc_bytes", "acc_mutual_info", "exact_match", "em", "mc1"}
)
"""Metrics of lm-evaluation-harness that are 0 or 1 of each question, as far as a plan knows. After
a run the values themselves say it."""


def check_primary(described: Mapping[str, Any], name: str) -> None:
    """Refuse a primary metric that a benchmark does not have, or that no pairs can be made of.

    Args:
        described: of ``describe``.
        name: such as ``gsm8k:exact_match,strict-match``.

    Raises:
        ConfigError: names the metrics that can be taken, and the nearest.
    """
    known = _metrics(described)
    if known is None:  # written in Python: what it measures is only known once it has run
        return
    source, _, wanted = name.rpartition(":")
    possible = [one for one, lack in known.items() if not lack]
    if lack := known.get(wanted):
        can = f"; take {' or '.join(possible)}" if possible else ""
        raise ConfigError(f"evaluate.primary is {name}, but {lack}{can}")
    if wanted not in known:
        near = difflib.get_close_matches(wanted, possible, n=1, cutoff=0.0)
        hint = f" (did you mean {source + ':' + near[0]!r}?)" if near else ""
        told = ", ".join(possible) or "none of its own; name one of its tasks in evaluate.tasks"
        raise ConfigError(
            f"evaluate.primary is {name}, but benchmark {source!r} has no metric {wanted!r}{hint}; "
            f"it has {told}"
        )


def questions_of(described: Mapping[str, Any], limit: int | None) -> int:
    """Count the questions that a benchmark asks.

    Args:
        described: of ``describe``.
        limit: of each task; None: all.
    """
    each = [int(task["questions"]) for task in described["tasks"].values()]
    return sum(each if limit is None else (min(count, limit) for count in each))


def is_right_or_wrong(name: str) -> bool:
    """Whether a benchmark's metric is 0 or 1 of each question, as far as its name tells."""
    return name.rpartition(":")[2].partition(",")[0] in RIGHT_OR_WRONG


def _metrics(described: Mapping[str, Any]) -> dict[str, str] | None:
    """Metric and filter → why it cannot be a primary one, empty if it can; None if unknown."""
    name, tasks, groups = described["name"], described["tasks"], described["groups"]
    if name in tasks:
        return _of_task(tasks[name]["definition"], tasks[name]["output"])
    if name not in groups:
        return {}  # a tag: its tasks stand side by side
    below = [_of_task(task["definition"], task["output"]) for task in tasks.values()]
    found: dict[str, str] = {}
    for one in groups[name]["aggregation"]:
        filters = one.get("filter_list") or "none"
        for used in [filters] if isinstance(filters, str) else filters:
            short = _short(str(one["metric"]), str(used))
            lacks = [of.get(short, "") for of in below if of is not None]
            found[short] = next(filter(None, lacks), "")
            if not one.get("weight_by_size", True):
                found[short] = (
                    f"{name} counts its tasks alike in {short}, whatever their size, so it is no "
                    "mean over questions"
                )
    return found


def _of_task(definition: Mapping[str, Any], output: str) -> dict[str, str] | None:
    if "class" in definition:
        return None
    import lm_eval.api.metrics  # noqa: F401 - registers them
    from lm_eval.api.registry import DEFAULT_METRIC_REGISTRY, METRIC_AGGREGATION_REGISTRY

    usual = [{"metric": name} for name in DEFAULT_METRIC_REGISTRY.get(output, ())]
    filters = [str(one["name"]) for one in definition.get("filter_list") or ({"name": "none"},)]
    found: dict[str, str] = {}
    for one in definition.get("metric_list") or usual:
        metric = one["metric"]
        if not isinstance(metric, str):
            continue  # a function of the definition's own
        own = METRIC_AGGREGATION_REGISTRY.get(metric, None)
        how = one.get("aggregation") or getattr(own, "__name__", "mean")
        told = how if isinstance(how, str) else "a function of the definition's own"
        lack = f"{metric} is no mean over questions ({told})" if told != "mean" else ""
        found |= {_short(metric, used): lack for used in filters}
    return found


def _short(metric: str, used: str) -> str:
    return metric if used == "none" else f"{metric},{used}"
