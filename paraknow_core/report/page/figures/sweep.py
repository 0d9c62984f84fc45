"""The learning-rate sweep: each method's validation loss at each rate, the chosen one ringed."""

from functools import partial

from paraknow_core.evaluation.metrics import LOSS, METRICS
from paraknow_core.report.page import linechart
from paraknow_core.report.page.data import Pair
from paraknow_core.report.page.figure import Figure, Table
from paraknow_core.report.page.linechart import Axes, Series
from paraknow_core.report.page.outcome import Trial
from paraknow_core.report.page.styles import Look
from paraknow_core.report.page.text import compact, finite, number

TITLE = "Learning-rate sweep"
NO_TRIALS = "No learning-rate trials were handed over."


def draw(pair: Pair, look: Look) -> Figure:
    """Draw one line a method, learning rates on a logarithmic axis."""
    methods: dict[str, list[Trial]] = {}
    for trial in sorted(pair.trials, key=lambda t: t.learning_rate):
        methods.setdefault(trial.method, []).append(trial)
    if not any(finite([trial.value]) for trial in pair.trials):
        missing = "Every trial failed or diverged." if pair.trials else NO_TRIALS
        return Figure("sweep", TITLE, missing=missing)
    lines = [_series(name, trials, look) for name, trials in methods.items()]
    log, loss = all(trial.learning_rate > 0 for trial in pair.trials), METRICS[LOSS].title
    axes = Axes("learning rate", f"{loss}, validation", log_x=log, x_ticks=_ticks(pair.trials))
    return Figure(
        "sweep",
        TITLE,
        "On validation only. The large point is the rate used on test; a choice at the edge of the "
        "grid may hide a better one beyond it.",
        partial(linechart.plot, lines, axes),
        f"{TITLE} of {pair.name}",
        _table(methods),
        tuple((look.style(name), name) for name in methods),
    )


def _series(name: str, trials: list[Trial], look: Look) -> Series:
    chosen = next((t.learning_rate for t in trials if t.chosen), None)
    return Series(
        name=name,
        colour=look.colour(name),
        x=[t.learning_rate for t in trials],
        y=[t.value for t in trials],
        dash=look.dash(name),
        dots=True,
        ring=chosen,
    )


def _ticks(trials: tuple[Trial, ...]) -> tuple[float, ...]:
    """The rates themselves, as long as they can be told apart."""
    rates = sorted({trial.learning_rate for trial in trials})
    return tuple(rates) if len(rates) <= 8 else ()


def _table(methods: dict[str, list[Trial]]) -> Table:
    rates = sorted({t.learning_rate for trials in methods.values() for t in trials})
    rows = []
    for name, trials in methods.items():
        held = {t.learning_rate: number(t.value) + (" ◀" if t.chosen else "") for t in trials}
        rows.append((name, *(held.get(rate, "") for rate in rates)))
    return Table(("method", *(compact(rate) for rate in rates)), tuple(rows))
