"""A store with one fine-tuned adapter and all that it was made from, published without a run."""

import json
from pathlib import Path
from typing import Any

import torch
from support.starts import transfer_start

from artifacts.folders import digest_folder
from artifacts.keys import KeyPayload
from artifacts.records import Record
from artifacts.store import Store
from paraknow_core.lora.adapter import Adapter, LoraFactors, write_adapter
from paraknow_core.lora.combine import combine
from paraknow_core.models.describe import describe


def moved(start: Adapter, seed: int = 1) -> Adapter:
    """The start point with every factor changed at random, as training would."""
    generator = torch.Generator().manual_seed(seed)
    factors = {
        module: LoraFactors(*(f + 0.1 * torch.randn(f.shape, generator=generator) for f in pair))
        for module, pair in start.factors.items()
    }
    return Adapter(**{**_fields(start), "factors": factors})


def _fields(adapter: Adapter) -> dict[str, Any]:
    return {name: getattr(adapter, name) for name in adapter.__dataclass_fields__}


def publish(store: Store, step: str, files: Any, inputs: dict[str, Record], **more: Any) -> Record:
    facts = more.pop("facts", {})
    digests = more.pop("digests", None) or {role: r.tree for role, r in inputs.items()}
    named = {
        role: {"key": r.key, "digest": r.tree, "step": r.payload.step} for role, r in inputs.items()
    }
    return store.publish(
        KeyPayload(step=step, version=1, config=more, inputs=digests),
        files,
        facts=facts,
        provenance={"inputs": named, "paraknow": "0.1.0", "libraries": {"torch": "9"}},
    )


def acquired(store: Store, folder: Path) -> Record:
    names = [path.name for path in folder.iterdir()]
    manifest = {name: str(e.digest) for name, e in digest_folder(folder, names).items()}
    files = {
        "manifest.json": json.dumps(manifest).encode(),
        "architecture.json": json.dumps(describe(folder).to_json()).encode(),
    }
    facts = {"model_type": "llama", "parameters": 1, "folder_name": folder.name}
    return publish(store, "acquire-model", files, {}, facts=facts, name=folder.name)


def delivered(store: Store, student: Path, teacher: Path, work: Path) -> tuple[Record, Adapter]:
    """Publish acquire, lora, finetune and evaluate records; return the adapter's."""
    models = {"student": acquired(store, student), "teacher": acquired(store, teacher)}
    data = publish(store, "acquire-data", {"test.parquet": b"?"}, {}, facts={"train": 32})
    start = transfer_start(student, work / "start")
    factors = publish(store, "decompose", {"f": b"?"}, models, max_rank=8)
    inputs = {"student": models["student"], "factors": factors}
    begun = publish(store, "lora", work / "start", inputs, rank=4)
    adapter = combine(start, moved(start))
    write_adapter(work / "out", adapter)
    inputs = {"student": models["student"], "start": begun, "data": data}
    facts = {"steps": 4, "rank": adapter.rank}
    record = publish(store, "finetune", work / "out", inputs, facts=facts, epochs=1)
    weights = record.files["adapter_model.safetensors"].digest
    bare = {"student.manifest.json": models["student"].tree, "data.test.parquet": data.tree}
    tested = {"adapter": record, "student": models["student"], "data": data}
    for digests, nll in (
        (bare, 2.5),
        (bare | {"adapter.adapter_model.safetensors": weights}, 1.25),
    ):
        used = {r: x for r, x in tested.items() if len(digests) == 3 or r != "adapter"}
        scores = {"answer_nll": nll, "items": 16}
        publish(store, "evaluate", {"m": b"%f" % nll}, used, facts=scores, digests=digests)
    return record, adapter
