"""What a person sees of runs: the arrows of the graph, states, names and tags."""

from pathlib import Path
from typing import Any

import pytest
from prefect.client.orchestration import get_client
from prefect.client.schemas.filters import FlowRunFilter, FlowRunFilterParentFlowRunId
from prefect.client.schemas.objects import FlowRun, State, StateType, TaskRun
from support.pair import pair_settings
from support.patience import wait_until

from flows.compare import compare, finished
from flows.config.compare import CompareConfig
from flows.config.transfer import TransferConfig
from flows.transfer import transfer

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

PARENTS = {
    "teacher": set(),
    "student": set(),
    "data": set(),
    "sensitivity": {"teacher", "data"},
    "align": {"teacher", "student", "sensitivity"},
    "extract": {"teacher", "student", "sensitivity", "align"},
    "decompose": {"teacher", "student", "extract"},
    "lora": {"student", "decompose"},
    "plain lora": {"student"},
}


def tasks_of(state: State[Any], count: int) -> dict[str, TaskRun]:
    """Name → task run; the server writes them down a moment after the flow ends."""
    run = state.state_details.flow_run_id
    assert run is not None

    def all_there() -> list[TaskRun]:
        with get_client(sync_client=True) as client:
            found = client.read_task_runs(
                flow_run_filter=FlowRunFilter.model_validate({"id": {"any_": [run]}}), limit=200
            )
        return found if len(found) >= count else []

    return {task.name: task for task in wait_until(f"{count} tasks", all_there, every=0.2)}


def flow_run_of(state: State[Any]) -> FlowRun:
    run = state.state_details.flow_run_id
    assert run is not None
    with get_client(sync_client=True) as client:
        return client.read_flow_run(run)


def below(state: State[Any]) -> list[FlowRun]:
    parent = FlowRunFilterParentFlowRunId.model_validate(
        {"any_": [state.state_details.flow_run_id]}
    )
    with get_client(sync_client=True) as client:
        return client.read_flow_runs(flow_run_filter=FlowRunFilter(parent_flow_run_id=parent))


@pytest.fixture(scope="module")
def settings(pair: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return pair_settings(pair, tmp_path_factory.mktemp("store"))


def test_the_arrows_of_the_graph_are_the_inputs(settings: dict[str, Any]) -> None:
    config = TransferConfig.model_validate(settings)
    state = transfer(config, until="lora", return_state=True)
    tasks = tasks_of(state, len(PARENTS))
    names = {task.id: task.name for task in tasks.values()}
    found = {
        name: {names[one.id] for given in task.task_inputs.values() for one in given}
        for name, task in tasks.items()
    }
    assert found == PARENTS


def comparison(settings: dict[str, Any], **other: Any) -> dict[str, Any]:
    shared = ("lora", "decompose", "finetune", "evaluate")
    model = {"teacher": settings["teacher"], "student": settings["student"]}
    return {
        "name": "tiny",
        "pairs": [{"name": "small", **model}],
        "tasks": [{"name": "words", "data": settings["data"]}],
        "methods": [{"name": "plain"}],
        "settings": {step: settings[step] for step in shared},
        "tuning": {"learning_rates": [1e-2], "seeds": []},
        "seeds": [0, 1, 2, 3, 4],
        "run": settings["run"],
    } | other


def test_a_pair_without_results_is_failed_and_the_comparison_is_not_green(
    settings: dict[str, Any], tmp_path: Path
) -> None:
    models = {"teacher": settings["teacher"], "student": settings["student"]}
    broken = {"teacher": settings["teacher"], "student": {"model": str(tmp_path / "nowhere")}}
    pairs = [{"name": "small", **models}, {"name": "broken", **broken}]
    config = CompareConfig.model_validate(comparison(settings, pairs=pairs))
    state = compare(config, return_state=True)
    assert (state.type, state.name) == (StateType.FAILED, "SomeFailed")
    assert "5 of 10 results failed" in str(state.message)
    result = finished(state)
    assert (result.results, result.failed) == (10, 5)
    pairs_run = {run.name: run for run in below(state)}
    assert pairs_run["small on words"].state_type == StateType.COMPLETED
    failed = pairs_run["broken on words"].state
    assert failed is not None
    assert (failed.type, failed.name) == (StateType.FAILED, "Failed")
    assert "5 of 5 results failed" in str(failed.message)
    assert "nowhere" in str(failed.message)
    assert {"pair small", "task words"} <= set(pairs_run["small on words"].tags)

    tasks = tasks_of(state, 1)
    report = tasks["report"]
    assert {one.input_type for given in report.task_inputs.values() for one in given} == set()
    inside = tasks_of(pairs_run["small on words"].state or state, 5)
    assert "method plain" in inside["finetune plain seed 0"].tags
