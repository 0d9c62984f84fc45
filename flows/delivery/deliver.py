"""Delivering an adapter: exact, compressed, for servers, or merged, each with its model card."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path

from artifacts.disk.files import free_bytes
from artifacts.disk.sizes import unequal
from artifacts.errors import StoreFullError, UnknownKeyError
from artifacts.live import keeping
from artifacts.names import StepKey
from artifacts.queries.lineage import Lineage
from artifacts.records import Record
from artifacts.store import Store
from flows.delivery.models import (
    Asked,
    PlacedModel,
    as_used,
    check_same,
    find_models,
    vocabulary_modules,
)
from flows.delivery.new_folder import new_folder, refuse_used
from flows.delivery.provenance import AdapterOrigin, find_adapter, origin_of
from paraknow_core.errors import ConfigError, ModelFolderError
from paraknow_core.lora.adapter import Adapter, write_adapter
from paraknow_core.lora.adapter_reader import read_adapter
from paraknow_core.lora.compress import compress, without_modules
from paraknow_core.lora.merge import check_shard_size, merged_bytes, write_merged
from paraknow_core.models.describe import describe
from paraknow_core.report.model_card import Card, render
from tasks.engine.source_files import unchanged


@dataclass(frozen=True)
class Wish:
    """What is to be delivered.

    Attributes:
        out: the new folder.
        compress: rank to reduce to; 0 for none.
        serving: without embedding and head.
        merged: the student with the adapter added, as a full checkpoint.
        max_shard_size: of a merged checkpoint's files.
        student: folder or Hub id of the student; "" if not said.
        teacher: the same of the teacher, for the card alone.
    """

    out: Path
    compress: int = 0
    serving: bool = False
    merged: bool = False
    max_shard_size: str = "5GB"
    student: str = ""
    teacher: str = ""


@dataclass(frozen=True)
class Delivery:
    """What was delivered, as ``--json`` prints it."""

    folder: str
    files: list[str]
    form: str
    adapter_key: str
    rank: int | None
    dtypes: list[str]
    compress_kept: float | None = None
    serving_kept: float | None = None
    kept: Mapping[str, float] = field(default_factory=dict)
    metrics: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    losses: list[str] = field(default_factory=list)


@keeping()
def deliver(store: Store, prefix: str, wish: Wish) -> Delivery:
    """Deliver a fine-tuned adapter as files of its own.

    Args:
        store: that holds its record.
        prefix: the fine-tuning's key, or its first digits.
        wish: which form, and where.

    Raises:
        UnknownKeyError: if there is no such fine-tuning, or its files are damaged.
        ConfigError: if the place is taken, or the wishes contradict each other.
        ModelFolderError: if the student is needed and is not here, or is another model.
        StoreIOError: if it cannot be written.
    """
    if wish.merged and (wish.compress or wish.serving):
        raise ConfigError(
            "--merged gives full weights, which have no rank and no serving profile: leave "
            "--compress and --serving out."
        )
    if wish.merged:
        check_shard_size(wish.max_shard_size)
    refuse_used(wish.out)
    lineage = Lineage.of(store)
    origin = origin_of(lineage, find_adapter(store, lineage, prefix))
    adapter = _read(store, origin.adapter.key)
    models = find_models(
        store,
        lineage,
        {
            "teacher": Asked(origin.teacher, wish.teacher),
            "student": Asked(origin.student, wish.student, download=wish.merged, needed=True),
        },
    )
    if wish.merged:
        return _deliver_merged(store, origin, adapter, models, wish)
    return _deliver_adapter(store, origin, adapter, models, wish)


def _read(store: Store, key: StepKey) -> Adapter:
    record = store.lookup(key)
    if record is None:
        raise UnknownKeyError(
            f"the files of the fine-tuning {key[:16]} are damaged or gone; run its step again"
        )
    return read_adapter(store.tree_path(record))


def _deliver_adapter(
    store: Store,
    origin: AdapterOrigin,
    adapter: Adapter,
    models: Mapping[str, PlacedModel],
    wish: Wish,
) -> Delivery:
    student = models["student"]
    delivery = Delivery(
        folder=str(wish.out.absolute()),
        files=[],
        form="adapter",
        adapter_key=origin.adapter.key,
        rank=adapter.rank,
        dtypes=["F32"],
        metrics=origin.scores,
    )
    if wish.serving:
        left_out = vocabulary_modules(store, origin.student, adapter, student.folder)
        adapter, delivery = _for_servers(adapter, delivery, left_out)
    if wish.compress:
        adapter, delivery = _compressed(adapter, delivery, wish.compress)
    if student.note.hub_id:
        adapter = replace(adapter, base_model=student.note.name)
    with new_folder(wish.out) as draft:
        write_adapter(draft, adapter)
        return _finish(draft, delivery, origin, models)


def _for_servers(
    adapter: Adapter, delivery: Delivery, left_out: Collection[str]
) -> tuple[Adapter, Delivery]:
    found = without_modules(adapter, left_out)
    losses = [*delivery.losses, _serving_loss(found.total)]
    return found.adapter, replace(delivery, serving_kept=found.total, losses=losses)


def _compressed(adapter: Adapter, delivery: Delivery, rank: int) -> tuple[Adapter, Delivery]:
    found = compress(adapter, rank=rank)
    delivery = replace(delivery, compress_kept=found.total, rank=found.adapter.rank)
    if found.adapter.rank == adapter.rank:
        return adapter, delivery  # nothing is lost, so there is nothing to say
    loss = _compression_loss(adapter.rank, rank, found.total)
    return found.adapter, replace(delivery, kept=found.kept, losses=[*delivery.losses, loss])


def _deliver_merged(
    store: Store,
    origin: AdapterOrigin,
    adapter: Adapter,
    models: Mapping[str, PlacedModel],
    wish: Wish,
) -> Delivery:
    student = models["student"]
    if student.folder is None:
        raise ModelFolderError(
            "A merged checkpoint needs the student's weights, and the store does not say where "
            "they lie: give --student FOLDER or --student HUB_ID."
        )
    check_same(store, origin.student, student.folder, whole=True)
    _check_room(wish.out, merged_bytes(describe(student.folder), adapter))
    used = {"student": as_used(store, origin.student, student.folder)}
    with new_folder(wish.out) as draft:
        with unchanged(used, stamps=store.stamps):
            dtypes = write_merged(
                student.folder, adapter, draft, max_shard_size=wish.max_shard_size
            )
        rounded = [name for name in dtypes if name != "F32"]
        delivery = Delivery(
            folder=str(wish.out.absolute()),
            files=[],
            form="merged",
            adapter_key=origin.adapter.key,
            rank=None,
            dtypes=list(dtypes),
            metrics=origin.scores,
            losses=[_rounding(rounded)] if rounded else [],
        )
        return _finish(draft, delivery, origin, models)


def _finish(
    draft: Path, delivery: Delivery, origin: AdapterOrigin, models: Mapping[str, PlacedModel]
) -> Delivery:
    """Write the card into the draft, and list what is in it."""
    card = Card(
        title=Path(delivery.folder).name,
        merged=delivery.form == "merged",
        method=origin.method,
        models=[model.note for model in models.values()],
        data=_data_facts(origin.data),
        metrics=delivery.metrics,
        benchmarks=origin.benchmarks,
        losses=delivery.losses,
        kept=delivery.kept,
        steps=origin.steps,
        versions=origin.versions,
        path=Path(delivery.folder).name,
    )
    page = draft / "README.md"
    page.write_text(render(card), encoding="utf-8")
    for path in draft.iterdir():  # safetensors makes files that only their owner may read
        path.chmod(page.stat().st_mode)
    files = sorted(path.relative_to(draft).as_posix() for path in draft.rglob("*"))
    return replace(delivery, files=files)


def _check_room(out: Path, needed: int) -> None:
    parent = next(path for path in out.absolute().parents if path.exists())
    free = free_bytes(parent)
    if needed > free:
        takes, has = unequal(needed, free)
        raise StoreFullError(
            f"the merged checkpoint takes {takes}, and {parent} has {has} free. Make "
            "room, or name a folder elsewhere"
        )


def _data_facts(record: Record | None) -> dict[str, object]:
    if record is None:
        return {}
    found: dict[str, object] = {"made by the step": f"{record.step} {record.key[:16]}"}
    for name, value in record.payload.config.items():
        if isinstance(value, dict) and value.get("hub"):
            found[name] = {field: text for field, text in value.items() if text}
        elif isinstance(value, str) and value:
            found[name] = value
    return found | {f"rows: {name}": count for name, count in record.facts.items()}


def _serving_loss(total: float) -> str:
    return (
        "Serving profile: embedding and head keep the student's own weights. "
        f"{100 * (1 - total):.4g} % of the change's squared Frobenius norm went with them; how "
        "much of the effect that is, the norm does not say."
    )


def _compression_loss(whole: int, rank: int, total: float) -> str:
    return (
        f"Compressed from rank {whole} to rank {rank}, each module by a singular value "
        f"decomposition of its product: {100 * total:.6g} % of the change's squared Frobenius norm "
        "is kept."
    )


def _rounding(dtypes: list[str]) -> str:
    return (
        f"Merged: the student's dtype ({', '.join(dtypes)}) is kept, so student and change are "
        "rounded together once; with the unmerged adapter the change stays in float32."
    )
