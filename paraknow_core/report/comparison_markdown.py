"""A comparison in Markdown and as a flat table: what a terminal and the Prefect UI show."""

import html
import math
import re
from collections.abc import Mapping
from typing import Any

from paraknow_core.report.page.data import Comparison, Pair
from paraknow_core.report.page.text import clean

_SPECIAL = re.compile(r"([\\`*_\[\]|#~])")


def as_markdown(comparison: Comparison) -> str:
    """Write verdicts first, then each pair's methods and contrasts; every text is escaped."""
    lines = [f"# {escaped(comparison.title)}", ""]
    for pair in comparison.pairs:
        lines += [f"**{escaped(_name(pair))}**: {escaped(pair.verdict or _failed(pair))}", ""]
    for pair in comparison.pairs:
        lines += _pair(pair)
    lines += [f"- {escaped(caveat)}" for caveat in comparison.caveats]
    return "\n".join([*lines, ""])


def table_of(fields: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List every contrast of ``Comparison.to_json``'s values as one flat row."""
    return [
        {
            "pair": pair["name"],
            "task": pair["task"],
            "contrast": contrast["label"],
            "mean": _number(contrast["mean"]),
            "low": _number(contrast["low"]),
            "high": _number(contrast["high"]),
            "p": _number(contrast["p"], 3),
            "p (Holm)": _number(contrast["p_holm"], 3),
            "seeds": contrast["n"],
            "seeds better": contrast["wins"],
        }
        for pair in fields["pairs"]
        for contrast in pair["contrasts"]
    ]


def escaped(text: str) -> str:
    """Make a text show as itself in Markdown, on one line."""
    line = " ".join(clean(text).split())
    return _SPECIAL.sub(r"\\\1", html.escape(line, quote=False))


def _name(pair: Pair) -> str:
    return f"{pair.name} on {pair.task}"


def _failed(pair: Pair) -> str:
    return "; ".join(f"{f.cell}: {f.reason}" for f in pair.failures) or "no verdict"


def _pair(pair: Pair) -> list[str]:
    if not pair.scores:
        return []
    lines = [f"## {escaped(_name(pair))}", ""]
    lines += [
        "| method | answer NLL | exact match | learning rate | seeds |",
        "|---|--:|--:|--:|--:|",
    ]
    lines += [
        f"| {escaped(score.method)} | {_number(score.mean)} | {_number(score.accuracy, 3)} | "
        f"{score.learning_rate:g} | {len(score.values)} |"
        for score in pair.scores
    ]
    lines += ["", "| paired difference | mean | 95 % interval | p | p (Holm) | seeds better |"]
    lines += ["|---|--:|--:|--:|--:|--:|"]
    lines += [
        f"| {escaped(c.label)} | {_number(c.mean)} | {_number(c.low)} to {_number(c.high)} | "
        f"{_number(c.p, 3)} | {_number(c.p_holm, 3)} | {c.wins} of {c.n} |"
        for c in pair.contrasts
    ]
    notes = [f"- {escaped(note)}" for note in pair.notes]
    failures = [f"- failed: {escaped(f.cell)}: {escaped(f.reason)}" for f in pair.failures]
    return [*lines, "", *notes, *failures, ""]


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
