"""The data set of results: append, read in one line, filter, export."""

import json
import os
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from flows.cli.main import app
from flows.results.dataset import (
    append,
    columns,
    latest,
    new_run,
    put_page,
    read,
    results_folder,
    summarise,
)
from paraknow_core.errors import ConfigError
from paraknow_core.evaluation.metrics import METRICS

EARLY = datetime(2026, 11, 1, tzinfo=UTC)


def rows(time: datetime, nll: float) -> list[dict[str, object]]:
    shared = {"time": time, "pair": "a", "task": "t", "start": "plain", "control": False}
    return [
        {
            **shared,
            "method": method,
            "seed": seed,
            "status": "ok",
            "reason": "",
            "learning_rate": 1e-3,
            "answer_nll": nll + seed,
            "exact_match": 0.5,
            "items": 4,
        }
        for method in ("plain", "transfer")
        for seed in range(2)
    ] + [{**shared, "method": "plain", "seed": 2, "status": "failed", "reason": "loss is NaN"}]


@pytest.fixture
def store(tmp_path: Path) -> Path:
    root = tmp_path / "store"
    folder = results_folder(root)
    later = EARLY + timedelta(days=9)
    append(folder, "nightly", new_run(EARLY), rows(EARLY, 1.0))
    append(folder, "nightly", new_run(later), rows(later, 3.0))
    append(folder, "other", new_run(EARLY), rows(EARLY, 7.0))
    return root


def results(*arguments: str, store: Path) -> str:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(
        app, ["results", *arguments, "--store", str(store)]
    )
    if done.exception is not None and not isinstance(done.exception, SystemExit):
        raise done.exception
    return done.output


def test_every_run_is_read_in_one_line_of_pandas(store):
    frame = pd.read_parquet(results_folder(store))
    assert len(frame) == 15
    assert set(frame.columns) == {*columns(), "comparison", "run"}
    assert set(frame["schema_version"]) == {1}
    ours = read(results_folder(store))
    assert list(ours["time"]) == sorted(ours["time"])
    assert len(ours) == 15


def test_only_the_last_run_of_each_comparison_counts(store):
    kept = latest(read(results_folder(store)))
    assert sorted(kept.groupby("comparison")["answer_nll"].min()) == [3.0, 7.0]
    table = summarise(kept).set_index(["comparison", "method"])
    plain = table.loc[("nightly", "plain")]
    assert (plain["seeds"], plain["failed"]) == (2, 1)
    assert plain["answer_nll"] == 3.5
    assert plain["answer_nll_sd"] == pytest.approx(0.5**0.5)


def test_columns_of_a_newer_version_are_passed_over_and_older_files_still_read(store):
    folder = results_folder(store) / "comparison=new" / "run=20270101T000000Z-0"
    folder.mkdir(parents=True)
    newer = pd.DataFrame({"time": [pd.Timestamp("2027-01-01", tz="UTC")], "brand_new": [1]})
    newer.to_parquet(folder / "part-0.parquet")
    frame = read(results_folder(store))
    assert len(frame) == 16
    assert "brand_new" not in frame


def test_the_command_filters_and_exports(store, tmp_path):
    table = json.loads(results("--json", store=store))
    assert len(table) == 4
    assert len(json.loads(results("--json", "--rows", "--history", store=store))) == 15
    found = json.loads(results("--json", "--comparison", "nightly", "--failed", store=store))
    assert [row["reason"] for row in found] == ["loss is NaN"]
    found = json.loads(results("--json", "--history", "--since", "2026-11-05", store=store))
    assert {row["comparison"] for row in found} == {"nightly"}
    file = tmp_path / "out.csv"
    results("--rows", "--export", str(file), store=store)
    assert len(pd.read_csv(file)) == 10
    assert "loss is NaN" in results("--failed", store=store)
    assert "3.5000 ± 0.7071" in results("--method", "plain", store=store)


def test_the_metric_that_a_verdict_is_about_comes_first(store):
    """Rows of older versions name none: theirs is answer NLL."""
    assert "primary" not in results(store=store)
    given = [
        row | {"primary": "exact_match", "task": "sums"}
        for row in rows(EARLY, 2.0)
        if "items" in row
    ]
    append(results_folder(store), "sums", new_run(EARLY), given)
    frame = read(results_folder(store))
    assert frame.groupby("comparison")["primary"].first().to_dict() == {
        "nightly": "answer_nll",
        "other": "answer_nll",
        "sums": "exact_match",
    }
    told = results("--comparison", "sums", store=store)
    assert told.index("exact match") < told.index("answer NLL")
    assert "0.500 ± 0.000" in told
    assert "exact_match" in told.splitlines()[3]
    found = json.loads(results("--json", store=store))
    assert {row["comparison"]: row["primary"] for row in found}["sums"] == "exact_match"
    told = results("--comparison", "sums", "--rows", store=store)
    assert told.index("exact_match") < told.index("answer_nll")


def test_every_metric_has_a_column_that_says_what_it_is(store, monkeypatch):
    """One that is registered later is a column of later files; earlier ones have no value."""
    import pyarrow.parquet as pq

    changes = {"name": "likelihood", "label": "likelihood", "higher_is_better": True}
    monkeypatch.setitem(METRICS._entries, "likelihood", replace(METRICS["answer_nll"], **changes))
    written = append(
        results_folder(store),
        "new",
        new_run(EARLY),
        [r | {"likelihood": -1.0} for r in rows(EARLY, 1.0)],
    )
    about = {f.name: (f.metadata or {}).get(b"about") for f in pq.read_schema(written)}
    assert about["answer_nll"] == b"answer NLL (nats a token); lower is better; test split"
    assert about["exact_match"] == b"exact match; 0 to 1; higher is better; test split"
    assert about["likelihood"] == b"likelihood (nats a token); higher is better; test split"
    frame = read(results_folder(store))
    assert frame["likelihood"].notna().sum() == 5
    assert "likelihood" not in results("--comparison", "nightly", store=store)
    assert "-1.0000 ± 0.0000" in results("--comparison", "new", store=store)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--pair", "b"), "no results with pair 'b'; there are a"),
        (("--since", "soon"), "'soon' is no date"),
        (("--export", "x.xls"), r"must end in \.csv"),
    ],
)
def test_bad_wishes_are_refused(store, arguments, message):
    with pytest.raises(ConfigError, match=message):
        results(*arguments, store=store)


def test_an_empty_store_says_how_results_get_there(tmp_path):
    with pytest.raises(ConfigError, match="paraknow compare CONFIG"):
        results(store=tmp_path / "store")


def test_rows_and_pages_are_on_the_disk_before_they_have_their_names(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bytes first, then the name; the names of new folders as well."""
    synced: list[tuple[Path, tuple[str, ...]]] = []
    real = os.fsync

    def fsync(descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").readlink()
        held = tuple(sorted(each.name for each in path.iterdir())) if path.is_dir() else ()
        synced.append((path, held))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    page = tmp_path / "page.html"
    page.write_text("<p>")
    folder = tmp_path / "store" / "results"
    written = append(folder, "c", "r", rows(EARLY, 1.0)), put_page(folder, "c", "r", page)
    for path in written:
        place = path.parent
        bytes_at = next(i for i, (p, _) in enumerate(synced) if p.parent == place and p != path)
        name_at = next(i for i, (p, held) in enumerate(synced) if p == place and path.name in held)
        assert bytes_at < name_at
        for made in (place, *place.parents):
            if made == tmp_path:
                break
            assert any(p == made.parent and made.name in held for p, held in synced), made
