"""A comparison in Markdown and as a flat table: what a terminal and the Prefect UI show."""

import html
import math
import re
from collections.abc import Mapping
from typing import Any

from paraknow_core.report.benchmarks import as_table, names_of
from paraknow_core.report.page.data import Comparison, Pair
from paraknow_core.report.page.outcome import Score
from paraknow_core.report.page.proof import OrderLine, PairOrder
from paraknow_core.report.page.text import clean, percent

_SPECIAL = re.compile(r"([\\`*_\[\]|#~])")


def as_markdown(comparison: Comparison) -> str:
    """Write verdicts first, then each pair's methods and contrasts; every text is escaped."""
    lines = [f"# {escaped(comparison.title)}", ""]
    for pair in comparison.pairs:
        lines += [f"**{escaped(_name(pair))}**: {escaped(pair.verdict or _failed(pair))}", ""]
    if comparison.summary:
        lines += [escaped(comparison.summary), ""]
    lines += [line for order in comparison.orders for line in _order(order)]
    for pair in comparison.pairs:
        lines += _pair(pair)
    lines += _uses(comparison)
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
            "low, items too": _number(contrast["items_low"]),
            "high, items too": _number(contrast["items_high"]),
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
    tables = [*_scores(pair), *_contrasts(pair), *_untrained(pair), *_novelty(pair)]
    tables += as_table(pair.benchmarks, names_of(pair.benchmarks)).splitlines()
    notes = [f"- {escaped(note)}" for note in pair.notes]
    failures = [
        f"- {'' if f.diverged else 'failed: '}{escaped(f.cell)}: {escaped(f.reason)}"
        for f in pair.failures
    ]
    if not (tables or notes or failures):
        return []
    return [f"## {escaped(_name(pair))}", "", *tables, *notes, *failures, ""]


def _scores(pair: Pair) -> list[str]:
    if not pair.scores:
        return []
    measures = (pair.metric, *pair.beside)
    labels = " | ".join(escaped(measure.label) for measure in measures)
    return [
        f"| method | {labels} | learning rate | seeds |",
        f"|---|{'--:|' * len(measures)}--:|--:|",
        *(
            f"| {escaped(score.method)} | {_values(score, pair)} | {_rate(score.learning_rate)} | "
            f"{_seeds(len(score.values), pair, score.method)} |"
            for score in pair.scores
        ),
        "",
        *_compute(pair),
        *_starts_by_loss(pair),
    ]


def _compute(pair: Pair) -> list[str]:
    """What each method's training took: a table of its own, so that a terminal has room for it."""
    if not pair.has_compute:
        return []
    return [
        "| method | FLOP a seed | teacher's FLOP, once | seconds a seed |",
        "|---|--:|--:|--:|",
        *(
            f"| {escaped(score.method)} |"
            + "".join(
                f" {'–' if value is None else format(value, '.3g')} |"
                for value in (score.flops, score.teacher_flops, score.seconds)
            )
            for score in pair.scores
        ),
        "",
    ]


def _starts_by_loss(pair: Pair) -> list[str]:
    losses, starts = pair.starts_by_loss
    if not losses:
        return []
    return [
        f"Start point × loss, {escaped(pair.metric.title)}:",
        "",
        f"| start point | {' | '.join(map(escaped, losses))} |",
        f"|---|{'---|' * len(losses)}",
        *(
            f"| {escaped(start)} | {' | '.join(escaped(cell or '–') for cell in cells)} |"
            for start, cells in starts
        ),
        "",
    ]


def _uses(comparison: Comparison) -> list[str]:
    """What of the teacher each method uses; nothing where none is known to use any of it."""
    if not any(method.uses for method in comparison.methods):
        return []
    return [
        "| method | kind | of the teacher, or what stands in for it |",
        "|---|---|---|",
        *(
            f"| {escaped(m.name)} | {escaped(m.kind)} | {escaped(m.uses or 'nothing')} |"
            for m in comparison.methods
        ),
        "",
    ]


def _values(score: Score, pair: Pair) -> str:
    """A method's value in the pair's metric, then those beside it."""
    others = ((measure, score.beside.get(measure.name)) for measure in pair.beside)
    found = ((pair.metric, score.mean), *others)
    return " | ".join(_number(value, measure.digits) for measure, value in found)


def _contrasts(pair: Pair) -> list[str]:
    if not pair.scores:
        return []
    return [
        "| paired difference | mean | 95 % interval | over items too | p | p (Holm) | seeds "
        "better |",
        "|---|--:|--:|--:|--:|--:|--:|",
        *(
            f"| {escaped(c.label)} | {_number(c.mean)} | {_number(c.low)} to {_number(c.high)} | "
            f"{_number(c.items_low)} to {_number(c.items_high)} | "
            f"{_number(c.p, 3)} | {_number(c.p_holm, 3)} | "
            f"{c.wins} of {_seeds(c.n, pair, c.method, c.against)} |"
            for c in pair.contrasts
        ),
        "",
    ]


def _order(order: PairOrder) -> list[str]:
    """The table of an order of pairs, and what may be said of each method."""
    head = [f"## {escaped(order.title)} on {escaped(order.task)}", "", escaped(order.question), ""]
    if order.missing:
        return [*head, escaped(order.missing), ""]
    unknown = (None,) * len(order.pairs)
    lines = (OrderLine(method="the teacher itself", means=order.teachers), *order.lines)
    return [
        *head,
        f"{escaped(order.metric.title)} of the trained student; pairs: {escaped(order.order)}.",
        "",
        f"| method | {' | '.join(map(escaped, order.pairs))} | seeds | p | p (Holm) |",
        f"|---|{'--:|' * len(order.pairs)}--:|--:|--:|",
        *(
            f"| {escaped(line.method)} | "
            f"{' | '.join(_number(v, order.metric.digits) for v in line.means or unknown)} | "
            f"{line.seeds or '–'} | {_number(line.p, 3)} | {_number(line.p_holm, 3)} |"
            for line in lines
        ),
        "",
        *(f"- {escaped(line.said)}" for line in order.lines),
        "",
    ]


def _untrained(pair: Pair) -> list[str]:
    """What each start product does without training."""
    if not pair.untrained:
        return []
    digits = pair.metric.digits
    return [
        f"Step 0, {escaped(pair.metric.title)} without training:",
        "",
        "| start product | added to the student | untouched student | seeds better |",
        "|---|--:|--:|--:|",
        *(
            f"| {escaped(one.method)} | {_number(one.mean, digits)} | "
            f"{_number(one.student, digits)} | {one.better} of {len(one.values)} |"
            for one in pair.untrained
        ),
        "",
    ]


def _novelty(pair: Pair) -> list[str]:
    """What the untouched student's tokens cannot differ by, and what of it arrived."""
    lines = []
    for matrix in pair.novelty:
        lines += [
            f"{percent(matrix.share)} of what the teacher's tokens differ by in "
            f"{escaped(matrix.role)} lies outside what the untouched student's can; most of it is "
            f"carried by:",
            "",
            "| token | share |",
            "|---|--:|",
            *(f"| {escaped(t.token)} | {percent(t.share)} |" for t in matrix.tokens),
            "",
        ]
    if pair.arrived:
        lines += [
            "| trained student | matrix | learnt in these directions | by chance | cosine | "
            "by chance | of the matrix | of the teacher's |",
            "|---|---|--:|--:|--:|--:|--:|--:|",
            *(
                f"| {escaped(one.method)} | {escaped(one.role)} | {percent(one.change_share)} | "
                f"{percent(one.share_by_chance)} | {_number(one.cosine, 3)} | "
                f"{_number(one.cosines_by_chance, 3)} | {percent(one.weight_share)} | "
                f"{percent(one.teacher_share)} |"
                for one in pair.arrived
            ),
            "",
        ]
    return lines


def _seeds(count: int, pair: Pair, *methods: str) -> str:
    """A number of seeds, and those that these methods lack."""
    missing = pair.missing_seeds(*methods)
    return f"{count} ({missing})" if missing else str(count)


def _rate(rate: float | None) -> str:
    return "–" if rate is None else f"{rate:g}"


def _number(value: float | None, digits: int = 4) -> str:
    return "–" if value is None or not math.isfinite(value) else f"{value:.{digits}f}"
