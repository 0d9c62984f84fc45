"""The page of findings, printed from the committed items of its comparisons.

    python -m benchmarks.findings > docs/findings.md

No number of that page is written by hand: ``docs/findings/page.md.jinja`` has the words, and every
number comes of the items in ``docs/findings/*.parquet``, which ``paraknow results --items`` wrote.
A test compares what this prints with the page.
"""

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

from benchmarks.words import words
from flows.results.items import read_comparison
from paraknow_core.report.comparison_markdown import as_markdown
from paraknow_core.report.page.data import Comparison, Pair
from paraknow_core.statistics.contrast import BETTER, Contrast
from paraknow_core.statistics.proofs import PROOFS

FOLDER = Path(__file__).parents[1] / "docs" / "findings"


def page(folder: Path = FOLDER) -> str:
    """Fill in the page's words with its numbers.

    Raises:
        DataError: if a file of items cannot be read.
        LookupError: if the words speak of a pair or method that no comparison has.
    """
    page_words = words(folder)
    page_words.globals |= {
        "comparison": lambda name: stored(folder / f"{name}.parquet"),
        "table": score_table,
        "report": report,
        "beyond": beyond,
        "claims": claims,
        "means": means,
        "orders": orders,
        "verdicts": verdicts,
        "untrained": untrained,
        "gaps": gaps,
        "spread": spread,
        "shares": shares,
        "headlines": headlines,
        "largest_p": largest_p,
        "must": must,
        "signed": lambda values: ", ".join(f"{value:+.3f}" for value in values),
        "least": lambda values: f"{min(values):.3f}",
        "most": lambda values: f"{max(values):.3f}",
        "percents": lambda values: f"{', '.join(f'{100 * value:.0f}' for value in values)} %",
    }
    return page_words.get_template("page.md.jinja").render()


@cache
def stored(path: Path) -> Comparison:
    """Read a comparison from its items, once."""
    return read_comparison(path)


def score_table(comparison: Comparison) -> str:
    """Write means of all methods in all pairs; the metric, and those beside it."""
    pairs = [pair for pair in comparison.pairs if pair.scores]
    names = list(dict.fromkeys(score.method for pair in pairs for score in pair.scores))
    lines = [
        f"| method | {' | '.join(pair.name for pair in pairs)} |",
        f"|---|{'--:|' * len(pairs)}",
        *(f"| {name} | {' | '.join(_cell(pair, name) for pair in pairs)} |" for name in names),
    ]
    return "\n".join(lines)


def _cell(pair: Pair, method: str) -> str:
    score = next((one for one in pair.scores if one.method == method), None)
    if score is None:
        return "–"
    values = [(score.mean, pair.metric), *((score.beside.get(m.name), m) for m in pair.beside)]
    return " / ".join(
        "–" if value is None or not math.isfinite(value) else f"{value:.{measure.digits}f}"
        for value, measure in values
    )


def report(comparison: Comparison) -> str:
    """Write verdicts, tables and notes as the command does, two headings lower."""
    lines = as_markdown(comparison).splitlines()[1:]
    return "\n".join(f"##{line}" if line.startswith("#") else line for line in lines).strip()


def verdicts(comparison: Comparison) -> str:
    """Write the verdict of every pair, and that of all of them, as the command does."""
    return report(comparison).split("\n\n####")[0]


def orders(comparison: Comparison) -> str:
    """Write the tables of orders of pairs and their sentences, as the command does."""
    only = replace(comparison, title="", summary="", pairs=(), methods=(), caveats=())
    return report(only)


def claims(comparison: Comparison) -> list[str]:
    """Name the methods whose students get better along an order of pairs, where no control does."""
    return [
        line.method
        for order in comparison.orders
        for line in order.lines
        if f": {PROOFS[order.kind].shown} (" in line.said
    ]


def means(comparison: Comparison, method: str) -> str:
    """Write a method's means along the first order of pairs."""
    order = comparison.orders[0]
    line = next(line for line in order.lines if line.method == method)
    return ", ".join(f"{value:.{order.metric.digits}f}" for value in line.means)


def untrained(comparison: Comparison) -> str:
    """Write what start points do without training, as the command does, of every pair."""
    blocks = report(comparison).split("\n\n")
    found = [f"{b}\n\n{blocks[n + 1]}" for n, b in enumerate(blocks) if b.startswith("Step 0,")]
    return "\n\n".join(found)


def gaps(comparison: Comparison, method: str, other: str, beside: str | None = None) -> list[float]:
    """Return method minus another in each pair, means over seeds.

    Args:
        comparison: with both.
        method: one of its arms.
        other: another one.
        beside: name of a metric beside the pair's own; None: its own.

    Raises:
        LookupError: if a pair lacks a result of one of them.
    """
    return [_mean(pair, method, beside) - _mean(pair, other, beside) for pair in comparison.pairs]


def spread(comparison: Comparison) -> float:
    """Return how far apart the best and the worst method of any pair are, means over seeds."""
    means = [[s.mean for s in pair.scores if s.mean is not None] for pair in comparison.pairs]
    return max(max(known) - min(known) for known in means)


def shares(comparison: Comparison, method: str, controls: Sequence[str]) -> list[float]:
    """Return, of each pair, the share of a method's gain over plain LoRA that no control has.

    A control that gains nothing counts as 0, so a share is at most 1.
    """
    gains = gaps(comparison, method, "plain")
    of_controls = zip(*(gaps(comparison, name, "plain") for name in controls), strict=True)
    kept = zip(gains, of_controls, strict=True)
    # Less is better in the pair's metric, or more is; a gain has the sign of the method's own.
    return [1 - max(0.0, *(control / gain for control in others)) for gain, others in kept]


def headlines(comparison: Comparison) -> list[Contrast]:
    """Return the comparisons that make the verdicts, each pair's corrected together."""
    found = (one for pair in comparison.pairs for one in pair.contrasts)
    return [one for one in found if one.headline and one.p_holm is not None]


def beyond(comparison: Comparison, method: str, other: str) -> int:
    """Count the pairs whose verdict has a method better than another beyond chance (Holm)."""
    found = (one for one in headlines(comparison) if (one.method, one.against) == (method, other))
    return sum(one.result == BETTER for one in found)


def largest_p(comparison: Comparison) -> float:
    """The largest p-value, after Holm's correction, of the comparisons that make the verdicts."""
    return max(one.p_holm for one in headlines(comparison) if one.p_holm is not None)


def must(holds: bool, claim: str) -> str:
    """Print nothing; the page is not printed where its words would not be true of its numbers."""
    if not holds:
        raise ValueError(f"the numbers do not say this any more: {claim}")
    return ""


def _mean(pair: Pair, method: str, beside: str | None = None) -> float:
    for found in pair.scores:
        value = found.mean if beside is None else found.beside.get(beside)
        if found.method == method and value is not None:
            return value
    raise LookupError(f"{pair.name} has no mean of {method}")


def main() -> None:
    """Print the page."""
    print(page(), end="")


if __name__ == "__main__":
    main()
