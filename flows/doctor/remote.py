"""The tier that stores share: does it answer, do the credentials hold, what can it do."""

import time
from collections.abc import Iterator
from typing import Final

from artifacts.errors import RemoteDeniedError, RemoteError
from artifacts.remote.backends import open_backend
from artifacts.remote.bucket import Bucket
from artifacts.remote.probe import Capabilities
from artifacts.remote.tier import REMOTE_VARIABLE, remote_url
from flows.doctor.finding import Finding, State

_NOT_CONDITIONAL: Final = (
    "results stay right, but two machines that finish a step at the same moment may keep "
    "different ones"
)
_MUCH_SKEW: Final = 300.0
"""Seconds; services refuse what is signed by a clock that is off by 5 to 15 minutes."""


def check_remote() -> Iterator[Finding]:
    """Write a small file to the shared tier and take it away again; nothing if none is set."""
    url = remote_url()
    if not url:
        return
    try:
        bucket = Bucket(open_backend(url))
        bucket.check_format()
        found = bucket.capabilities
    except RemoteDeniedError as error:
        advice = "set valid credentials, as docs/store.md lists them"
        yield Finding("shared tier", State.FAILED, str(error), advice)
    except RemoteError as error:
        advice = f"runs go on with their own store; see to it, or unset {REMOTE_VARIABLE}"
        yield Finding("shared tier", State.WARNING, str(error), advice)
    else:
        yield Finding("shared tier", State.OK, f"{url} can be read and written")
        yield _abilities(found)
        yield _clock(found)


def _abilities(found: Capabilities) -> Finding:
    topic = "shared tier can"
    wanted = (
        (found.conditional, "put a file only where there is none", _NOT_CONDITIONAL),
        (found.ranges, "give a part of a file", "results with files larger than 8 MB stay misses"),
        (found.lists, "list a file as soon as it is there", "machines may not wait for each other"),
    )
    missing = [(what, so) for has, what, so in wanted if not has]
    if not missing:
        return Finding(topic, State.OK, "put only where nothing is, give parts, list at once")
    said = f"it cannot {' nor '.join(what for what, _so in missing)}"
    advice = f"{'; '.join(so for _what, so in missing)}. Choose a service that can"
    return Finding(topic, State.WARNING, said, advice)


def _clock(found: Capabilities) -> Finding:
    skew = found.clock.now() - time.time()
    said = f"its clock is {abs(skew):.0f} s {'ahead of' if skew > 0 else 'behind'} this machine's"
    if abs(skew) > _MUCH_SKEW:
        advice = "set this machine's clock (NTP): requests signed with a wrong time are refused"
        return Finding("shared tier clock", State.WARNING, said, advice)
    return Finding("shared tier clock", State.OK, said)
