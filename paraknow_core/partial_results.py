"""Partial results of a computation that may be killed: sealed when saved, checked when resumed.

Each save is a folder of its own. It is written under ``drafts/``, sealed (``seals``) and renamed to
``saved/<number>``. A run resumes only from there, and never from a save whose seal is broken or
that other code, libraries or inputs made. Such a save is moved aside with a message, and its work
is done again: a partial result only saves work.
"""

import logging
import os
import secrets
import shutil
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from paraknow_core.durable_files import flush
from paraknow_core.seals import BrokenSealError, seal, sealed_facts

_DRAFTS, _SAVED = "drafts", "saved"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Saved:
    """A partial result that is as it was saved.

    Attributes:
        folder: holds its files.
        number: of the save; the highest holds the most work.
    """

    folder: Path
    number: int


class PartialResults:
    """Where one computation saves what it has so far, and finds what an earlier run of it saved.

    The constructor checks everything that is there, so an instance returns only intact saves. It
    can be sent to another process.

    Attributes:
        drafts: for what is being written; emptied when this object is made.
    """

    def __init__(
        self,
        folder: Path,
        *,
        made_by: Mapping[str, Any] | None = None,
        differs: Callable[[Mapping[str, Any]], str] | None = None,
        aside: Path | None = None,
        tell: Callable[[str], None] = _log.warning,
    ) -> None:
        """Check what an earlier run left, and move aside what cannot be used.

        Args:
            folder: of this computation alone; it is made if it is not there.
            made_by: what the numbers depend on (code, libraries, inputs), as plain JSON values; it
                is stored with every save.
            differs: describes how the ``made_by`` of a save differs from the present one; returns
                "" if in nothing that matters. By default any difference counts.
            aside: where saves that cannot be used are moved, on the same file system; by default a
                folder next to ``folder``.
            tell: called with one or two sentences about everything that is moved aside.

        Raises:
            OSError: if something cannot be moved or made.
        """
        self._folder = Path(folder)
        self._made_by = dict(made_by or {})
        self._aside = aside or self._folder.with_name(f"{self._folder.name}.aside")
        self.drafts = self._folder / _DRAFTS
        self._saved = self._folder / _SAVED
        self._make_folders(tell)
        for path in self._paths():
            try:
                self._check(path, differs or self._made_otherwise)
            except BrokenSealError as error:
                self._set_aside([path], str(error), tell)

    def newest(self, run: str, holds: Collection[str] = ()) -> Saved | None:
        """Return the newest partial result of a run, None if there is none.

        Its bytes are checked once more, as they are about to be read. What is older stays.

        Args:
            run: the computation's name for this run; partial results of other runs are moved aside.
            holds: names of files that the computation will read; a partial result without them (of
                a version that used other names) is moved aside.
        """
        for path in reversed(self._paths()):
            if (found := self._take(path, run, holds)) is not None:
                return found
        return None

    def find(self, number: int, run: str, holds: Collection[str] = ()) -> Saved | None:
        """Return the partial result of this number and run, checked like ``newest``'s."""
        path = self._path(number)
        return self._take(path, run, holds) if os.path.lexists(path) else None

    def new_draft(self) -> Path:
        """Make an empty folder to write a partial result in."""
        draft = self._draft()
        draft.mkdir()
        return draft

    def save(self, draft: Path, number: int, run: str) -> Saved:
        """Seal a draft whose files have all been written; from now on a run can resume from it.

        Args:
            draft: a folder below ``drafts`` that holds plain files only; it is moved.
            number: of the save; an earlier one of the same number is replaced.
            run: the computation's name for this run.
        """
        seal(draft, {"number": number, "run": run, "made_by": self._made_by})
        final = self._path(number)
        if os.path.lexists(final):
            self._delete(final)
        draft.rename(final)
        flush(self._saved)
        return Saved(final, number)

    def keep_newest(self, count: int) -> None:
        """Delete all but the newest ``count``."""
        for path in self._paths()[:-count]:
            self._delete(path)

    def _make_folders(self, tell: Callable[[str], None]) -> None:
        if os.path.lexists(self._folder) and not _is_folder(self._folder):
            self._set_aside([self._folder], "it is no folder", tell)
        self._folder.mkdir(parents=True, exist_ok=True)
        if _is_folder(self.drafts):
            shutil.rmtree(self.drafts)  # of a run that was killed while it wrote
        if foreign := [p for p in sorted(self._folder.iterdir()) if not self._is_ours(p)]:
            reason = "they were saved without digests, by another version of paraknow or by hand"
            self._set_aside(foreign, reason, tell)
        self.drafts.mkdir()
        self._saved.mkdir(exist_ok=True)

    def _is_ours(self, path: Path) -> bool:
        return path == self._saved and _is_folder(path)

    def _take(self, path: Path, run: str, holds: Collection[str]) -> Saved | None:
        try:
            facts = self._check(path, lambda _made: "")
            if facts["run"] != run:
                raise BrokenSealError("it is of a run with other inputs or settings")
            for name in holds:
                if not (path / name).is_file():
                    raise BrokenSealError(f"it was saved without {name}")
        except BrokenSealError as error:
            self._set_aside([path], str(error), _log.warning)
            return None
        return Saved(path, facts["number"])

    def _check(self, path: Path, differs: Callable[[Mapping[str, Any]], str]) -> Mapping[str, Any]:
        facts = sealed_facts(path)
        if path != self._path(facts["number"]):
            raise BrokenSealError(f"it was saved as number {facts['number']}")
        if difference := differs(facts["made_by"]):
            raise BrokenSealError(f"it was made before a change: {difference}")
        return facts

    def _made_otherwise(self, made_by: Mapping[str, Any]) -> str:
        return "" if made_by == self._made_by else "it says that something else made it"

    def _set_aside(self, paths: Sequence[Path], reason: str, tell: Callable[[str], None]) -> None:
        place = self._aside / secrets.token_hex(4)
        place.mkdir(parents=True)
        for path in paths:
            path.rename(place / path.name)
        names = ", ".join(path.name for path in paths[:3]) + (", …" if len(paths) > 3 else "")
        tell(
            f"partial results of an earlier run ({names}) are not used: {reason}. They were moved "
            f"to {place}, and what was in them is computed again."
        )

    def _delete(self, path: Path) -> None:
        draft = self._draft()
        path.rename(draft)  # first: a kill during rmtree must not leave half a save under ``saved``
        shutil.rmtree(draft)

    def _draft(self) -> Path:
        return self.drafts / secrets.token_hex(8)

    def _path(self, number: int) -> Path:
        return self._saved / f"{number:012d}"

    def _paths(self) -> list[Path]:
        return sorted(self._saved.iterdir())


def _is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()
