"""Which backend a URL names."""

from collections.abc import Callable
from typing import Final
from urllib.parse import urlsplit

from artifacts.errors import RemoteError
from artifacts.remote.backend import Backend


def _object_store(url: str) -> Backend:
    from artifacts.remote.object_store import ObjectStoreBackend  # an optional extra

    return ObjectStoreBackend(url)


BACKENDS: Final[dict[str, Callable[[str], Backend]]] = {
    "s3": _object_store,
    "s3a": _object_store,
    "gs": _object_store,
    "az": _object_store,
    "abfs": _object_store,
    "abfss": _object_store,
    "file": _object_store,
}
"""The scheme of a URL -> what opens the backend that such URLs name."""


def open_backend(url: str) -> Backend:
    """Open the backend that a URL names; nothing is asked of it yet.

    Raises:
        RemoteError: if the URL is none, or its scheme is not known here.
    """
    parts = urlsplit(url)
    # In abfss://container@account/… the container stands where others have a user's name.
    if parts.password or (parts.username and not parts.scheme.startswith("abfs")):
        raise RemoteError(
            "the URL of the shared tier holds a user name or password. Take it out: credentials "
            "come from the environment (AWS_ACCESS_KEY_ID …), and a URL is shown in messages"
        )
    if parts.scheme not in BACKENDS:
        raise RemoteError(
            f"the shared tier {url!r} (run.remote) is not understood: give a URL such as "
            f"s3://bucket/folder, with one of the schemes {', '.join(sorted(BACKENDS))}"
        )
    return BACKENDS[parts.scheme](url)
