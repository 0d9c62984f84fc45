"""A delivered adapter's teacher and student: where they lie, and what the card says of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from artifacts.folders import digest_folder
from artifacts.queries.lineage import Lineage, model_name
from artifacts.records import Record
from artifacts.store import Store
from flows.delivery.provenance import folder_of_built, original_of_built
from paraknow_core.checkpoint.model_folder import model_files
from paraknow_core.errors import ModelFolderError
from paraknow_core.lora.adapter import Adapter
from paraknow_core.models.describe import Architecture, Role, describe
from paraknow_core.report.licences import UNKNOWN, stated_licence
from paraknow_core.report.model_card import ModelNote
from tasks.acquire_model import load_architecture
from tasks.engine.source_files import SourceFiles, listing
from tasks.engine.step import NotDownloadedError
from tasks.teachers.find import find_model


@dataclass(frozen=True)
class PlacedModel:
    """What the card says of a model, and its folder on this machine if that is known."""

    note: ModelNote
    folder: Path | None


@dataclass(frozen=True)
class Asked:
    """A model as the store and the user know it.

    Attributes:
        record: of its acquisition; None if that was collected.
        said: folder or Hub id that the user gave; "" if none.
        download: whether it may be downloaded.
        needed: whether it is named even if nothing is known of it.
    """

    record: Record | None
    said: str
    download: bool = False
    needed: bool = False


def find_models(
    store: Store, lineage: Lineage[Record], asked: Mapping[str, Asked]
) -> dict[str, PlacedModel]:
    """Find each model's folder and licence; a model that the user names must be the recorded one.

    Raises:
        ModelFolderError: if it is no model, or another one.
    """
    return {
        role: _place(
            store,
            role,
            model,
            folder_of_built(lineage, store, model.record),
            original_of_built(lineage, model.record),
        )
        for role, model in asked.items()
        if model.record is not None or model.said or model.needed
    }


def _place(
    store: Store, role: str, asked: Asked, built: Path | None, original: Path | None
) -> PlacedModel:
    folder, said = built, asked.said
    is_hub = bool(said) and not Path(said).expanduser().exists()
    is_original = original is not None and Path(said).expanduser().resolve() == original.resolve()
    if said and not is_original:
        try:
            folder = find_model(said, "main", download=asked.download)
        except NotDownloadedError:
            folder = None  # its name will do for the card
        if folder is not None:
            check_same(store, asked.record, folder, whole=False)
    name = said if is_hub or not said else Path(said).expanduser().resolve().name
    licence = stated_licence(folder) if folder is not None else UNKNOWN
    if original is not None:
        name = name or original.name
        holder = original.parent if original.is_file() else original
        licence = stated_licence(holder) if licence == UNKNOWN else licence
    key = asked.record.key if asked.record else ""
    return PlacedModel(
        ModelNote(role, name or _recorded_name(asked.record), is_hub, key, licence), folder
    )


def _recorded_name(record: Record | None) -> str:
    if record is None:
        return "no longer in the store"
    folder = record.facts.get("folder_name")
    return f"{folder} ({model_name(record)})" if folder else model_name(record)


def check_same(store: Store, record: Record | None, folder: Path, *, whole: bool) -> None:
    """Refuse a folder that is not the model of a record.

    Args:
        store: that holds the record's manifest.
        record: of the model's acquisition; if it is gone, nothing can be checked.
        folder: to check.
        whole: compare every file; else config.json alone, which is quick.

    Raises:
        ModelFolderError: if a file differs; names up to three.
    """
    stored = store.lookup(record.key) if record is not None else None
    if stored is None:
        return
    used = SourceFiles.acquired(folder, store.tree_path(stored))
    other = used.differing(None if whole else ["config.json"], stamps=store.stamps)
    if other:
        raise ModelFolderError(
            f"{folder} is not the model that this adapter was made with: {listing(other)} "
            f"(record {stored.key[:16]}). Give that model."
        )


def as_used(store: Store, record: Record | None, folder: Path) -> SourceFiles:
    """Return a model's files as they were digested when it was acquired.

    Args:
        store: that holds the record's manifest.
        record: of the model's acquisition; if it is gone, the files are taken as they are now.
        folder: where the model lies.
    """
    stored = store.lookup(record.key) if record is not None else None
    if stored is not None:
        return SourceFiles.acquired(folder, store.tree_path(stored))
    entries = digest_folder(folder, model_files(folder), stamps=store.stamps, read_here=True)
    return SourceFiles.of_model(folder, {name: entry.digest for name, entry in entries.items()})


def vocabulary_modules(
    store: Store, student: Record | None, adapter: Adapter, folder: Path | None
) -> set[str]:
    """Name the student's embedding and head, as the adapter calls them.

    Raises:
        ModelFolderError: if neither the store nor a folder says what they are.
    """
    architecture = _architecture(store, student, folder)
    heads = {adapter.tied_head} if adapter.tied_head else {architecture.module_of(Role.HEAD)}
    return {*adapter.embeddings, architecture.module_of(Role.EMBED), *heads}


def _architecture(store: Store, record: Record | None, folder: Path | None) -> Architecture:
    stored = store.lookup(record.key) if record is not None else None
    if stored is not None:
        return load_architecture(store.tree_path(stored))
    if folder is not None:
        return describe(folder)
    raise ModelFolderError(
        "The student's record is no longer in the store, so its embedding and head are not known: "
        "give --student FOLDER."
    )
