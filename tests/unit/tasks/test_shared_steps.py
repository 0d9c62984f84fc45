"""Two machines with stores of their own and one shared tier: what one computed, the other has."""

import json
import logging
from pathlib import Path
from typing import Any

import pytest
from support.direct import computed, run_direct
from support.memory_tier import Memory
from support.pair import pair_settings, write_pair
from typer.testing import CliRunner

from artifacts.remote.backends import BACKENDS
from flows.cli.main import app
from flows.config.transfer import TransferConfig
from flows.planning.transfer import make_plan
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.stage import Stage

UNTIL = Stage.SENSITIVITY


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture
def memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Memory:
    memory = Memory(f"memory:/{tmp_path}")
    monkeypatch.setitem(BACKENDS, "memory", lambda _url: memory)
    return memory


def settings(pair: Path, store: Path, remote: str) -> dict[str, Any]:
    found = pair_settings(pair, store)
    found["run"]["remote"] = remote
    return found


def content(refs: dict[str, Ref]) -> dict[str, tuple[str, str]]:
    return {label: (ref.key, ref.tree) for label, ref in refs.items()}


def test_the_second_machine_computes_nothing_and_its_plan_downloads_nothing(
    tmp_path: Path, pair: Path, memory: Memory
) -> None:
    first = run_direct(settings(pair, tmp_path / "a", memory.url), UNTIL)
    assert computed(first) == first.keys()

    memory.names.clear()
    there = settings(pair, tmp_path / "b", memory.url)
    plan = make_plan(TransferConfig.model_validate(there), UNTIL)
    assert {step.label: (step.status, step.remote) for step in plan.steps} == dict.fromkeys(
        first, ("cached", True)
    )
    assert plan.to_run == []
    assert plan.disk_bytes == sum(ref.size for ref in first.values())
    assert any(name.startswith("records/") for name in memory.names)
    assert [name for name in memory.names if name.startswith("objects/")] == []

    second = run_direct(there, UNTIL)
    assert computed(second) == set()
    assert content(second) == content(first)
    # Now all of it is here.
    memory.names.clear()
    plan = make_plan(TransferConfig.model_validate(there), UNTIL)
    assert [step.remote for step in plan.steps] == [False] * len(first)
    assert memory.names == []
    assert plan.all_cached

    memory.down = True
    assert content(run_direct(there, UNTIL)) == content(first)


def test_a_plan_says_what_is_a_remote_hit(tmp_path: Path, pair: Path, memory: Memory) -> None:
    run_direct(settings(pair, tmp_path / "a", memory.url), Stage.ACQUIRE)
    config = tmp_path / "config.yaml"
    config.write_text(json.dumps(settings(pair, tmp_path / "b", memory.url)))
    arguments = ["transfer", str(config), "--until", "sensitivity", "--plan"]
    said = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert said.exit_code == 0, said.output
    assert said.output.count("be a remote hit") == 3
    assert "Remote hits: 3" in said.output
    told = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert [step["remote"] for step in told["steps"]] == [True, True, True, False]
    memory.down = True
    said = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert "remote hit" not in said.stdout
    assert said.stderr.count("is not used for now: nobody answers.") == 1


def test_a_tier_that_is_down_costs_one_warning_and_nothing_else(
    tmp_path: Path, pair: Path, memory: Memory, caplog: pytest.LogCaptureFixture
) -> None:
    memory.down = True
    with caplog.at_level(logging.WARNING, "artifacts"):
        refs = run_direct(settings(pair, tmp_path / "a", memory.url), Stage.ACQUIRE)
    assert computed(refs) == refs.keys()
    assert memory.asked == 1
    assert caplog.text.count("is not used for now") == 1


def test_which_tier_a_run_uses(
    tmp_path: Path, memory: Memory, monkeypatch: pytest.MonkeyPatch
) -> None:
    def used(**given: str) -> str | None:
        tier = RunConfig(store=str(tmp_path / "a"), **given).open_store().tier
        return tier and tier.bucket.backend.url

    assert used() is None
    assert used(remote=memory.url) == memory.url
    monkeypatch.setenv("PARAKNOW_REMOTE", memory.url)
    assert used() == memory.url
    assert used(remote="none") is None
    monkeypatch.setenv("PARAKNOW_REMOTE", "ftp://nowhere")
    assert used(remote=memory.url) == memory.url
