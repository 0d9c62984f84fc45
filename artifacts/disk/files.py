"""The few file operations that publishing is made of, and what their errors mean."""

import contextlib
import errno
import os
import re
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from artifacts.disk.sizes import size_text
from artifacts.errors import StoreFullError, StoreIOError, StoreReadOnlyError

T = TypeVar("T")

_GONE: Final = frozenset({errno.ENOENT, errno.ENOTDIR})
_FULL: Final = frozenset({errno.ENOSPC, errno.EDQUOT})
_LOCKED: Final = frozenset({errno.EROFS, errno.EACCES, errno.EPERM})
_PAUSES: Final = (0.02, 0.1, 0.3)
# O_NONBLOCK: a pipe planted under a record's name must not hang the reader. It changes nothing for
# regular files.
READ_FLAGS: Final = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


def free_bytes(path: Path) -> int:
    """Return the bytes that an ordinary user may still write on the file system of ``path``."""
    return shutil.disk_usage(path).free


@contextlib.contextmanager
def reading(path: Path) -> Iterator[None]:
    """Turn an OSError met while reading ``path`` into a StoreIOError that names it."""
    try:
        yield
    except OSError as error:
        raise read_error(error, path) from error


def read_error(error: OSError, path: Path) -> StoreIOError:
    """Return what to say of an OSError met while reading ``path``."""
    return StoreIOError(
        f"cannot read {error.filename or path}: {error.strerror}. Nothing was judged corrupt; "
        "run again when the disk, permissions or open-file limit are in order"
    )


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn an OSError met while writing at ``path`` into the StoreIOError that says what to do."""
    try:
        yield
    except OSError as error:
        raise _write_error(error, path) from error


def _write_error(error: OSError, path: Path) -> StoreIOError:
    where = error.filename2 or error.filename or path
    said = f"cannot write {where}: {error.strerror}"
    if error.errno in _FULL:
        return StoreFullError(
            f"{said}; {_free_text(path, error)}. Make room or move the store, then run again: what "
            "was published stays"
        )
    if error.errno in _LOCKED:
        return StoreReadOnlyError(
            f"{said}. Make the store writable, or choose another one with PARAKNOW_STORE"
        )
    return StoreIOError(f"{said}. What was published stays; run again")


@contextlib.contextmanager
def needing_room(path: Path) -> Iterator[None]:
    """Turn what a library raises when the disk under ``path`` is full into a StoreFullError."""
    try:
        yield
    except Exception as error:
        full = full_error(error, path)
        if full is None:
            raise
        raise full from error


def full_error(error: BaseException, path: Path) -> StoreIOError | None:
    """Return what to say if an error means that a disk is full, or has no room for more files."""
    found = re.search(r"\(os error ([0-9]+)\)", str(error))  # as libraries written in Rust say it
    number = int(found[1]) if found else getattr(error, "errno", None)
    if number not in _FULL or isinstance(error, StoreIOError):
        return None
    where = getattr(error, "filename", None) or str(path)
    return _write_error(OSError(number, os.strerror(number), where), path)


def _free_text(path: Path, error: OSError) -> str:
    """Say what is used up: room, files, or what one user may have of either."""
    for folder in (path, *path.parents):
        with contextlib.suppress(OSError):
            system, free = os.statvfs(folder), size_text(free_bytes(folder))
            if system.f_files and not system.f_favail:
                return (
                    f"no inodes are left there: the file system cannot hold more files, although "
                    f"{free} are free"
                )
            if error.errno == errno.EDQUOT:
                return f"your quota of room or files (inodes) is used up, but {free} are free"
            return f"{free} are free"
    return "what is free is unknown"


def retrying(read: Callable[[], T]) -> T | None:
    """Call ``read``, again after short pauses if it fails; None if the file is not there.

    A read error such as EIO, EMFILE or EACCES may pass, and is never a sign of corruption.

    Raises:
        OSError: the last one, if every attempt failed.
    """
    for pause in _PAUSES:
        try:
            return read()
        except OSError as error:
            if error.errno in _GONE:
                return None
            time.sleep(pause)
    try:
        return read()
    except OSError as error:
        if error.errno in _GONE:
            return None
        raise


def open_regular(path: Path) -> int | None:
    """Open a regular file for reading without following a link.

    Returns:
        A descriptor, or None if what stands there is a link, a folder, a pipe or a device.

    Raises:
        OSError: if it is not there or cannot be opened.
    """
    try:
        descriptor = os.open(path, READ_FLAGS)
    except OSError as error:
        if error.errno in (errno.ELOOP, errno.ENXIO):
            return None
        raise
    try:
        regular = stat.S_ISREG(os.fstat(descriptor).st_mode)
    except OSError:
        os.close(descriptor)
        raise
    if regular:
        return descriptor
    os.close(descriptor)
    return None


def read_small(path: Path, limit: int) -> bytes | None:
    """Read all of a regular file of at most ``limit`` bytes.

    Returns:
        Its bytes, or None if it is no regular file or longer than ``limit``.

    Raises:
        OSError: if it is not there or cannot be read.
    """
    descriptor = open_regular(path)
    if descriptor is None:
        return None
    with os.fdopen(descriptor, "rb") as file:
        data = file.read(limit + 1)
    return data if len(data) <= limit else None


def temporary_path(folder: Path) -> Path:
    """Return a name in ``folder`` that no other writer uses."""
    return folder / f"{os.getpid()}-{secrets.token_hex(8)}"


@contextlib.contextmanager
def new_file(folder: Path) -> Iterator[tuple[int, Path]]:
    """Create a temporary file that is removed at the end, unless it was renamed away.

    Yields:
        A descriptor open for writing, and the path.
    """
    path = temporary_path(folder)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        yield descriptor, path
    finally:
        os.close(descriptor)
        with contextlib.suppress(OSError):  # a leftover in tmp/ harms nobody
            path.unlink(missing_ok=True)


def write_all(descriptor: int, data: bytes | memoryview) -> None:
    """Write all of ``data``, however little each call takes."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def seal(descriptor: int, mode: int = 0o444) -> None:
    """Make a file read-only, for everybody if no other mode is given, and its bytes durable."""
    os.fchmod(descriptor, mode)
    os.fsync(descriptor)


def sync_folder(folder: Path) -> None:
    """Make the names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def ensure_folder(folder: Path) -> None:
    """Make a folder, and its name durable; its parent must exist."""
    with contextlib.suppress(FileExistsError):
        folder.mkdir()
        sync_folder(folder.parent)


def write_new(path: Path, data: bytes, temporary: Path) -> bool:
    """Create ``path`` holding ``data``, durable and complete, or leave what is there.

    Args:
        path: the final name.
        data: the whole content.
        temporary: a folder on the same file system.

    Returns:
        True if this call created it, False if the name was taken.

    Raises:
        OSError: if it could not be created; then ``path`` is as it was.
    """
    with new_file(temporary) as (descriptor, draft):
        write_all(descriptor, data)
        seal(descriptor)
        try:
            os.link(draft, path)
        except FileExistsError:
            return False
        except OSError:
            # Over a network the link may have been made and only its reply lost.
            if not _is_same_file(descriptor, path):
                raise
    sync_folder(path.parent)
    return True


def replace_file(path: Path, data: bytes, temporary: Path, *, mode: int = 0o444) -> None:
    """Put ``data`` under ``path`` in one step, durable, whatever was there."""
    with new_file(temporary) as (descriptor, draft):
        write_all(descriptor, data)
        seal(descriptor, mode)
        draft.rename(path)
    sync_folder(path.parent)


def _is_same_file(descriptor: int, path: Path) -> bool:
    with contextlib.suppress(OSError):
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    return False
