"""Work pool, its queue for short runs, global concurrency limits, and variables."""

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

POOL: Final = "paraknow"
SHORT: Final = "short"
"""The queue of short runs; a worker takes them first."""


def set_up_pool(client: "SyncPrefectClient") -> str:
    """Make the work pool, and say what came of it."""
    from prefect.client.schemas.actions import WorkPoolCreate
    from prefect.exceptions import ObjectNotFound

    try:
        pool = client.read_work_pool(POOL)
    except ObjectNotFound:
        client.create_work_pool(WorkPoolCreate(name=POOL, type="process"))
        return f"pool {POOL}: made"
    limit = "no limit" if pool.concurrency_limit is None else f"limit {pool.concurrency_limit}"
    return f"pool {POOL}: kept as it is ({limit})"


def set_up_queue(client: "SyncPrefectClient") -> str:
    """Make the queue for short runs, and say what came of it."""
    pool = {"work_pool_name": POOL}
    found = client.request("POST", "/work_pools/{work_pool_name}/queues/filter", path_params=pool)
    if any(queue["name"] == SHORT for queue in found.json()):
        return f"queue {SHORT}: kept as it is"
    client.request(
        "POST",
        "/work_pools/{work_pool_name}/queues",
        path_params=pool,
        json={"name": SHORT, "priority": 1, "description": "Runs of minutes; taken first."},
    )
    return f"queue {SHORT}: made"


def set_up_limits(client: "SyncPrefectClient", limits: Mapping[str, int]) -> Iterator[str]:
    """Make global concurrency limits; yields a line on each.

    Args:
        client: of the server.
        limits: name → how many at once.
    """
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectNotFound

    for name, wanted in limits.items():
        try:
            there = client.read_global_concurrency_limit_by_name(name)
        except ObjectNotFound:
            client.create_global_concurrency_limit(
                GlobalConcurrencyLimitCreate(name=name, limit=wanted)
            )
            yield f"limit {name}: made ({wanted})"
            continue
        yield f"limit {name}: kept as it is ({_of(there.limit, wanted)})"


def set_up_variables(client: "SyncPrefectClient", variables: Mapping[str, str]) -> Iterator[str]:
    """Make variables; yields a line on each.

    Args:
        client: of the server.
        variables: name → value.
    """
    from prefect.client.schemas.actions import VariableCreate

    for name, wanted in variables.items():
        there = client.read_variable_by_name(name)
        if there is None:
            client.create_variable(VariableCreate(name=name, value=wanted))
            yield f"variable {name}: made ({wanted})"
        else:
            yield f"variable {name}: kept as it is ({_of(there.value, wanted)})"


def _of(there: object, wanted: object) -> str:
    return str(there) if there == wanted else f"{there}; the file has {wanted}"
