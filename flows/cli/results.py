"""``paraknow results``: what the comparisons have found so far."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from flows.terminal import Terminal, say
from paraknow_core.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd

    from artifacts.store import Store

WRITERS = {".csv": "to_csv", ".parquet": "to_parquet", ".json": "to_json"}


def results_command(
    *,
    comparison: Annotated[str, typer.Option(help="Only this comparison.")] = "",
    pair: Annotated[str, typer.Option(help="Only this pair.")] = "",
    task: Annotated[str, typer.Option(help="Only this task.")] = "",
    method: Annotated[str, typer.Option(help="Only this method or control.")] = "",
    since: Annotated[str, typer.Option(help="Only runs since this date, such as 2026-11-01.")] = "",
    failed: Annotated[
        bool, typer.Option("--failed", help="Only seeds that failed or diverged.")
    ] = False,
    history: Annotated[
        bool, typer.Option("--history", help="Every run, not only each comparison's last.")
    ] = False,
    rows: Annotated[bool, typer.Option("--rows", help="Every seed, not means.")] = False,
    export: Annotated[
        Path | None, typer.Option(help="Write to a .csv, .parquet or .json file instead.")
    ] = None,
    items: Annotated[
        Path | None,
        typer.Option(
            help="Write every test item of the --comparison to a .parquet file, from which its "
            "verdicts and tables follow."
        ),
    ] = None,
    from_items: Annotated[
        Path | None,
        typer.Option(help="Print the report that follows from a file of --items; no store needed."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print as JSON.")] = False,
    store: Annotated[Path | None, typer.Option(help="Folder of the store.")] = None,
) -> None:
    """Print, filter or export the results of comparisons.

    The same data is one line away in pandas:
    `pd.read_parquet("<store>/results")`, or in DuckDB:
    `select * from read_parquet('<store>/results/*/*/*.parquet', hive_partitioning = true)`.
    """
    from flows.results.dataset import flat, latest, read, results_folder, summarise
    from tasks.engine.run import RunConfig

    if from_items is not None:
        from flows.results.items import read_comparison
        from paraknow_core.report.comparison_markdown import as_markdown

        say(as_markdown(read_comparison(from_items)))
        return
    opened = RunConfig(store=str(store or "")).open_store()
    if items is not None:
        say(f"{_write_items(opened, comparison, items):,} items in {items}")
        return
    root = opened.root
    frame = read(results_folder(root))
    wanted = {"comparison": comparison, "pair": pair, "task": task, "method": method}
    frame = _filtered(frame, wanted, since=since, failed=failed)
    if not history:
        frame = latest(frame)
    table = flat(frame) if rows or failed else summarise(frame)
    if export is not None:
        _export(table, export)
        say(str(export))
    elif as_json:
        say(table.to_json(orient="records", date_format="iso", indent=1))
    else:
        _print(Terminal(), table)


def _filtered(
    frame: "pd.DataFrame", wanted: dict[str, str], *, since: str, failed: bool
) -> "pd.DataFrame":
    import pandas as pd

    for column, value in wanted.items():
        if value:
            known = sorted(frame[column].unique())
            frame = frame[frame[column] == value]
            if frame.empty:
                raise ConfigError(
                    f"no results with {column} {value!r}; there are {', '.join(known)}"
                )
    if since:
        try:
            date = pd.Timestamp(since)
        except ValueError as error:
            raise ConfigError(f"--since {since!r} is no date, such as 2026-11-01") from error
        start = date.tz_localize("UTC") if date.tzinfo is None else date
        frame = frame[frame["time"] >= start]
    return frame[frame["status"] != "ok"] if failed else frame


def _write_items(store: "Store", comparison: str, path: Path) -> int:
    from flows.results.items import write_comparison

    if not comparison or path.suffix != ".parquet":
        raise ConfigError(
            f"--items {path}: give a name that ends in .parquet, and the comparison by --comparison"
        )
    return write_comparison(store, comparison, path)


def _export(table: "pd.DataFrame", path: Path) -> None:
    writer = WRITERS.get(path.suffix)
    if writer is None:
        raise ConfigError(f"--export {path}: the name must end in {', '.join(WRITERS)}")
    options: dict[str, Any] = {"orient": "records"} if path.suffix == ".json" else {"index": False}
    getattr(table, writer)(path, **options)


def _print(console: Terminal, table: "pd.DataFrame") -> None:
    if table.empty:
        console.print("nothing of that kind")
        return
    console.print(_means(table) if "seeds" in table else _seeds(table))


def _means(table: "pd.DataFrame") -> Table:
    """One row a method; what the verdict is about stands first among the metrics."""
    from flows.results.dataset import metrics_in
    from paraknow_core.evaluation.metrics import LOSS, METRICS

    columns = ["comparison", "pair", "task", "method", "learning_rate", "seeds"]
    if set(table["primary"]) != {LOSS}:
        columns.append("primary")
    metrics = [METRICS[name] for name in metrics_in(table)]
    held = map(str, table.columns)
    scores = [name for name in held if f"{name}_sd" in table and name not in METRICS]
    about = {METRICS[name].label for name in set(table["primary"]) if name in METRICS}
    first = [name for name in scores if name in about]  # benchmarks that verdicts are about
    rest = [name for name in scores if name not in about]
    shown = Table(*columns, "no result", *first, *(metric.label for metric in metrics), *rest)
    for row in table.to_dict("records"):
        lost = [f"{row[kind]} {kind}" for kind in ("failed", "diverged") if row[kind]]
        values = [_spread(row[name], row[f"{name}_sd"], 4) for name in first]
        values += [_spread(row[m.name], row[f"{m.name}_sd"], m.digits) for m in metrics]
        values += [_spread(row[name], row[f"{name}_sd"], 4) for name in rest]
        shown.add_row(*(_text(row[name]) for name in columns), ", ".join(lost), *values)
    return shown


def _seeds(table: "pd.DataFrame") -> Table:
    """One row a seed."""
    from flows.results.dataset import PARTITIONS, columns, metrics_in

    scores = [name for name in map(str, table.columns) if name not in {*columns(), *PARTITIONS}]
    names = ["pair", "task", "method", "seed", "status", *metrics_in(table), *scores, "reason"]
    shown = Table(*names)
    for row in table.to_dict("records"):
        shown.add_row(*(_text(row[name]) for name in names))
    return shown


def _spread(mean: float, sd: float, digits: int) -> str:
    """A mean over seeds and its spread, as far as there are any."""
    if math.isnan(mean):
        return "–"
    return f"{mean:.{digits}f}" + ("" if math.isnan(sd) else f" ± {sd:.{digits}f}")


def _text(value: object) -> str:
    if isinstance(value, float) and math.isnan(value):
        return "–"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
