"""What passes between tasks: small JSON references. No tensor ever crosses a task boundary."""

from collections.abc import Mapping
from pathlib import Path

from pydantic import BaseModel, ConfigDict

from artifacts.errors import UnknownKeyError
from artifacts.names import StepKey
from artifacts.records import Record
from artifacts.store import Store
from tasks.engine.source_files import Source


class Ref(BaseModel):
    """One step's output in the store, by name and by content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    label: str
    key: str
    tree: str
    files: Mapping[str, str]
    """File name → digest."""
    size: int
    """Bytes of all files."""
    location: str = ""
    """Where the files that this output describes lie now (a model folder). Not identity."""
    cached: bool
    seconds: float
    """What computing it took, now or when it was first computed."""


def folder_of(store: Store, ref: Ref) -> Path:
    """Return the folder that shows the files of ``ref``, read-only.

    Raises:
        UnknownKeyError: if the record is gone or another one took its place.
    """
    record = store.lookup(StepKey(ref.key))
    if record is None or record.tree != ref.tree:
        msg = f"the output of {ref.label} (key {ref.key[:16]}) left the store meanwhile; run again"
        raise UnknownKeyError(msg)
    return store.tree_path(record)


def ref_of(label: str, record: Record, source: Source, *, cached: bool) -> Ref:
    """Return the reference to a record's output."""
    return Ref(
        step=record.step,
        label=label,
        key=record.key,
        tree=record.tree,
        files={name: entry.digest for name, entry in record.files.items()},
        size=sum(entry.size for entry in record.files.values()),
        location=source.location,
        cached=cached,
        seconds=float(str(record.provenance.get("seconds", 0.0))),
    )
