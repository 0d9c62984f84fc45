"""The results of every comparison, as one Parquet data set that any tool reads in a line.

One row is one seed of one method on one pair and task, or the reason why it has no result. Folder:
``comparison=<name>/run=<id>/part-0.parquet``; nothing is ever rewritten, a run only adds its file
and its page.
"""

import uuid
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paraknow_core.durable_files import make_folder, settle
from paraknow_core.errors import ConfigError

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

SCHEMA_VERSION = 1

COLUMNS: Mapping[str, str] = {
    "schema_version": "int32",
    "time": "timestamp",  # of the run, UTC
    "pair": "string",
    "task": "string",
    "method": "string",
    "start": "string",  # registered name of its start point
    "control": "bool",
    "seed": "int64",
    "status": "string",  # ok; failed, by an error; diverged, by training
    "reason": "string",  # why it failed or diverged, else empty
    "learning_rate": "double",
    "validation_nll": "double",  # nats a token
    "answer_nll": "double",  # nats a token, test split
    "perplexity": "double",
    "exact_match": "double",  # 0..1
    "items": "int64",
    "teacher": "string",
    "student": "string",
    "adapter_key": "string",
    "evaluation_key": "string",
    "seconds": "double",  # of training and evaluation, when they were computed
}
"""Name and type of every column, beside the partitions ``comparison`` and ``run``."""


def new_run(now: datetime | None = None) -> str:
    """Return an id for a run: its time, so that they sort, and something that makes it unique."""
    return f"{now or datetime.now(UTC):%Y%m%dT%H%M%SZ}-{uuid.uuid4().hex[:8]}"


def results_folder(store_root: Path) -> Path:
    """Return where the results of a store's comparisons lie."""
    return store_root / "results"


def append(folder: Path, comparison: str, run: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    """Add one run's rows; the file appears whole or not at all, and stays.

    Args:
        folder: of the data set; is made if need be.
        comparison: name of the comparison.
        run: from ``new_run``.
        rows: a value for each of ``COLUMNS``, but ``schema_version``; a missing one is null.

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


def put_page(folder: Path, comparison: str, run: str, source: Path) -> Path:
    """Copy a run's page or text to ``_pages`` beside the data set; readers of Parquet skip that.

    The store's own file has no ending, so a browser would show its source.
    """
    place = folder / "_pages"
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
    frame = frame.copy()
    frame.loc[frame["status"] != "ok", ["answer_nll", "exact_match"]] = float("nan")
    grouped = frame.groupby(keys, sort=False)
    table = grouped.agg(
        control=("control", "first"),
        seeds=("status", lambda status: int((status == "ok").sum())),
        failed=("status", lambda status: int((status == "failed").sum())),
        diverged=("status", lambda status: int((status == "diverged").sum())),
        learning_rate=("learning_rate", "first"),
        answer_nll=("answer_nll", "mean"),
        answer_nll_sd=("answer_nll", "std"),
        exact_match=("exact_match", "mean"),
        exact_match_sd=("exact_match", "std"),
    )
    return table.reset_index()


def _schema() -> "pa.Schema":
    import pyarrow as pa

    types = {
        "int32": pa.int32(),
        "int64": pa.int64(),
        "double": pa.float64(),
        "bool": pa.bool_(),
        "string": pa.string(),
        "timestamp": pa.timestamp("us", tz="UTC"),
    }
    return pa.schema([(name, types[kind]) for name, kind in COLUMNS.items()])
