"""Runs that the server calls Running, and that nothing carries on."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from flows.doctor.finding import Finding, State
from flows.doctor.prefect_server import Site, read_site

TOPIC: Final = "prefect runs"
MOST: Final = 200
"""Runs that are looked at; a server's answers have no more."""
_SILENCE: Final = timedelta(minutes=10)
"""Three of Prefect's usual beats (180 s), for runs whose deployment sets no shorter one."""
_SHOWN: Final = 5
_SECONDS: Final = 5.0
_BEAT: Final = "prefect.flow-run.heartbeat"
_RUNNING: Final = {
    "flow_runs": {"state": {"type": {"any_": ["RUNNING", "CANCELLING"]}}},
    "limit": MOST,
}


def check_runs(now: datetime | None = None) -> Iterator[Finding]:
    """Look for runs whose heartbeat has stopped: their process, or its machine, is gone.

    Nothing is said where no server is set, or where it does not answer; another check does that.

    Args:
        now: the time that silence is measured to; by default the present.
    """
    site = read_site()
    if not site.api:
        return
    running = _answer(site, "flow_runs/filter", _RUNNING)
    if not isinstance(running, list):
        return
    moment, silent, unknown = now or datetime.now(UTC), [], 0
    for run in running:
        beat = _last_beat(site, str(run["id"]))
        if beat is None:
            unknown += 1
        elif moment - beat > _SILENCE:
            silent.append(f"{run['name']} (silent since {beat:%Y-%m-%d %H:%M} UTC)")
    if silent:
        more = f" and {len(silent) - _SHOWN} more" if len(silent) > _SHOWN else ""
        said = f"Running, and nothing carries them on: {', '.join(silent[:_SHOWN])}{more}"
        advice = "set them to Crashed in the UI; `paraknow init-server` makes an automation for it"
        yield Finding(TOPIC, State.WARNING, said, advice)
        return
    said = f"{len(running) - unknown} running, each with a heartbeat"
    if unknown:
        said += f"; {unknown} without any, of which nothing can be said"
    yield Finding(TOPIC, State.OK, said)


def _last_beat(site: Site, run: str) -> datetime | None:
    """When a run was last heard of; None if it never sent a heartbeat."""
    wanted = {
        "filter": {
            "event": {"name": [_BEAT]},
            "resource": {"id": [f"prefect.flow-run.{run}"]},
            "occurred": {"since": (datetime.now(UTC) - timedelta(days=14)).isoformat()},
            "order": "DESC",
        },
        "limit": 1,
    }
    found = _answer(site, "events/filter", wanted)
    events = found.get("events", []) if isinstance(found, dict) else []
    return datetime.fromisoformat(events[0]["occurred"]) if events else None


def _answer(site: Site, path: str, body: dict[str, Any]) -> Any:
    """What the server says, None if it says nothing of use."""
    import httpx

    headers = {"Authorization": site.authorization} if site.authorization else {}
    try:
        answer = httpx.post(
            f"{site.api}/{path}", json=body, headers=headers, timeout=_SECONDS, trust_env=False
        )
        return answer.json() if answer.status_code == httpx.codes.OK else None
    except (httpx.HTTPError, httpx.InvalidURL, ValueError):
        return None
