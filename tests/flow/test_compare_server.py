"""A comparison on a real server: deployed, run by a worker, looked at in Prefect's own pages.

With ``PARAKNOW_PICTURES`` set, the pictures are kept in that folder for a person to look at.
"""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from support.browser import browser_tab, find_browser
from support.pair import pair_settings, write_pair
from support.site import Site

pytestmark = [pytest.mark.flow, pytest.mark.timeout(2400)]

BROWSER = find_browser()
TEXT = "document.body.innerText"


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    folder = write_pair(tmp_path_factory.mktemp("pair"))
    one = pair_settings(folder, tmp_path_factory.mktemp("store"))
    return {
        "name": "tiny",
        "pairs": [{"name": "small", "teacher": one["teacher"], "student": one["student"]}],
        "tasks": [{"name": "words", "data": one["data"]}],
        "methods": [{"name": "plain"}, {"name": "transfer"}],
        "settings": {step: one[step] for step in ("lora", "decompose", "finetune", "evaluate")},
        "tuning": {"learning_rates": [1e-2], "seeds": [1000]},
        "seeds": [0, 1, 2, 3, 4],
        "slots": {"cpu": 2},
        "run": one["run"],
    }


@pytest.fixture(scope="module")
def run(site: Site, settings: dict[str, Any]) -> dict[str, Any]:
    return site.deployment_run("compare/nightly", settings)


def test_a_deployed_comparison_ends_well_and_is_one_tree_of_runs(
    site: Site, run: dict[str, Any]
) -> None:
    assert run["state_type"] == "COMPLETED", run["state"]["message"]
    below = site.tree(run["id"])
    assert {found["name"] for found in below} == {"small on words"}
    assert {found["state_type"] for found in below} == {"COMPLETED"}


def test_its_artifacts_are_the_table_the_words_and_the_picture(
    site: Site, run: dict[str, Any]
) -> None:
    found = site.artifacts(run["id"])
    (row,) = json.loads(found["comparison-table"]["data"])
    assert row["contrast"] == "transfer − plain"
    assert row["seeds"] == 5
    assert "**small on words**: In answer NLL" in found["comparison-summary"]["data"]
    assert "data:image/png;base64," in found["comparison-forest"]["data"]
    result = found["result"]["data"]
    assert "**small on words**: In answer NLL" in result
    assert "- page: [" in result
    assert "    tuning:" in result


@pytest.mark.skipif(BROWSER is None, reason="no Chromium here: the UI is not looked at")
def test_a_person_sees_them_in_the_ui(site: Site, run: dict[str, Any], tmp_path: Path) -> None:
    assert BROWSER is not None
    pictures = Path(os.environ.get("PARAKNOW_PICTURES") or tmp_path)
    address, found = site.api.removesuffix("/api"), site.artifacts(run["id"])
    with browser_tab(BROWSER, tmp_path / "profile") as tab:
        tab.size(1400, 1100)
        site.log_in(tab)

        def look(key: str, shown: str) -> None:
            tab.open(f"{address}/artifacts/artifact/{found[key]['id']}")
            tab.wait(shown)
            tab.picture(pictures / f"{key}.png")

        look("comparison-summary", f"{TEXT}.includes('small on words: In answer NLL')")
        assert tab.eval("document.querySelectorAll('table').length") >= 2
        look("comparison-table", f"{TEXT}.includes('transfer − plain')")
        image = "document.querySelector('img[src^=\"data:image/png\"]')"
        look("comparison-forest", f"{image} && {image}.naturalWidth > 300")


def test_the_next_night_computes_nothing(
    site: Site, run: dict[str, Any], settings: dict[str, Any]
) -> None:
    again = site.deployment_run("compare/nightly", settings)
    assert again["state_type"] == "COMPLETED"
    runs = [again["id"], *(found["id"] for found in site.tree(again["id"]))]
    site.wait("the end of every task", lambda: site.states(runs) == {"Cached"})
