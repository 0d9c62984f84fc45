"""A comparison by runs of a deployment: what is refused, submitted, followed and started again."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from prefect.client.schemas.objects import FlowRun, State, StateType
from prefect.exceptions import ObjectNotFound

from flows.cells import cells_of
from flows.config.compare import CompareConfig
from flows.fan_out import deployment, fan_out, runs
from flows.fan_out.runs import ChildRuns
from flows.fan_out.units import StoredUnit, Unit, units_of
from flows.graph.arm import ArmOutcome, SeedRun
from flows.graph.cell import CellOutcome
from flows.graph.stored import StoredCell
from flows.server.server_settings import ServerError
from paraknow_core.errors import ConfigError
from tasks.engine.workers import WorkersClosedError

MODEL = {"model": "somewhere"}


def config_of(**changed: Any) -> CompareConfig:
    pairs = [{"name": name, "teacher": MODEL, "student": MODEL} for name in ("big", "small")]
    whole = {
        "pairs": pairs,
        "tasks": [{"name": "words"}, {"name": "sums"}],
        "run": {"device": "cpu"},
        "fan_out": {"deployment": "compare-cells/cells"},
    }
    return CompareConfig.model_validate(whole | changed)


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"slots": {"gpus": ["0"]}}, "the GPU of its worker; leave slots.gpus empty"),
        ({"run": {}}, r"needs run\.device: cpu or cuda"),
        ({"fan_out": {"in_flight": 0}}, "greater than or equal to 1"),
        ({"fan_out": {"attempts": 0}}, "greater than or equal to 1"),
        ({"fan_out": {"deployment": "cells"}}, "fan_out.deployment"),
        ({"fan_out": {"by": "seed"}}, "'cell' or 'pair'"),
    ],
)
def test_settings_that_cannot_work_are_refused(changed: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        config_of(**changed)


def test_without_a_deployment_slots_and_device_are_as_before() -> None:
    config = config_of(fan_out={}, slots={"gpus": ["0"]}, run={})
    assert config.fan_out.deployment == ""


def test_a_run_is_a_cell_or_a_pair_with_all_its_tasks() -> None:
    by_cell = units_of(config_of())
    assert [unit.name for unit in by_cell] == [
        "big on words",
        "big on sums",
        "small on words",
        "small on sums",
    ]
    fields = {"deployment": "compare-cells/cells", "by": "pair"}
    by_pair = units_of(config_of(fan_out=fields))
    assert [(u.name, len(u.tasks)) for u in by_pair] == [("big", 2), ("small", 2)]
    assert len({unit.key for unit in (*by_cell, *by_pair)}) == 6


def test_a_units_key_is_made_of_what_is_computed_and_of_nothing_else() -> None:
    key = units_of(config_of())[0].key
    same = [
        {"fan_out": {"deployment": "compare-cells/cells", "in_flight": 9, "attempts": 7}},
        {"budget": {"hours": 5}},
        {"name": "other"},
        {"slots": {"cpu": 3}},
    ]
    assert {units_of(config_of(**changed))[0].key for changed in same} == {key}
    other = [{"seeds": list(range(9))}, {"run": {"device": "cpu", "store": "/elsewhere"}}]
    assert key not in {units_of(config_of(**changed))[0].key for changed in other}


def test_cells_are_found_by_their_names() -> None:
    config = config_of()
    assert [task.name for _pair, task in cells_of(config, "small")] == ["words", "sums"]
    assert len(cells_of(config, "small", "sums")) == 1
    with pytest.raises(ConfigError, match="has no small on verse; it has big on words"):
        cells_of(config, "small", "verse")


def test_without_a_server_one_sentence_says_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deployment, "server_is_set", lambda: False)
    with pytest.raises(ServerError, match=r"no server is set: set PREFECT_API_URL"):
        deployment.check_deployment("compare-cells/cells")


class Server:
    """What this code asks of Prefect's server."""

    def __init__(self) -> None:
        self.runs: dict[UUID, FlowRun] = {}
        self.away = 0
        self.cancelled: list[UUID] = []
        self.course: list[StateType] = []
        """The states of new runs at their first look."""

    def submit(self, _name: str, **given: Any) -> FlowRun:
        known = [r for r in self.runs.values() if r.idempotency_key == given["idempotency_key"]]
        if known:
            return known[0]
        run = FlowRun(
            id=uuid4(),
            name=given["flow_run_name"],
            flow_id=uuid4(),
            tags=given["tags"],
            idempotency_key=given["idempotency_key"],
            state=State(type=StateType.SCHEDULED),
        )
        self.runs[run.id] = run
        return run

    def read_flow_runs(self, **_wanted: Any) -> list[FlowRun]:
        self._answer()
        return list(self.runs.values())

    def read_flow_run(self, run: UUID) -> FlowRun:
        self._answer()
        if run not in self.runs:
            raise ObjectNotFound(Exception())
        found = self.runs[run]
        if self.course and found.state and not found.state.is_final():
            state = State(type=self.course.pop(0), message="as the test wants")
            found = self.runs[run] = found.model_copy(update={"state": state})
        return found

    def set_flow_run_state(self, run: UUID, state: State[Any]) -> None:
        self._answer()
        self.cancelled.append(run)
        self.runs[run] = self.runs[run].model_copy(update={"state": state})

    def _answer(self) -> None:
        if self.away:
            self.away -= 1
            raise httpx.ConnectError("nobody listens")


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Server:
    server = Server()

    @contextmanager
    def client(**_settings: Any) -> Iterator[Server]:
        yield server

    monkeypatch.setattr(runs, "get_client", client)
    monkeypatch.setattr(runs, "run_deployment", server.submit)
    monkeypatch.setattr(runs, "ASK_SECONDS", 0.001)
    return server


UNIT = units_of(config_of())[0]


def test_a_run_is_followed_while_the_server_is_away(server: Server) -> None:
    server.away = 5
    server.course = [StateType.RUNNING, StateType.RUNNING, StateType.COMPLETED]
    ended = ChildRuns("compare-cells/cells").run(UNIT, {})
    assert (ended.name, ended.idempotency_key) == ("big on words", f"{UNIT.key}-1")
    assert {"fan-out", "pair big", "task words"} <= set(ended.tags)


def test_a_server_that_stays_away_ends_it(server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "SERVER_PATIENCE", 0.0)
    server.away = 1000
    with pytest.raises(ServerError, match="when the server is back, run this comparison again"):
        ChildRuns("compare-cells/cells").run(UNIT, {})


def test_a_new_attempt_has_a_key_and_a_name_of_its_own(server: Server) -> None:
    server.course = [StateType.CRASHED, StateType.COMPLETED]
    children = ChildRuns("compare-cells/cells")
    assert children.run(UNIT, {}).name == "big on words"
    second = children.run(UNIT, {})
    assert (second.name, second.idempotency_key) == ("big on words, attempt 2", f"{UNIT.key}-2")


def test_a_run_that_a_killed_comparison_submitted_is_followed(server: Server) -> None:
    known = server.submit("", flow_run_name="earlier", tags=[], idempotency_key=f"{UNIT.key}-4")
    server.course = [StateType.COMPLETED]
    assert ChildRuns("compare-cells/cells").run(UNIT, {}).id == known.id
    assert len(server.runs) == 1


def test_a_run_that_is_being_cancelled_is_not_the_comparisons(server: Server) -> None:
    earlier = server.submit("", flow_run_name="earlier", tags=[], idempotency_key=f"{UNIT.key}-1")
    leaving = earlier.model_copy(update={"state": State(type=StateType.CANCELLING)})
    server.runs[earlier.id] = leaving
    server.course = [StateType.CANCELLED, StateType.COMPLETED]
    ended = ChildRuns("compare-cells/cells").run(UNIT, {})
    assert ended.idempotency_key == f"{UNIT.key}-2"


def test_cancelling_reaches_what_is_under_way_and_ends_the_waiting(server: Server) -> None:
    children, ended = ChildRuns("compare-cells/cells"), []

    def follow() -> None:
        with pytest.raises(WorkersClosedError):
            children.run(UNIT, {})
        ended.append(True)

    thread = threading.Thread(target=follow)
    thread.start()
    while not server.runs:
        pass
    (run,) = server.runs
    children.cancel()
    thread.join(60)
    assert ended == [True]
    assert set(server.cancelled) == {run}


class Store:
    """What look-ups find: results are there once a run has ended well, if it is shared."""

    def __init__(self, *, shared: bool = True) -> None:
        self.there: set[str] = set()
        self.shared = shared

    def look_up(
        self, config: CompareConfig, unit: Unit, *, why: str = "", **_given: Any
    ) -> StoredUnit:
        done = unit.key in self.there
        seeds = [SeedRun(seed, reason="" if done else why) for seed in config.seeds]
        arms = [ArmOutcome(arm.name, arm.start, runs=seeds) for arm in config.arms]
        cells = [CellOutcome(unit.pair, task, arms=arms) for task in unit.tasks]
        missing = {} if done else {"finetune": "abcdef0123456789"}
        return StoredUnit(unit, tuple(StoredCell(c, missing, frozenset()) for c in cells))


def states(*course: StateType) -> Callable[[Unit, Store], FlowRun]:
    left = list(course)

    def run(unit: Unit, store: Store) -> FlowRun:
        state = State(type=left.pop(0), message="said why")
        if state.type == StateType.COMPLETED and store.shared:
            store.there.add(unit.key)
        return FlowRun(id=uuid4(), name="a run", flow_id=uuid4(), state=state)

    return run


def fan(
    monkeypatch: pytest.MonkeyPatch,
    store: Store,
    run: Callable[[Unit, Store], FlowRun],
    tmp_path: Any,
) -> list[CellOutcome]:
    class Runs:
        def __init__(self, _deployment: str) -> None:
            pass

        def run(self, unit: Unit, parameters: dict[str, Any]) -> FlowRun:
            assert parameters["pair"] == "big"
            return run(unit, store)

        def cancel(self) -> None:
            pass

    monkeypatch.setattr(fan_out, "look_up", store.look_up)
    monkeypatch.setattr(fan_out, "check_deployment", lambda _name: None)
    monkeypatch.setattr(fan_out, "ChildRuns", Runs)
    one = config_of().model_dump(exclude_unset=True)
    config = CompareConfig.model_validate(
        one
        | {"pairs": one["pairs"][:1], "tasks": one["tasks"][:1]}
        | {"run": {"device": "cpu", "store": str(tmp_path)}}
    )
    return fan_out.fanned_out(config)


def test_a_lost_run_is_started_again(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    run = states(StateType.CRASHED, StateType.COMPLETED)
    (outcome,) = fan(monkeypatch, Store(), run, tmp_path)
    assert outcome.first_reason == ""


def test_after_the_last_attempt_it_is_a_failing_cell(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    run = states(StateType.CRASHED, StateType.FAILED)
    (outcome,) = fan(monkeypatch, Store(), run, tmp_path)
    assert outcome.first_reason == "not computed: run 'a run' ended Failed: said why"


def test_a_cancelled_run_is_not_started_again(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    (outcome,) = fan(monkeypatch, Store(), states(StateType.CANCELLED), tmp_path)
    assert "ended Cancelled" in outcome.first_reason


def test_results_that_are_not_to_be_found_here_are_told_with_what_to_set(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    run = states(StateType.COMPLETED)
    with pytest.raises(fan_out.ResultsElsewhereError, match=r"same PARAKNOW_REMOTE \(here: none\)"):
        fan(monkeypatch, Store(shared=False), run, tmp_path)


def test_what_is_all_stored_asks_no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    class Full(Store):
        def look_up(self, config: CompareConfig, unit: Unit, **given: Any) -> StoredUnit:
            self.there.add(unit.key)
            return super().look_up(config, unit, **given)

    assert [o.first_reason for o in fan(monkeypatch, Full(), states(), tmp_path)] == [""]
