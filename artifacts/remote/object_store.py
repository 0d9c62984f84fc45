"""The backend for S3, Google Cloud Storage, Azure, and a shared folder: the library obstore.

Credentials, region and endpoint come from the environment, under the services' usual names.
"""

import contextlib
import os
import re
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from artifacts.errors import RemoteDeniedError, RemoteError
from artifacts.remote.backend import Entry, TransferPart

if TYPE_CHECKING:
    from obstore import ObjectMeta

PART: Final = 8 * 1024 * 1024
"""How much of a large file is sent or asked for at a time."""
TIMEOUT_VARIABLE: Final = "PARAKNOW_REMOTE_TIMEOUT"
_SECONDS: Final = 30.0
_ATTEMPTS: Final = 3
_UPLOADS_AT_ONCE: Final = 2
_NO_BUCKET: Final = re.compile("NoSuchBucket|ContainerNotFound|bucket does not exist")
_DENIED: Final = re.compile("ExpiredToken|InvalidAccessKeyId|SignatureDoesNotMatch|TooSkewed")
_BAD_RANGE: Final = re.compile("416 |InvalidRange|range")
_RETRIES: Final = re.compile(
    r" in [\d.]+\S*s(?=[ ,])|, max_retries: \d+|, retry_timeout: \S+ (?= )"
)
_QUERY: Final = re.compile(r"\?\S*")  # a signature may be in it


class ObjectStoreBackend:
    """What obstore reaches; each request is tried up to three times.

    Args:
        url: such as ``s3://bucket/folder`` or ``file:///mnt/shared``.
        seconds: for one request, which carries 8 MB at most; None: ``$PARAKNOW_REMOTE_TIMEOUT``,
            else 30.

    Raises:
        RemoteError: if obstore is not installed, or cannot make sense of the URL or environment.
    """

    def __init__(self, url: str, seconds: float | None = None) -> None:
        self._url = url
        try:
            import obstore
            from obstore.exceptions import BaseError
        except ImportError as error:
            raise RemoteError(
                f"the shared tier {url} needs the library obstore: pip install 'paraknow[remote]'"
            ) from error
        self._obstore, self._error = obstore, BaseError
        with self._asking(""):
            self._store: Any = self._open(_timeout() if seconds is None else seconds)

    @property
    def url(self) -> str:
        """Where it is."""
        return self._url

    def head(self, name: str) -> Entry | None:
        """Return size and age of what lies under a name."""
        with self._absent(), self._asking(name):
            return _entry(self._obstore.head(self._store, name))
        return None

    def get(self, name: str, start: int, stop: int) -> TransferPart | None:
        """Return some bytes of what lies under a name."""
        for _attempt in range(_ATTEMPTS - 1):
            with contextlib.suppress(_BodyError):
                return self._get(name, start, stop)
        return self._get(name, start, stop)

    def _get(self, name: str, start: int, stop: int) -> TransferPart | None:
        with self._absent():
            try:
                with self._asking(name):
                    found = self._obstore.get(self._store, name, options={"range": (start, stop)})
                    return TransferPart(bytes(found.bytes()), _entry(found.meta))
            except _RangeError:
                # Of nothing no range can be had; services answer that with an error.
                entry = self.head(name)
                if entry is None:
                    return None
                if entry.size <= start:
                    return TransferPart(b"", entry)
                raise
        return None

    def put(self, name: str, source: bytes | Path) -> None:
        """Put bytes or a file; a large one in several parts, which appear together."""
        with contextlib.ExitStack() as opened, self._asking(name):
            data = source if isinstance(source, bytes) else opened.enter_context(source.open("rb"))
            size = len(source) if isinstance(source, bytes) else source.stat().st_size
            self._obstore.put(
                self._store,
                name,
                data,
                use_multipart=size > PART,
                chunk_size=PART,
                max_concurrency=_UPLOADS_AT_ONCE,
            )

    def put_if_absent(self, name: str, data: bytes) -> bool:
        """Put bytes under a free name."""
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with self._asking(name):
            try:
                self._obstore.put(self._store, name, data, mode="create", use_multipart=False)
            except (AlreadyExistsError, PreconditionError):
                return False
        return True

    def list(self, prefix: str) -> Iterator[Entry]:
        """List what lies below a folder."""
        with self._asking(prefix):
            for chunk in self._obstore.list(self._store, prefix):
                yield from map(_entry, chunk)

    def delete(self, name: str) -> None:
        """Take away what lies under a name."""
        with self._absent(), self._asking(name):
            self._obstore.delete(self._store, name)

    def _open(self, seconds: float) -> Any:
        from obstore.store import LocalStore, from_url

        if self._url.startswith("file://"):
            return LocalStore.from_url(self._url, mkdir=True)
        endpoint = os.environ.get("AWS_ENDPOINT_URL", os.environ.get("AWS_ENDPOINT", ""))
        return from_url(
            self._url,
            client_options={
                "timeout": timedelta(seconds=seconds),
                "connect_timeout": timedelta(seconds=min(3.0, seconds)),
                **({"allow_http": True} if endpoint.startswith("http://") else {}),
            },
            retry_config={
                "max_retries": _ATTEMPTS - 1,
                "retry_timeout": timedelta(seconds=seconds),
                "backoff": {
                    "init_backoff": timedelta(seconds=min(0.1, seconds / 100)),
                    "max_backoff": timedelta(seconds=2),
                    "base": 3,
                },
            },
        )

    @contextlib.contextmanager
    def _absent(self) -> Iterator[None]:
        """Let what is not there be no error."""
        with contextlib.suppress(FileNotFoundError):
            yield

    @contextlib.contextmanager
    def _asking(self, name: str) -> Iterator[None]:
        """Turn what obstore raises into a RemoteError that says where, but no secret."""
        from obstore.exceptions import PermissionDeniedError, UnauthenticatedError

        where = f"{self._url.rstrip('/')}/{name}"
        try:
            yield
        except (PermissionDeniedError, UnauthenticatedError, PermissionError) as error:
            raise _denied(where, error) from error
        except FileNotFoundError as error:
            if _NO_BUCKET.search(str(error)):
                raise RemoteError(f"there is no bucket for {self._url}: make it first") from error
            raise
        except (self._error, OSError, ValueError) as error:
            if _DENIED.search(str(error)):
                raise _denied(where, error) from error
            raise _kind(error)(f"{where} cannot be used: {_first_line(error)}") from error


class _RangeError(RemoteError):
    """The bytes asked for may not be there."""


class _BodyError(RemoteError):
    """The connection ended within a body, where obstore does not try again."""


def _kind(error: Exception) -> type[RemoteError]:
    if _BAD_RANGE.search(str(error)):
        return _RangeError
    return _BodyError if "body error" in str(error) else RemoteError


def _denied(where: str, error: Exception) -> RemoteDeniedError:
    return RemoteDeniedError(
        f"{where} is refused: {_first_line(error)}. Are the credentials set, valid and not "
        "expired, and is this machine's clock right?"
    )


def _first_line(error: Exception) -> str:
    line = _QUERY.sub("", str(error).partition("\n")[0])
    return _RETRIES.sub("", line)[:240]


def _entry(meta: "ObjectMeta") -> Entry:
    return Entry(meta["path"], meta["size"], meta["last_modified"].timestamp())


def _timeout() -> float:
    given = os.environ.get(TIMEOUT_VARIABLE, "")
    try:
        seconds = float(given or _SECONDS)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise ValueError(f"{TIMEOUT_VARIABLE} is {given!r}; give seconds, such as 30")
    return seconds
