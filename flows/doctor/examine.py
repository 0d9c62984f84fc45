"""Is this installation in order? Every check by itself, none of them changes anything.

A check that breaks is a failure of its own with the error's type; the message may quote a setting,
and settings hold secrets.
"""

from collections.abc import Callable, Iterable
from pathlib import Path

from artifacts.errors import StoreError
from flows.doctor.finding import Finding, State
from flows.doctor.idle_runs import check_runs
from flows.doctor.prefect_server import check_prefect
from flows.doctor.remote import check_remote
from flows.doctor.store import check_store
from flows.doctor.versions import check_torch, check_versions


def examine(root: Path) -> list[Finding]:
    """Check versions, torch, the store at ``root``, its disk, the shared tier, Prefect, its runs.

    Args:
        root: the store's folder; need not exist.
    """
    return [
        *_guarded("versions", check_versions),
        *_guarded("torch", check_torch),
        *_guarded("store", lambda: check_store(root)),
        *_guarded("shared tier", check_remote),
        *_guarded("prefect", check_prefect),
        *_guarded("prefect runs", check_runs),
    ]


def _guarded(topic: str, check: Callable[[], Iterable[Finding]]) -> list[Finding]:
    try:
        return list(check())
    except StoreError as error:
        return [Finding(topic, State.FAILED, str(error), "do what the message says")]
    except Exception as error:  # noqa: BLE001  a doctor has to survive every illness
        said = f"the check broke with {type(error).__name__}"
        return [Finding(topic, State.FAILED, said, "reinstall with the tested versions")]
