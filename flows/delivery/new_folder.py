"""A folder that appears complete or not at all, at a place that holds nothing yet."""

import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from artifacts.disk.files import needing_room, writing
from paraknow_core.durable_files import flush
from paraknow_core.errors import ConfigError


@contextmanager
def new_folder(final: Path) -> Iterator[Path]:
    """Yield a draft folder next to ``final``, and rename it to that once the block succeeds.

    A process killed in between leaves ``.NAME.….part`` there and nothing at ``final``.

    Args:
        final: must not exist, or be an empty folder. A link is refused: it is never followed.

    Raises:
        ConfigError: if something is there, also if it came there meanwhile.
        StoreIOError: if it cannot be written; names the path, and a full disk as such.
    """
    final = Path(final)
    refuse_used(final)
    draft = final.with_name(f".{final.name}.{secrets.token_hex(4)}.part")
    with writing(final), needing_room(final):
        draft.mkdir(parents=True)
        try:
            yield draft
            for path in sorted(draft.rglob("*")):
                flush(path)
            flush(draft)
            refuse_used(final)
            draft.rename(final)  # onto an empty folder at most: the system refuses all else
            flush(final.parent)
        finally:
            shutil.rmtree(draft, ignore_errors=True)


def refuse_used(final: Path) -> None:
    """Raise ConfigError unless ``final`` is absent or an empty folder, not a link to one."""
    if final.is_symlink():
        raise ConfigError(f"{final} is a link, and links are not followed: name a new folder.")
    if not final.name:
        raise ConfigError(f"{str(final)!r} names no new folder.")
    if final.exists() and (not final.is_dir() or any(final.iterdir())):
        raise ConfigError(f"{final} exists and is not an empty folder: name a new folder.")
