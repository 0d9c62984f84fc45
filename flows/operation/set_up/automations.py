"""Automations: runs that nothing carries on, scheduled runs that failed, verdicts that changed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Final

from flows.results.verdict_events import VERDICT_CHANGED
from paraknow_core.errors import ConfigError

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient
    from prefect.events.actions import ActionTypes
    from prefect.events.schemas.automations import AutomationCore

ZOMBIES: Final = "paraknow: a run without heartbeat is Crashed"
FAILED_SCHEDULE: Final = "paraknow: a scheduled run failed"
CHANGED_VERDICT: Final = "paraknow: a verdict changed"
SILENCE: Final = timedelta(seconds=90)
"""Three beats (PREFECT_FLOWS_HEARTBEAT_FREQUENCY=30 in deployments.yaml)."""
_BEAT: Final = "prefect.flow-run.heartbeat"
_ENDS: Final = ("Completed", "Failed", "SomeFailed", "Cancelled", "Crashed")
_BAD_ENDS: Final = ("Failed", "SomeFailed", "Crashed", "TimedOut")

Notify = Callable[[str, str], "ActionTypes"]
"""Makes an action of a subject and a text, which may hold Prefect's Jinja."""


def set_up_automations(client: "SyncPrefectClient", block: str) -> Iterator[str]:
    """Make automations; yields a line on each.

    Args:
        client: of the server.
        block: that is notified, TYPE/NAME; "": none.

    Raises:
        ConfigError: if there is no such block.
    """
    notify = _notifier(client, block)
    wanted = {"automations": {"name": {"any_": list(AUTOMATIONS)}}}
    found = client.request("POST", "/automations/filter", json=wanted).json()
    there = {made["name"]: made for made in found}
    for name, build in AUTOMATIONS.items():
        automation = build(name, notify)
        if name not in there:
            body = automation.model_dump(mode="json")
            client.request("POST", "/automations/", json=body)
            yield f"automation “{name}”: made"
        elif block and _does_nothing(there[name]["actions"]):
            body = automation.model_dump(mode="json", exclude={"owner_resource"})
            body |= {"enabled": there[name]["enabled"]}
            place = {"id": there[name]["id"]}
            client.request("PUT", "/automations/{id}", path_params=place, json=body)
            yield f"automation “{name}”: notifies {block} now"
        else:
            state = "on" if there[name]["enabled"] else "switched off"
            yield f"automation “{name}”: kept as it is ({state})"


def _does_nothing(actions: Sequence[Mapping[str, Any]]) -> bool:
    return all(action["type"] == "do-nothing" for action in actions)


def _notifier(client: "SyncPrefectClient", block: str) -> Notify:
    from prefect.events.actions import DoNothing, SendNotification
    from prefect.exceptions import ObjectNotFound

    if not block:
        return lambda _subject, _body: DoNothing()  # the automation's own events tell
    kind, _, name = block.partition("/")
    try:
        found = client.read_block_document_by_name(name, kind)
    except ObjectNotFound:
        raise ConfigError(
            f"server.notify: this server has no block {block}. Make it in the UI under Blocks, or "
            "with `prefect block create`, or leave notify out"
        ) from None
    block_id = found.id

    def notification(subject: str, body: str) -> "ActionTypes":
        return SendNotification(block_document_id=block_id, subject=subject, body=body)

    return notification


def _zombies(name: str, _notify: Notify) -> "AutomationCore":
    from prefect.events.actions import ChangeFlowRunState
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=name,
        description="A run whose machine died says nothing more. See docs/operations.md.",
        trigger=EventTrigger(
            after={_BEAT},
            expect={_BEAT, *(f"prefect.flow-run.{end}" for end in _ENDS)},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            threshold=1,
            within=SILENCE,
        ),
        actions=[
            ChangeFlowRunState(
                state="CRASHED",
                message=f"no heartbeat for {SILENCE.total_seconds():.0f} s: its process is gone",
            )
        ],
    )


def _failed_schedule(name: str, notify: Notify) -> "AutomationCore":
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=name,
        description="A run that a schedule started has no result, or lacks some.",
        trigger=EventTrigger(
            expect={f"prefect.flow-run.{end}" for end in _BAD_ENDS},
            match={"prefect.resource.id": ["prefect.flow-run.*"]},
            match_related={
                "prefect.resource.role": ["tag"],
                "prefect.resource.id": ["prefect.tag.auto-scheduled"],
            },
            posture=Posture.Reactive,
            threshold=1,
            within=timedelta(0),
        ),
        actions=[
            notify(
                "{{ deployment.name }}: {{ flow_run.state.name }}",
                "{{ flow_run.name }}: {{ flow_run.state.message }}\n{{ flow_run | ui_url }}",
            )
        ],
    )


def _changed_verdict(name: str, notify: Notify) -> "AutomationCore":
    from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture

    return AutomationCore(
        name=name,
        description="A comparison says something else of a pair than its last run did.",
        trigger=EventTrigger(
            expect={VERDICT_CHANGED}, posture=Posture.Reactive, threshold=1, within=timedelta(0)
        ),
        actions=[
            notify(
                "{{ event.payload.comparison }}: the verdict on {{ event.payload.cell }} changed",
                "Now: {{ event.payload.now }}\nBefore: {{ event.payload.before }}",
            )
        ],
    )


AUTOMATIONS: Final[Mapping[str, Callable[[str, Notify], "AutomationCore"]]] = MappingProxyType(
    {ZOMBIES: _zombies, FAILED_SCHEDULE: _failed_schedule, CHANGED_VERDICT: _changed_verdict}
)
