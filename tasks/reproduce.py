"""Compute a stored result again, from its record, and compare; the store is not changed."""

import copy
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, get_args, get_type_hints

from pydantic import ValidationError

from artifacts.errors import StoreError
from artifacts.keys import Absent, diff
from artifacts.live import keeping
from artifacts.names import StepKey
from artifacts.records import Record
from artifacts.store import Store
from paraknow_core.errors import ParaknowError
from paraknow_core.file_differences import FileComparison, compare_folders
from paraknow_core.settings import Settings
from tasks.engine.code.drift import Drift, drift_of
from tasks.engine.computation import Computation
from tasks.engine.ref import Ref, folder_of, ref_of
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source, SourceChangedError, SourceFiles, listing
from tasks.engine.step import Step, payload_of
from tasks.engine.step_names import MODEL_STEP
from tasks.rows.config import SPLIT_FILES
from tasks.steps import STEPS

NEEDED = ("config", "device", "threads", "label", "location", "inputs")
"""What a record's provenance must hold."""

IN_INPUT = ("step", "key", "digest", "location")
"""What it must hold of each input."""

OWN_PLACES: Mapping[str, Mapping[str, str]] = {
    MODEL_STEP: {"self": "model"},
    "dense-experts": {"self": "model"},
    "dequantise": {"self": "model"},
    "acquire-data": {
        "rows": "rows.path",
        **{name: f"{name}.path" for name in SPLIT_FILES},
        "fewshot": "fewshot.rows.path",
    },
}
"""Step → role → the setting that says where something from outside the store lies."""


class CannotReproduceError(ParaknowError):
    """A result cannot be computed again here; the message says what is missing."""


@dataclass(frozen=True)
class Reproduction:
    """The outcome of computing a result again.

    Attributes:
        record: the stored result.
        files: how each file compares.
        seconds: that it took now.
        drift: in what the code and libraries differ from those that made it, if they do.
    """

    record: Record
    files: list[FileComparison]
    seconds: float
    drift: Drift | None

    @property
    def equal(self) -> bool:
        """Whether every file has the same bytes."""
        return all(file.equal for file in self.files)


@keeping()
def reproduce(
    store: Store, record: Record, *, work: Path, locations: Mapping[str, Path] | None = None
) -> Reproduction:
    """Compute a stored result again in a temporary folder and compare it with what is stored.

    Args:
        store: that has the result and its inputs.
        record: of the result.
        work: an empty folder to compute in; the files stay in its folder ``out``.
        locations: role → where something from outside the store lies now, where it has moved.

    Raises:
        CannotReproduceError: if the record does not say enough, an input is gone, or what lies at
            a place is not what it was.
    """
    if store.lookup(record.key) is None:
        raise CannotReproduceError(
            f"The files of {_name(record)} are damaged or gone, so there is nothing to compare "
            "with. Run the transfer that made it again."
        )
    need = _need(store, record, dict(locations or {}))
    folders = {role: folder_of(store, ref) for role, ref in need.inputs.items()}
    began = time.monotonic()
    job = need.job(folders, work)
    try:
        need.compute(job)
    except SourceChangedError as error:
        raise CannotReproduceError(str(error)) from error
    except Exception as error:
        raise CannotReproduceError(
            f"Computing {_name(record)} again failed: {type(error).__name__}: {error}"
        ) from error
    new = {path.relative_to(job.out).as_posix(): path for path in job.out.rglob("*")}
    files = compare_folders(
        {name: store.file_path(record, name) for name in record.files},
        {name: path for name, path in new.items() if path.is_file()},
    )
    seconds = time.monotonic() - began
    return Reproduction(record, files, seconds, drift_of(need.step.compute, record))


def config_type(step: Step[Any]) -> type[Settings]:
    """Return the type of a step's settings: that of the job its computation takes."""
    job = next(iter(get_type_hints(step.compute).values()))
    config: type[Settings] = get_args(job)[0]
    return config


def _need(store: Store, record: Record, locations: dict[str, Path]) -> Computation[Any]:
    """Rebuild the computation from the record, and prove by its key that it is the same one."""
    step, made = _step_of(record), _provenance(record)
    own = OWN_PLACES.get(step.name, {})
    _check_roles(
        locations, {**own, **{r: "" for r, said in made["inputs"].items() if said["location"]}}
    )
    config = _config(record, step, made["config"], own, locations)
    inputs = {
        role: _input(store, record, role, said, locations.get(role))
        for role, said in made["inputs"].items()
    }
    run = _run(store, record, made)
    try:
        source = step.source(config, inputs, run)
        payload = payload_of(step, config=config, inputs=inputs, source=source, run=run)
    except (ParaknowError, StoreError) as error:
        hint = "".join(f" If it has moved: --location {role}=PATH." for role in own)
        raise CannotReproduceError(
            f"{_name(record)} needs what is not here: {error}{hint}"
        ) from error
    if payload.key() != record.key:
        _refuse_other(record, payload)
    return Computation(step, str(made["label"]), config, inputs, run, source)


def _step_of(record: Record) -> Step[Any]:
    if record.step not in STEPS:
        raise CannotReproduceError(
            f"{_name(record)} was made by a step that this version does not have; it has "
            f"{', '.join(sorted(STEPS))}. Install the version that made it."
        )
    return STEPS[record.step]


def _provenance(record: Record) -> dict[str, Any]:
    said: dict[str, Any] = dict(record.provenance)
    missing = [name for name in NEEDED if name not in said]
    for role, given in said.get("inputs", {}).items():
        missing += [f"inputs.{role}.{name}" for name in IN_INPUT if name not in given]
    if missing:
        raise CannotReproduceError(
            f"The record of {_name(record)} does not hold what computing it again takes (missing: "
            f"{', '.join(missing)}): an older version of paraknow made it. Run its transfer in "
            "another store; what is computed there can be reproduced."
        )
    return said


def _check_roles(given: Mapping[str, Path], known: Iterable[str]) -> None:
    names = sorted(known)
    for role in given:
        if role not in names:
            raise CannotReproduceError(
                f"--location {role}=…: this result has no such place outside the store; it has "
                f"{', '.join(names) or 'none'}."
            )


def _config(
    record: Record,
    step: Step[Any],
    fields: dict[str, Any],
    own: Mapping[str, str],
    locations: Mapping[str, Path],
) -> Settings:
    fields = copy.deepcopy(fields)
    for role, place in own.items():
        if role in locations:
            *parents, last = place.split(".")
            below = fields
            for parent in parents:
                below = below.setdefault(parent, {})
            below[last] = str(locations[role])
    try:
        return config_type(step).model_validate(fields)
    except ValidationError as error:
        raise CannotReproduceError(
            f"The settings of {_name(record)} are not what this version of the step takes: {error}"
        ) from error


def _input(store: Store, record: Record, role: str, said: Any, moved: Path | None) -> Ref:
    """Return an input as it was, by key and content; a place is checked against its digests."""
    which = f"{_name(record)} was made from {role} ({said['step']} {said['key'][:12]}), which"
    found = store.lookup(StepKey(said["key"]))
    if found is None:
        raise CannotReproduceError(
            f"{which} is not in the store {store.root}. Run the transfer that made it again, or "
            "bring it with `paraknow store import`."
        )
    if found.tree != said["digest"]:
        raise CannotReproduceError(
            f"{which} was rebuilt since, to other bytes ({found.tree[:12]}, then "
            f"{said['digest'][:12]}). Reproduce that one, or run the transfer again."
        )
    location = ""
    if said["location"]:
        location = str(_place(store, found, role, said["location"], moved))
    return ref_of(role, found, Source(location=location), cached=True)


def _place(store: Store, model: Record, role: str, recorded: str, moved: Path | None) -> Path:
    """Find a model's folder, and prove that its files are those that were digested."""
    folder = (moved or _built(store, model) or Path(recorded)).expanduser()
    if not folder.is_dir():
        raise CannotReproduceError(
            f"The {role} is no longer at {folder}. Say where it is: --location {role}=PATH."
        )
    used = SourceFiles.acquired(folder, store.tree_path(model))
    other = used.differing(stamps=store.stamps)
    if other:
        raise CannotReproduceError(
            f"What lies at {folder} is not the {role} that was used: {listing(other)}. Give the "
            f"folder with the same files: --location {role}=PATH."
        )
    return folder


def _built(store: Store, model: Record) -> Path | None:
    """Return the folder of a model that a step of this store trained."""
    match model.provenance.get("inputs"):
        case {"built": {"key": str(key)}}:
            found = store.lookup(StepKey(key))
            return store.tree_path(found) if found is not None else None
    return None


def _run(store: Store, record: Record, made: Mapping[str, Any]) -> RunConfig:
    # A step whose numerics name no device computed on the CPU, whatever the run was set to.
    device = record.payload.numerics.get("device", "cpu")
    fields = {"store": str(store.root), "device": device, "threads": made["threads"]}
    return RunConfig.model_validate(fields)


def _refuse_other(record: Record, payload: Any) -> NoReturn:
    found = [
        f"{item.field}: {_text(item.a)} then, {_text(item.b)} now"
        for item in diff(record.payload, payload)
    ]
    raise CannotReproduceError(
        f"What {_name(record)} would be computed from is not what it was made from: "
        f"{'; '.join(found)}. Give the same files (--location), or install what made it."
    )


def _text(value: object) -> str:
    return "absent" if isinstance(value, Absent) else str(value)


def _name(record: Record) -> str:
    return f"{record.step} {record.key[:12]}"
