"""From what the steps store to what a page shows; statistics come from the caller as numbers."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, Any

from paraknow_core.alignment.matrices import source_role
from paraknow_core.errors import DataError
from paraknow_core.evaluation.metric import Metric
from paraknow_core.models.describe import Architecture, Role
from paraknow_core.models.token_modules import token_modules
from paraknow_core.report.page.data import Cost, Origin
from paraknow_core.report.page.diagnosis import (
    Arrived,
    Cka,
    ModuleFact,
    NovelMatrix,
    Sensitivity,
    ShownWindow,
    Spectrum,
    TokenShare,
)
from paraknow_core.report.page.outcome import Curve, MethodAnswer, Prediction, Score, Trial
from paraknow_core.strict_data import NotStrictError, open_regular, parse_json, read_json

if TYPE_CHECKING:
    from paraknow_core.evaluation.items import Item

Row = Mapping[str, Any]

_SPLITS = {"train": "loss", "validation": "eval_loss"}
_ANSWERS = "answer_loss"
"""Of a training on another loss: the answers' own, which can be compared with other methods'."""


def read_log(path: Path) -> list[dict[str, float]]:
    """Read a fine-tuning step's ``training_log.jsonl``."""
    with open_regular(path, refuse=DataError) as file:
        lines = file.read().splitlines()
    try:
        return [parse_json(line, as_row=True) for line in lines]
    except NotStrictError as error:
        raise DataError(f"{path}: a line is no valid JSON ({error}).") from error


def curves_of(method: str, logs: Sequence[Sequence[Row]]) -> tuple[Curve, ...]:
    """Average training logs of one method over seeds.

    Args:
        method: its name.
        logs: one a seed, from ``read_log``.

    Returns:
        The training curve, and the validation curve if it was measured. A step counts where every
        seed has it.
    """
    found = (_curve(method, split, field, logs) for split, field in _SPLITS.items())
    return tuple(curve for curve in found if curve.steps)


def _with_answers(row: Row) -> Row:
    return {**row, "loss": row[_ANSWERS]} if _ANSWERS in row else row


def _curve(method: str, split: str, field: str, logs: Sequence[Sequence[Row]]) -> Curve:
    seeds = [
        {int(row["step"]): float(row[field]) for row in map(_with_answers, log) if field in row}
        for log in logs
    ]
    steps = sorted(set.intersection(*map(set, seeds))) if seeds else []
    values = [[seed[step] for seed in seeds] for step in steps]
    return Curve(
        method=method,
        split=split,
        steps=tuple(steps),
        mean=tuple(map(fmean, values)),
        low=tuple(map(min, values)),
        high=tuple(map(max, values)),
        seeds=len(seeds),
    )


def score_of(
    method: str,
    found: Sequence[Row],
    *,
    metrics: Sequence[Metric],
    learning_rate: float | None = None,
    chosen_from: int | None = None,
) -> Score:
    """Put an evaluation's metrics of every seed together.

    Args:
        method: its name.
        found: values of each seed with a result by name, in the order of the seeds.
        metrics: the one that scores are about, and those that stand beside it.
        learning_rate: the chosen one.
        chosen_from: of how many.
    """
    primary, *others = (metric.name for metric in metrics)
    values = tuple(float(row[primary]) for row in found)
    return Score(
        method=method,
        mean=fmean(values) if values else None,
        values=values,
        beside={
            other: fmean(float(row[other]) for row in found) if values else None for other in others
        },
        learning_rate=learning_rate,
        chosen_from=chosen_from,
    )


def trials_of(
    method: str, values: Mapping[float, float | None], *, chosen: float | None
) -> tuple[Trial, ...]:
    """List a learning-rate sweep.

    Args:
        method: its name.
        values: learning rate → loss on validation; None where the trial failed.
        chosen: the rate that is used on test.
    """
    return tuple(
        Trial(method=method, learning_rate=rate, value=value, chosen=rate == chosen)
        for rate, value in sorted(values.items())
    )


def sensitivity_of(table: Row, chosen: Sequence[int] = ()) -> Sensitivity:
    """Read ``layer_sums.json`` of a sensitivity step, and ``layers.json`` of an align step."""
    return Sensitivity(
        roles=tuple(table["roles"]),
        sums=tuple(tuple(sums) for sums in table["roles"].values()),
        layers=tuple(table["layers"]),
        outside=dict(table.get("outside", {})),
        chosen=tuple(chosen),
    )


def windows_of(cuts: Iterable[Row], teacher: Architecture) -> tuple[ShownWindow, ...]:
    """Read ``windows.json`` of an extract step; what is no contiguous window is left out."""
    whole = (cut for cut in cuts if cut.get("row") is not None and cut.get("col") is not None)
    return tuple(
        _window(cut, teacher.matrix(_source(teacher, cut), cut["teacher_layer"]).shape)
        for cut in whole
    )


def _source(teacher: Architecture, cut: Row) -> Role:
    return source_role(teacher, Role(cut["role"]))


def _window(cut: Row, shape: tuple[int, ...]) -> ShownWindow:
    return ShownWindow(
        **{name: cut[name] for name in ("role", "module", "row", "col", "rows", "cols")},
        student_layer=cut["student_layer"],
        teacher_layer=cut["teacher_layer"],
        teacher_rows=shape[0],
        teacher_cols=shape[1],
        share=cut["score"] / cut["total"] if cut["total"] else None,
    )


def spectra_of(folder: Path, student: Architecture) -> tuple[Spectrum, ...]:
    """Read the singular values of a decompose step: its factors and its certificates.

    Args:
        folder: of the step's output.
        student: its modules name the roles and layers.
    """
    from paraknow_core.checkpoint.reader import Checkpoint

    certificates = read_json(folder / "certificates.json", refuse=DataError)
    modules = {matrix.module: matrix for matrix in student.matrices}
    with Checkpoint(folder) as factors:
        return tuple(
            Spectrum(
                module=module,
                role=str(matrix.role),
                layer=matrix.layer,
                values=tuple(map(float, factors.read(f"{module}.S").tolist())),
                energy=certificates[module]["energy"],
            )
            for module, matrix in modules.items()
            if module in certificates
        )


def modules_of(method: str, diagnostics: Row) -> tuple[ModuleFact, ...]:
    """Read ``diagnostics.json`` of a diagnose step."""
    return tuple(ModuleFact(method=method, **fact) for fact in diagnostics["modules"])


def novelty_of(
    certificates: Row, tokens: Mapping[str, Sequence[Row]], student: Architecture
) -> tuple[NovelMatrix, ...]:
    """Read ``certificates.json`` and ``tokens.json`` of a novel-tokens step."""
    return tuple(
        NovelMatrix(
            module=matrix.module,
            role=str(matrix.role),
            share=certificates[matrix.module]["novel_share"],
            energy=certificates[matrix.module]["energy"],
            tokens=tuple(TokenShare(**token) for token in tokens[matrix.module]),
        )
        for matrix in token_modules(student).values()
        if matrix.module in certificates
    )


def arrived_of(method: str, found: Row) -> tuple[Arrived, ...]:
    """Read ``arrival.json`` of an arrival step."""
    return tuple(
        Arrived(method=method, **fact | {"cosines": tuple(fact["cosines"])})
        for fact in found["matrices"]
    )


def cka_of(likeness: Row) -> Cka:
    """Read ``likeness.json`` of a likeness step."""
    return Cka(
        matrix=tuple(map(tuple, likeness["matrix"])),
        texts=likeness["texts"],
        estimator=likeness["estimator"],
    )


def predictions_of(
    items: Mapping[str, Sequence["Item"]], *, count: int = 6
) -> tuple[Prediction, ...]:
    """Pick test rows to show: those that the methods disagree about first, then in their order.

    Args:
        items: method → its items (of one seed), the same rows in the same order.
        count: rows at most.
    """
    rows = list(zip(*items.values(), strict=True))
    order = sorted(range(len(rows)), key=lambda i: len({item.correct for item in rows[i]}) == 1)
    return tuple(_prediction(tuple(items), rows[place]) for place in sorted(order[:count]))


def _prediction(methods: Sequence[str], row: Sequence["Item"]) -> Prediction:
    return Prediction(
        id=row[0].id,
        prompt=row[0].prompt,
        expected=row[0].answer,
        answers=tuple(
            MethodAnswer(method=method, text=item.generated, correct=item.correct, nll=item.nll)
            for method, item in zip(methods, row, strict=True)
        ),
    )


def costs_of(results: Iterable[tuple[str, str, float, bool]]) -> tuple[Cost, ...]:
    """Add up computing time by step, each result once.

    Args:
        results: (step, key, seconds that it took when it was computed, whether it was reused).

    Returns:
        One a step, in the order of their first result.
    """
    steps: dict[str, dict[str, tuple[float, bool]]] = {}
    for step, key, seconds, reused in results:
        steps.setdefault(step, {})[key] = (seconds, reused)
    return tuple(
        Cost(
            step=step,
            seconds=sum(seconds for seconds, _ in found.values()),
            runs=len(found),
            reused=sum(reused for _, reused in found.values()),
        )
        for step, found in steps.items()
    )


def origin_of(label: str, record: Row, *, facts: Mapping[str, object] | None = None) -> Origin:
    """Name the stored result behind a number.

    Args:
        label: what it is to the pair.
        record: the store's record as JSON.
        facts: name → what else is worth knowing.
    """
    provenance = record.get("provenance", {})
    return Origin(
        label=label,
        step=record["payload"]["step"],
        key=record["key"],
        digest=record["tree"],
        seconds=provenance.get("seconds"),
        finished=str(provenance.get("finished", "")),
        facts={name: str(value) for name, value in facts.items()} if facts else None,
    )
