"""Plans over a store with results: why a step would run, and that a run of hits needs no server."""

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.settings import PREFECT_API_URL, temporary_settings
from support.direct import run_direct
from support.pair import pair_settings, write_pair
from support.results import payload
from typer.testing import CliRunner

from artifacts.keys import KeyPayload
from artifacts.queries.explain import nearest
from artifacts.store import Store
from flows.cli.main import app
from flows.server.server_settings import ServerError
from tasks.engine.stage import Stage

pytestmark = pytest.mark.flow


def step_of(rank: int, alpha: int) -> KeyPayload:
    return KeyPayload(
        step="lora", version=1, config={"rank": rank, "alpha": alpha, "split": "x"}, inputs={}
    )


def test_nearest_has_the_fewest_differences_and_then_is_the_newest(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    for day, rank, alpha in ((1, 4, 4), (3, 8, 4), (2, 4, 8), (5, 9, 9)):
        finished = f"2026-01-0{day}T00:00:00+00:00"
        store.publish(step_of(rank, alpha), {"a": b"x"}, provenance={"finished": finished})
    store.publish(payload(), {"a": b"x"})  # another step

    def found(rank: int, alpha: int) -> dict[str, Any]:
        near = nearest(store, step_of(rank, alpha))
        assert near is not None
        return near.payload.config

    assert found(4, 5) == step_of(4, 8).config  # one difference from two of them; the newer
    assert found(8, 5) == step_of(8, 4).config
    assert found(1, 1) == step_of(9, 9).config  # as far from all; the newest
    assert nearest(store, payload(step="evaluate")) is None


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = write_pair(tmp_path_factory.mktemp("home"))
    run_direct(pair_settings(folder, folder / "store"), Stage.LORA)
    (folder / "tiny.yaml").write_text(yaml.safe_dump(pair_settings(folder, folder / "store")))
    return folder


def transfer(home: Path, *options: str) -> str:
    command = ["transfer", str(home / "tiny.yaml"), "--plan", *options]
    result = CliRunner().invoke(app, command, catch_exceptions=False)
    assert result.exit_code == 0, result.output
    return result.stdout


def why(home: Path, *options: str) -> dict[str, Any]:
    plan = json.loads(transfer(home, "--json", "--explain", *options))
    return {step["name"]: step["why"] for step in plan["steps"] if step["why"]}


def test_a_changed_setting_is_named(home: Path) -> None:
    found = why(home, "--until", "lora", "--set", "lora.rank=2")
    assert set(found) == {"lora", "plain lora"}
    for miss in found.values():
        assert miss["differences"] == [{"field": "config.rank", "planned": 2, "stored": 4}]
    text = transfer(home, "--explain", "--until", "lora", "--set", "lora.rank=2")
    assert "config.rank: 2 planned, 4 stored" in text


def test_steps_never_run_and_steps_that_wait_say_so(home: Path) -> None:
    found = why(home)
    assert "no result of the step finetune" in found["finetune plain"]["reason"]
    assert "not known before" in found["evaluate plain"]["reason"]
    assert "align" not in found


def test_another_model_is_followed_to_its_files(home: Path) -> None:
    other = f"student.model={home / 'other'}"
    text = transfer(home, "--explain", "--until", "align", "--set", other)
    align = text.partition("\nalign\n")[2]
    assert "inputs.student.architecture.json" in align
    assert "made by acquire-model" in align
    assert "inputs.files" in align


def test_without_explain_the_plan_is_as_it_was(home: Path) -> None:
    plan = json.loads(transfer(home, "--json", "--until", "lora"))
    assert all("why" not in step for step in plan["steps"])
    assert {step["status"] for step in plan["steps"]} == {"cached"}
    assert {step["drift"] for step in plan["steps"]} == {None}


def test_a_run_of_hits_needs_no_server(home: Path) -> None:
    command = ["transfer", str(home / "tiny.yaml"), "--until", "lora", "--json"]
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):  # nobody is there
        result = CliRunner().invoke(app, command, catch_exceptions=False)
        other = CliRunner().invoke(app, [*command, "--set", "lora.rank=2"])
    assert result.exit_code == 0, result.output
    assert "Prefect will not show it" in result.stderr
    assert {step["status"] for step in json.loads(result.stdout)["steps"]} == {"cached"}
    assert isinstance(other.exception, ServerError)
