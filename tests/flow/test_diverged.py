"""Trainings that run away, on a tiny pair: stored once, told, and in nobody's way."""

from pathlib import Path
from typing import Any

import pytest
from support.direct import computed, run_direct
from support.pair import pair_settings

from artifacts.queries.lineage import Lineage
from artifacts.store import Store
from flows.config.transfer import TransferConfig
from flows.delivery.provenance import find_adapter
from flows.planning.transfer import make_plan
from paraknow_core.errors import DivergedError
from tasks.engine.json_files import read_json
from tasks.engine.ref import folder_of
from tasks.engine.stage import Stage

pytestmark = pytest.mark.flow


def test_what_diverges_is_kept_like_a_result_and_told(pair: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = pair_settings(pair, tmp_path / "store")
    settings["finetune"]["learning_rate"] = 1e30
    settings |= {
        "arms": ["plain", "transfer", "pissa"],
        "learning_rates": {"pissa": 1e20},  # far beyond what any processor's rounding decides
        "baseline": {"learning_rate": 10.0},
    }
    first = run_direct(settings)
    store = Store.open(tmp_path / "store")
    assert "evaluate transfer" not in first
    trained = first["finetune transfer"]
    assert sorted(trained.files) == ["diverged.json", "training_log.jsonl"]
    reason = read_json(folder_of(store, trained) / "diverged.json")["reason"]
    assert reason.startswith("diverged: the ")
    assert "at step" in reason
    # Four steps at a rate of 10 leave a finite loss, beyond what the exponential of it can hold.
    measured = read_json(folder_of(store, first["evaluate plain"]) / "metrics.json")
    assert measured["answer_nll"] > 700
    assert measured["perplexity"] is None
    summary = read_json(folder_of(store, first["report"]) / "summary.json")
    assert summary["diverged"].keys() == {"plain", "transfer", "pissa"}
    assert summary["differences"] == {}

    again = run_direct(settings)
    assert computed(again) == set()
    plan = make_plan(TransferConfig.model_validate(settings), Stage.REPORT)
    assert plan.all_cached
    with pytest.raises(DivergedError, match="has no adapter to deliver: diverged: the"):
        find_adapter(store, Lineage.of(store), trained.key[:16])
