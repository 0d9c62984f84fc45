"""Runs with settings of their own: what is sent, what is refused before, what a form offers."""

from typing import Any, NamedTuple
from uuid import UUID

import httpx
import pytest
import typer
import yaml
from prefect.client.schemas.objects import State
from prefect.states import Cancelled, Completed, Failed
from prefect.utilities.callables import parameter_schema
from prefect.utilities.schema_tools.validation import validate
from support.site import PROJECT

from flows.cli.submit import submit_command
from flows.compare import compare
from flows.config.compare import CompareConfig
from flows.config.load import read_overrides, with_overrides
from flows.config.quick import QuickConfig
from flows.operation.submit import Submitted, settings_sent
from flows.quick import quick
from flows.server.server_settings import ServerError
from flows.transfer import transfer
from paraknow_core.errors import ConfigError

FILE = yaml.safe_load((PROJECT / "deployments.yaml").read_text())["deployments"]
DEPLOYED = {found["name"]: found["parameters"] for found in FILE if "parameters" in found}


def checked(name: str, flow: str, *overrides: str) -> dict[str, Any]:
    return settings_sent(f"{flow}/{name}", DEPLOYED[name], read_overrides(overrides))


def test_what_is_sent_is_the_deployments_with_what_is_set_otherwise() -> None:
    sent = checked("demo", "transfer", "lora.rank=4", "finetune.seed=1")
    assert sent["lora"] == {"rank": 4, "alpha": 8}
    assert sent["finetune"] == DEPLOYED["demo"]["config"]["finetune"] | {"seed": 1}
    assert sent.keys() == DEPLOYED["demo"]["config"].keys()
    assert DEPLOYED["demo"]["config"]["lora"]["rank"] == 8
    nightly = checked("nightly", "compare", "settings.lora.rank=4", "seeds=[0,1,2,3,4]")
    assert nightly["settings"]["lora"]["rank"] == 4
    assert nightly["seeds"] == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("name", "flow", "given", "told"),
    [
        ("demo", "transfer", "lora.rnak=4", "rank"),
        ("demo", "transfer", "lora.rank=64", "max_rank"),
        ("demo", "transfer", "name.first=1", "'name' is a value"),
        ("nightly", "compare", "settings.finetune.epoch=1", "epochs"),
        ("quick", "quick", "rank=0", "rank"),
        ("demo", "prefect-housekeeping", "rank=0", "of no flow that has settings here"),
    ],
)
def test_settings_that_cannot_be_are_refused_before_anything_is_submitted(
    name: str, flow: str, given: str, told: str
) -> None:
    with pytest.raises(ConfigError, match=told):
        checked(name, flow, given)


def test_a_flow_takes_overrides_as_the_command_does() -> None:
    config = CompareConfig.model_validate(DEPLOYED["nightly"]["config"])
    changed = with_overrides(config, {"settings.lora.rank": 4, "slots": {"cpu": 1}})
    assert changed.settings["lora"] == {"rank": 4, "alpha": 8}
    assert changed.slots.cpu == 1
    assert with_overrides(config, None) is config
    with pytest.raises(ConfigError, match="seeds"):
        with_overrides(config, {"seeds": [0]})


def test_a_few_settings_stand_for_a_whole_pair() -> None:
    hub = QuickConfig.model_validate(DEPLOYED["quick"]["config"]).transfer()
    assert (hub.data.rows.hub, hub.data.rows.subset) == ("openai/gsm8k", "main")
    given = {"teacher": "a", "student": "b", "rows": "x/rows.jsonl", "rank": 64, "seed": 3}
    file = QuickConfig.model_validate(given).transfer()
    assert file.data.rows.path == "x/rows.jsonl"
    assert (file.lora.rank, file.decompose.max_rank, file.finetune.seed) == (64, 64, 3)


def test_a_server_refuses_what_the_form_s_schema_can_tell() -> None:
    """Names that are no choice, and settings of steps that are none, are refused at submission."""

    def faults(flow: Any, config: dict[str, Any], name: str) -> list[Any]:
        schema = parameter_schema(flow).model_dump()
        changed = {**DEPLOYED[name]["config"], **config}
        return list(validate({"config": changed}, schema, raise_on_error=False))

    assert not faults(compare, {}, "nightly")
    assert faults(compare, {"settings": {"finetune": {"epoch": 1}}}, "nightly")
    assert faults(compare, {"settings": {"extract": {"structure": "submatrx"}}}, "nightly")
    assert faults(compare, {"methods": [{"name": "mine", "method": "transfr"}]}, "nightly")
    assert faults(compare, {"settings": {"evaluate": {"primary": "accuracy"}}}, "nightly")
    assert not faults(transfer, {}, "demo")
    assert faults(transfer, {"align": {"strategy": "lowest"}}, "demo")
    assert faults(transfer, {"arms": ["plain", "transfr"]}, "demo")
    assert faults(transfer, {"evaluate": {"match": "nearly"}}, "demo")
    assert not faults(quick, {}, "quick")
    assert faults(quick, {"rank": "many"}, "quick")


class Ended(NamedTuple):
    """A flow run that has ended, as `--watch` sees it."""

    state: State[Any]

    @property
    def state_name(self) -> str:
        return str(self.state.name)


@pytest.mark.parametrize(
    ("state", "code", "said"),
    [
        (Completed(), 0, "Completed"),
        (Failed(name="SomeFailed", message="3 of 10 results failed"), 1, "SomeFailed: 3 of 10"),
        (Cancelled(), 1, "Cancelled"),
    ],
)
def test_watching_tells_how_it_ended_and_only_success_is_success(
    state: State[Any],
    code: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    async def ended(_run: UUID, *, timeout: float | None) -> Ended:
        return Ended(state)

    monkeypatch.setattr("prefect.flow_runs.wait_for_flow_run", ended)
    assert watched(monkeypatch) == code
    assert said in capsys.readouterr().out


def test_a_server_that_goes_away_while_it_is_watched_is_one_sentence(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def gone(_run: UUID, *, timeout: float | None) -> Ended:
        raise httpx.ConnectError("all connection attempts failed")

    monkeypatch.setattr("prefect.flow_runs.wait_for_flow_run", gone)
    with pytest.raises(
        ServerError, match=r"no longer answers \(ConnectError\)\. The run .* goes on"
    ):
        watched(monkeypatch)


def watched(monkeypatch: pytest.MonkeyPatch) -> int:
    """Exit code of `paraknow submit --watch`, without a server."""
    monkeypatch.setattr("flows.cli.submit.server_is_set", lambda: True)
    monkeypatch.setattr("flows.cli.submit.server_problem", lambda: "")
    sent = Submitted(UUID(int=1), "mine")
    monkeypatch.setattr("flows.operation.submit.submit", lambda *_, **__: sent)
    try:
        submit_command(deployment="compare/nightly", watch=True)
    except typer.Exit as exit_:
        return exit_.exit_code
    return 0
