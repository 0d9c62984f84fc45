"""Runs whose worker was stopped: the server is told of all of them, down to their tasks."""

import pytest
from prefect import flow, task
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import WorkPoolCreate
from prefect.states import Running

from flows.operation.set_up.pool import POOL
from flows.site.runs import mark_ended, runs_under_way

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]


@flow(name="whole")
def whole() -> None:
    """Never called."""


@flow(name="part")
def part() -> None:
    """Never called."""


@task(name="work")
def work() -> None:
    """Never called."""


def test_runs_their_parts_and_tasks_are_marked_and_others_are_not() -> None:
    with get_client(sync_client=True) as client:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"), overwrite=True)
        ours = client.create_flow_run(whole, name="ours", work_pool_name=POOL, state=Running())
        other = client.create_flow_run(whole, name="other", state=Running())
        dummy = client.create_task_run(work, ours.id, dynamic_key="part", state=Running())
        below = client.create_flow_run(
            part, name="below", parent_task_run_id=dummy.id, state=Running()
        )
        inside = client.create_task_run(work, below.id, dynamic_key="0", state=Running())

        found = runs_under_way()
        assert [run.name for run in found] == ["ours"]
        mark_ended(found)

        ended = [client.read_flow_run(run.id).state_type for run in (ours, below)]
        ended += [client.read_task_run(run.id).state_type for run in (dummy, inside)]
        assert [str(state.value) for state in ended if state] == ["CRASHED"] * 4
        assert "submit the run again" in str(client.read_flow_run(ours.id).state.message)  # type: ignore[union-attr]
        assert client.read_flow_run(other.id).state_type.value == "RUNNING"  # type: ignore[union-attr]
        assert runs_under_way() == []
        client.delete_flow_run(other.id)
