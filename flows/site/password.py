"""The password of a server on this machine: made once, and kept for its user alone."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from flows.server.server_settings import ServerError
from paraknow_core.durable_files import make_folder, settle

GIVEN: Final = ("PREFECT_SERVER_API_AUTH_STRING", "PREFECT_API_AUTH_STRING")
"""Where a password of the user's own may stand; the first counts."""
_FILE: Final = "auth"
_BYTES: Final = 24


@dataclass(frozen=True)
class ServerPassword:
    """What the server asks for, ``user:password``, and where a user finds it.

    Attributes:
        text: as Prefect takes it.
        shell: what a shell puts in its place; never the password itself.
        place: of it, in words.
    """

    text: str = field(repr=False)
    shell: str
    place: str


def server_password(folder: Path, environ: Mapping[str, str]) -> ServerPassword:
    """Return the password that is set, else the one that is kept, which is made at first.

    Args:
        folder: where it is kept.
        environ: the environment; see `GIVEN`.

    Raises:
        ServerError: if what is set or kept is no ``user:password``, or others may read the file.
    """
    for variable in GIVEN:
        if text := environ.get(variable):
            return ServerPassword(_checked(text, variable), f'"${variable}"', f"in ${variable}")
    file = folder / _FILE
    if not file.exists():
        make_folder(folder)
        _write(file, f"paraknow:{secrets.token_urlsafe(_BYTES)}\n")
    if file.stat().st_mode & 0o077:
        raise ServerError(
            f"{file} holds the server's password, and others may read it: `chmod 600 {file}`, or "
            "remove it, and a new one is made"
        )
    text = _checked(file.read_text(encoding="utf-8").strip(), str(file))
    return ServerPassword(text, f"\"$(cat '{file}')\"", f"in {file}")


def _write(file: Path, text: str) -> None:
    draft = file.with_name(f".{file.name}")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "w", encoding="utf-8") as opened:
        opened.write(text)
    settle(draft, file)


def _checked(text: str, place: str) -> str:
    user, colon, password = text.partition(":")
    if not (user and colon and password) or any(sign.isspace() for sign in text):
        raise ServerError(f"{place} must hold USER:PASSWORD without blanks")
    return text
