"""The results of every comparison, as one Parquet data set that any tool reads in a line.

One row is one seed of one method on one pair and task, or the reason why it has no result. Folder:
``comparison=<name>/run=<id>/part-0.parquet``; nothing is ever rewritten, a run only adds its file
and its page.
"""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paraknow_core.durable_files import make_folder, settle
from paraknow_core.errors import ConfigError
from paraknow_core.evaluation.metric import Metric
from paraknow_core.evaluation.metrics import LOSS, METRICS, REPORTED

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SCHEMA_VERSION = 1
BENCHMARKS = "benchmarks"
"""The column with the scores of benchmarks, by name."""
PARTITIONS = ("comparison", "run")


@dataclass(frozen=True)
class Column:
    """A column of the data set.

    Attributes:
        kind: its type, as ``_schema`` names it.
        about: what it holds, which stands in the files as well.
    """

    kind: str
    about: str = ""


def columns() -> dict[str, Column]:
    """Name and describe every column, without the partitions ``comparison`` and ``run``."""
    return {
        "schema_version": Column("int32"),
        "time": Column("timestamp", "of the run, UTC"),
        "pair": Column("string"),
        "task": Column("string"),
        "method": Column("string"),
        "start": Column("string", "registered name of its start point"),
        "control": Column("bool"),
        "seed": Column("int64"),
        "status": Column("string", "ok; failed, by an error; diverged, by training"),
        "reason": Column("string", "why it failed or diverged, else empty"),
        "learning_rate": Column("double"),
        "primary": Column("string", f"metric that the verdict is about; missing: {LOSS}"),
        "validation_nll": Column("double", f"{METRICS[LOSS].unit}, validation split"),
        **{name: _column_of(metric) for name, metric in METRICS.items()},
        "items": Column("int64"),
        BENCHMARKS: Column("scores", "of lm-evaluation-harness, by benchmark, metric and filter"),
        "teacher": Column("string"),
        "student": Column("string"),
        "adapter_key": Column("string"),
        "evaluation_key": Column("string"),
        "seconds": Column("double", "of training and evaluation, when they were computed"),
    }


def _column_of(metric: Metric) -> Column:
    told = (metric.title, "0 to 1" if metric.is_share else "", metric.direction, "test split")
    return Column("double", "; ".join(filter(None, told)))


def new_run(now: datetime | None = None) -> str:
    """Return an id for a run: its time, so that they sort, and something that makes it unique."""
    return f"{now or datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"


def results_folder(store_root: Path) -> Path:
    """Return where the results of a store's comparisons lie."""
    return store_root / "results"


def append(folder: Path, comparison: str, run: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Add one run's rows; the file appears complete or not at all, and stays.

    Args:
        folder: of the data set; is made if need be.
        comparison: name of the comparison.
        run: from ``new_run``.
        rows: a value for each of ``columns()``, but ``schema_version``; a missing one is null.

    Returns:
        The file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    place = folder / f"comparison={comparison}" / f"run={run}"
    make_folder(place)
    full = [{**row, "schema_version": SCHEMA_VERSION} for row in rows]
    table = pa.Table.from_pylist(full, schema=_schema())
    draft, final = place / ".part-0.parquet", place / "part-0.parquet"
    pq.write_table(table, draft)
    settle(draft, final)
    return final


def pages_folder(folder: Path) -> Path:
    """Return where the pages of a data set of results lie; readers of Parquet skip that folder."""
    return folder / "_pages"


def put_page(folder: Path, comparison: str, run: str, source: Path) -> Path:
    """Copy a run's page or text to the folder of pages.

    The store's own file has no ending, so a browser would show its source.
    """
    place = pages_folder(folder)
    make_folder(place)
    draft, final = place / f".{run}", place / f"{comparison}-{run}{source.suffix}"
    draft.write_bytes(source.read_bytes())
    settle(draft, final)
    return final


def read(folder: Path) -> "pd.DataFrame":
    """Read every run's rows, oldest first.

    Raises:
        ConfigError: if there are none.
    """
    import pyarrow.dataset as ds

    if not any(folder.glob("comparison=*/run=*/part-0.parquet")):
        raise ConfigError(
            f"no results in {folder}; `paraknow compare CONFIG` adds some (--store names another "
            "store)"
        )
    import pyarrow as pa

    partitions = ds.partitioning(
        pa.schema([("comparison", pa.string()), ("run", pa.string())]), flavor="hive"
    )
    full = pa.schema([*_schema(), ("comparison", pa.string()), ("run", pa.string())])
    data = ds.dataset(folder, format="parquet", partitioning=partitions, schema=full)
    frame: pd.DataFrame = data.to_table().to_pandas()
    frame["primary"] = frame["primary"].fillna(LOSS)
    frame[BENCHMARKS] = frame[BENCHMARKS].map(_as_dict)
    return frame.sort_values(["time", "comparison", "pair", "task"], kind="stable").reset_index(
        drop=True
    )


def latest(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Keep each comparison's last run."""
    last = frame.groupby("comparison")["run"].transform("max")
    return frame[frame["run"] == last]


def summarise(frame: "pd.DataFrame") -> "pd.DataFrame":
    """One row a comparison, run, pair, task and method: seeds, failures, means and spreads.

    A seed that diverged may have numbers; they enter no mean.
    """
    keys = ["comparison", "run", "pair", "task", "method"]
    metrics = metrics_in(frame)
    scores, frame = benchmarks_in(frame), flat(frame)
    frame.loc[frame["status"] != "ok", [*metrics, *scores]] = float("nan")
    grouped = frame.groupby(keys, sort=False)
    table = grouped.agg(
        control=("control", "first"),
        seeds=("status", lambda status: int((status == "ok").sum())),
        failed=("status", lambda status: int((status == "failed").sum())),
        diverged=("status", lambda status: int((status == "diverged").sum())),
        learning_rate=("learning_rate", "first"),
        primary=("primary", "first"),
        **{
            column: (name, how)
            for name in (*metrics, *scores)
            for column, how in ((name, "mean"), (f"{name}_sd", "std"))
        },
    )
    return table.reset_index()


def metrics_in(frame: "pd.DataFrame") -> list[str]:
    """Name the metrics to show of some rows: their primary ones first, then the others.

    Those that are usual are always among them; further ones if any row has a value.
    """
    primary = set(frame["primary"])
    pooled = [name for name, metric in METRICS.items() if metric.transform is None]
    held = [name for name in pooled if name in frame]  # means leave out what no row has
    shown = [n for n in held if n in REPORTED or n in primary or frame[n].notna().any()]
    return sorted(shown, key=lambda name: name not in primary)


def flat(frame: "pd.DataFrame") -> "pd.DataFrame":
    """Return some seeds with a column for each benchmark's score, in place of one for all."""
    found = frame.drop(columns=BENCHMARKS)
    for name in benchmarks_in(frame):
        found[name] = [scores.get(name, float("nan")) for scores in frame[BENCHMARKS]]
    return found


def _as_dict(pairs: Any) -> dict[str, float]:
    """Scores by name, of what pandas makes of a map or of a missing one."""
    return {} if pairs is None or isinstance(pairs, float) else dict(pairs)


def benchmarks_in(frame: "pd.DataFrame") -> list[str]:
    """Name the scores of benchmarks that any of some seeds has, such as ``mmlu acc``."""
    return list(dict.fromkeys(name for found in frame[BENCHMARKS] for name in found))


def _schema() -> "pa.Schema":
    import pyarrow as pa

    types = {
        "int32": pa.int32(),
        "int64": pa.int64(),
        "double": pa.float64(),
        "bool": pa.bool_(),
        "string": pa.string(),
        "scores": pa.map_(pa.string(), pa.float64()),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
    return pa.schema(
        pa.field(name, types[column.kind], metadata={"about": column.about} if column.about else {})
        for name, column in columns().items()
    )
