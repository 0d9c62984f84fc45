"""Files outside the store that computations read: they must be what was digested, all the time.

A result's key is made of digests that were taken when a model or data file was acquired. Files that
are copied over or still written to in between would give a wrong result under an honest key, and
the store would keep it. So every computation that reads such files runs inside
``watched``: before it their bytes are compared with the digests, and after it their stamps with
those from before. A stamp holds the time of change, which nobody can set back.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from artifacts.disk.digests import BytesProgress, no_bytes_progress
from artifacts.disk.stamps import Stamp, StampCache
from artifacts.folders import digest_folder, stamp_of
from artifacts.names import Digest
from paraknow_core.checkpoint.model_folder import model_files
from paraknow_core.errors import ParaknowError
from tasks.engine.json_files import read_json
from tasks.engine.progress import StepProgress

MANIFEST = "manifest.json"
"""In the output of a step that acquires a model: file name → digest."""

_SHOWN = 3

Stamps = Mapping[str, tuple[Stamp, ...]]
"""File name → what ``stat`` returned for it, and for the link that leads to it."""


class SourceChangedError(ParaknowError):
    """A model or data file is not, or did not stay, what was digested."""


@dataclass(frozen=True)
class SourceFiles:
    """A model's folder or one data file, as it was digested.

    Attributes:
        place: the folder, or the file; of several files that are no model, the first.
        digests: file name → digest.
        is_model: whether ``place`` is a folder all of whose ``model_files`` count: a loader may
            read one that came later.
    """

    place: Path
    digests: Mapping[str, str]
    is_model: bool

    @classmethod
    def of_model(cls, folder: Path, digests: Mapping[str, str]) -> "SourceFiles":
        """A model's folder."""
        return cls(folder, {name: str(digest) for name, digest in digests.items()}, is_model=True)

    @classmethod
    def of_file(cls, path: Path, digest: str) -> "SourceFiles":
        """One data file."""
        return cls(path, {path.name: str(digest)}, is_model=False)

    @classmethod
    def of_files(cls, folder: Path, digests: Mapping[str, str]) -> "SourceFiles":
        """Some files of a folder that is no model's, such as a PEFT adapter; the first is named."""
        place = folder / next(iter(digests))
        return cls(place, {name: str(digest) for name, digest in digests.items()}, is_model=False)

    @classmethod
    def acquired(cls, folder: Path, artifact: Path) -> "SourceFiles":
        """A model's folder, as the artifact of its acquisition describes it."""
        return cls.of_model(folder, read_json(artifact / MANIFEST))

    @property
    def folder(self) -> Path:
        """The folder that holds the files."""
        return self.place if self.is_model else self.place.parent

    def differing(
        self,
        names: Iterable[str] | None = None,
        *,
        stamps: StampCache | None = None,
        read_here: bool = False,
        progress: BytesProgress = no_bytes_progress,
    ) -> dict[str, str]:
        """Compare what lies there now with the digests.

        Args:
            names: of the digested files to look at; None: all, and what came to them.
            stamps: as ``digest_folder``.
            read_here: as ``digest_folder``.
            progress: as ``digest_folder``.

        Returns:
            File name → "is gone", "is new" or "has other bytes", for each that differs.

        Raises:
            StoreIOError: if a file cannot be read, or changes while it is.
        """
        wanted = set(self.digests if names is None else names)
        found = {name for name in wanted | self._listed() if (self.folder / name).is_file()}
        told = dict.fromkeys(wanted - found, "is gone")
        if names is None:
            told |= dict.fromkeys(found - wanted, "is new")
        entries = digest_folder(
            self.folder, wanted & found, stamps=stamps, read_here=read_here, progress=progress
        )
        other = [name for name, entry in entries.items() if entry.digest != self.digests[name]]
        return dict(sorted((told | dict.fromkeys(other, "has other bytes")).items()))

    def stamps(self) -> Stamps:
        """Return the stamps of all files that are there and count."""
        paths = [self.folder / name for name in sorted(set(self.digests) | self._listed())]
        return {
            path.name: (stamp_of(path), *([Stamp.of(path.lstat())] if path.is_symlink() else []))
            for path in paths
            if path.is_file()
        }

    def _listed(self) -> set[str]:
        return set(model_files(self.folder)) if self.is_model else set()


@dataclass(frozen=True)
class Source:
    """What a step's own inputs resolve to before its key is known: digests, and places.

    Attributes:
        location: where the model lies that the output describes.
        files: role → files outside the store that the computation reads; ``self`` for its own
            model.
    """

    digests: Mapping[str, Digest] = field(default_factory=dict)
    location: str = ""
    files: Mapping[str, SourceFiles] = field(default_factory=dict)


@contextmanager
def watched(
    sources: Mapping[str, SourceFiles], *, stamps: StampCache, label: str
) -> Iterator[None]:
    """Run a step's computation as ``unchanged``.

    A model in whose matrices nothing was ever written is refused here as well as when it is
    acquired: an older version of this program may have acquired it.

    Args:
        sources: role → the files that it may read.
        stamps: the digests taken earlier on this host.
        label: of the step, for log and progress.

    Raises:
        SourceChangedError, StoreIOError: as ``unchanged``.
        CheckpointError: if a model's weights are blank.
    """
    progress = StepProgress(f"{label}: digest what it reads")
    with unchanged(sources, stamps=stamps, progress=progress):
        for files in sources.values():
            if files.is_model:
                _refuse_blank(files.folder)
        yield


def _refuse_blank(folder: Path) -> None:
    from paraknow_core.models.blank_weights import refuse_blank_weights  # needs torch

    refuse_blank_weights(folder)


@contextmanager
def unchanged(
    sources: Mapping[str, SourceFiles],
    *,
    stamps: StampCache | None = None,
    progress: BytesProgress = no_bytes_progress,
) -> Iterator[dict[str, Stamps]]:
    """Let a computation read files outside the store only while they are what was digested.

    The bytes are hashed once a process and file. Whatever the computation gives is to be thrown
    away if this raises; an error of its own is raised only if the files did not cause it.

    Args:
        sources: role → the files.
        stamps: the digests taken earlier on this host; one that turns out wrong is forgotten.
        progress: called while bytes are hashed.

    Yields:
        Role → the stamps of the files.

    Raises:
        SourceChangedError: before, if they are not what was digested; after, if they changed.
        StoreIOError: if a file cannot be read.
    """
    before = {role: files.stamps() for role, files in sources.items()}
    _compare_bytes(sources, stamps, progress)
    try:
        yield before
    except Exception as error:
        _compare_stamps(sources, before, cause=error)
        raise
    _compare_stamps(sources, before)
    # A file that was written within the last two seconds can have changed once more without its
    # stamp showing it; only such files are read again here.
    _compare_bytes(sources, stamps, progress)


def _compare_bytes(
    sources: Mapping[str, SourceFiles], stamps: StampCache | None, progress: BytesProgress
) -> None:
    for role, files in sources.items():
        told = files.differing(stamps=stamps, read_here=True, progress=progress)
        if stamps is not None:
            for name in told:
                stamps.forget(os.path.realpath(files.folder / name))
        if told:
            raise SourceChangedError(
                f"What lies at {files.place} is not the {_owner(role, files)} that was digested: "
                f"{listing(told)}. Nothing was stored. Put the files back, or let whatever writes "
                "there finish, and run again."
            )


def _compare_stamps(
    sources: Mapping[str, SourceFiles],
    before: Mapping[str, Stamps],
    cause: Exception | None = None,
) -> None:
    for role, files in sources.items():
        after, then = files.stamps(), before[role]
        told = {
            name: "was replaced or touched" if name in after else "is gone"
            for name in sorted(then.keys() | after.keys())
            if then.get(name) != after.get(name)
        }
        if told:
            raise SourceChangedError(
                f"The {_owner(role, files)} at {files.place} changed while it was read: "
                f"{listing(told)}. Nothing was stored. Let whatever writes there finish, and run "
                "again."
            ) from cause


def _owner(role: str, files: SourceFiles) -> str:
    if not files.is_model:
        return "data file"
    return "model" if role == "self" else role


def listing(told: Mapping[str, str]) -> str:
    """Return the first few of what ``differing`` gave, as text."""
    shown = ", ".join(f"{name} {how}" for name, how in list(told.items())[:_SHOWN])
    return shown + (f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else "")
