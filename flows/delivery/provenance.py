"""Where an adapter comes from, read off the store's records: models, data, steps, scores."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from artifacts.errors import UnknownKeyError
from artifacts.queries.lineage import Lineage
from artifacts.records import Record
from artifacts.store import Store
from paraknow_core.distillation.recipe import DistillationRecipe, loss_name
from paraknow_core.errors import DivergedError
from paraknow_core.methods import METHODS, PLAIN, TRANSFER, used_by
from paraknow_core.report.model_card import StepNote
from tasks.engine.step_names import MODEL_STEP

TRAINED = "finetune"
WEIGHTS = "adapter_model.safetensors"
_NAMES = {
    "lora": "LoRA that starts from the teacher's most sensitive parameters (SeeKing, arXiv "
    "2310.11451); the start product is taken off again, so step 0 is the untouched student",
    "plain-lora": "plain LoRA (arXiv 2106.09685) with PEFT's own initialisation",
    "signal-start": "LoRA that starts from the student with an update of the teacher's signals, "
    "which is part of what is delivered",
    "transport": "LoRA that starts from the student with an update of the teacher's parameters, "
    "which is part of what is delivered",
    "student-start": "LoRA that starts from the student's own parameters",
    "compose": "LoRA whose start point is put together of several methods",
}
_METHODS_OF = {"lora": TRANSFER, "plain-lora": PLAIN}
"""The method of a step that has but one."""
_CONTROLS = ("control", "random-model")
_MARKS = ("shuffle", "shuffled", "drawn", "instead")
"""Settings that only a control has."""


@dataclass(frozen=True)
class AdapterOrigin:
    """What the store knows of an adapter; None where a record was collected meanwhile.

    Attributes:
        adapter: the fine-tuning's record.
        student, teacher, data, start: the records that it was made from.
        steps: every step above it, and itself last.
        scores: model → metric → value, of evaluations on one test split.
        benchmarks: benchmark and metric → value of the untouched student and of the adapter.
    """

    adapter: Record
    student: Record | None
    teacher: Record | None
    data: Record | None
    start: Record | None
    steps: tuple[StepNote, ...]
    scores: Mapping[str, Mapping[str, float]]
    benchmarks: Mapping[str, tuple[float | None, float | None]]

    @property
    def method(self) -> str:
        """How it was made, in one sentence."""
        step = self.start.step if self.start is not None else ""
        how = _NAMES.get(step, f"LoRA from a start point of the step {step or 'that is unknown'}")
        if step not in _METHODS_OF and self._methods:
            how += f": {', '.join(self._methods)}"
        facts = self.adapter.facts
        return " ".join(
            [
                f"{how[0].upper()}{how[1:]}; {self._uses}. Fine-tuned for "
                f"{facts.get('steps', 'unknown')} optimizer steps on {loss_name(self._taught)}; "
                f"delivered at rank {facts.get('rank', 'unknown')} on the unmodified student.",
                *self._controls(),
            ]
        )

    @property
    def _methods(self) -> tuple[str, ...]:
        """The methods that the start point comes from, as far as its record says."""
        if self.start is None:
            return ()
        parts, one = self.start.facts.get("parts"), self.start.payload.config.get("method")
        named = parts if isinstance(parts, Mapping) else (one or _METHODS_OF.get(self.start.step),)
        return tuple(str(name) for name in named if name)

    @property
    def _taught(self) -> DistillationRecipe | None:
        """How the training learned from a teacher's outputs, if it did."""
        said = self.adapter.payload.config.get("distillation")
        if not isinstance(said, Mapping):
            return None
        fields = DistillationRecipe.model_fields
        return DistillationRecipe.model_validate({n: v for n, v in said.items() if n in fields})

    @property
    def _uses(self) -> str:
        """What of the teacher start point and training use together."""
        known = [name for name in self._methods if name in METHODS]
        uses = used_by(*known, outputs=self._taught is not None)
        if not known:
            return f"of the teacher it may use more than: {uses or 'nothing'}"
        if any(METHODS[name].changes == "teacher" for name in known):
            more = "; of the teacher: outputs" if self._taught is not None else ""
            return f"of what stands in for the teacher it uses: {used_by(*known)}{more}"
        return f"of the teacher it uses: {uses}" if uses else "no teacher"

    def _controls(self) -> Iterable[str]:
        """A control must never pass for a transfer."""
        named = [name for name in self._methods if name in METHODS and METHODS[name].is_control]
        for name in named:
            yield f"THIS IS A CONTROL ({name}): {METHODS[name].start}."
        for note in () if named else self.steps:
            if note.step in _CONTROLS or any(map(note.settings.get, _MARKS)):
                what = note.settings.get("name", note.step)
                yield f"THIS IS A CONTROL ({what}), made so that it holds less of the teacher."
        if self.teacher is not None and self.teacher == self.student:
            yield "THIS IS A CONTROL: the student is its own teacher."

    @property
    def versions(self) -> dict[str, str]:
        """Program and libraries at the time of training."""
        said = self.adapter.provenance
        libraries = said.get("libraries")
        found = {"paraknow": said.get("paraknow"), "Python": said.get("python")}
        if isinstance(libraries, dict):
            found |= libraries
        return {name: str(version) for name, version in found.items() if version}


def find_adapter(store: Store, lineage: Lineage[Record], prefix: str) -> Record:
    """Return the fine-tuning whose key starts with ``prefix``.

    Raises:
        UnknownKeyError: if there is none, or more than one; says what was found instead.
        DivergedError: if its training ended without an adapter.
    """
    trained = [r for r in lineage.records.values() if r.step == TRAINED]
    found = [record for record in trained if prefix and record.key.startswith(prefix)]
    if len(found) == 1:
        return _with_weights(found[0])
    if found:
        shown = ", ".join(record.key[:16] for record in found[:5])
        raise UnknownKeyError(
            f"{prefix!r} begins {len(found)} keys of fine-tunings ({shown} …); give more digits"
        )
    others = [r.step for key, r in lineage.records.items() if prefix and key.startswith(prefix)]
    is_other = f"{prefix!r} is the key of {', '.join(sorted(set(others)))}, " if others else ""
    known = ", ".join(record.key[:16] for record in trained[:5]) or "none"
    raise UnknownKeyError(
        f"{is_other}no fine-tuning in {store.root} has a key that starts with {prefix!r}; there "
        f"are: {known} (`paraknow store ls --step {TRAINED}`)"
    )


def _with_weights(trained: Record) -> Record:
    if WEIGHTS not in trained.files:
        raise DivergedError(
            f"the fine-tuning {trained.key[:16]} has no adapter to deliver: "
            f"{trained.facts.get('diverged', 'it diverged')}"
        )
    return trained


def origin_of(lineage: Lineage[Record], adapter: Record) -> AdapterOrigin:
    """Follow an adapter's inputs to its models, data and steps, and find its evaluations."""
    direct = {found.role: found.record for found in lineage.inputs(adapter)}
    student, data = direct.get("student"), direct.get("data")
    return AdapterOrigin(
        adapter=adapter,
        student=student,
        teacher=_teacher(lineage, adapter, student),
        data=data,
        start=direct.get("start"),
        steps=tuple(_steps(lineage, adapter)),
        scores=_scores(lineage.records.values(), adapter),
        benchmarks=_benchmarks(lineage.records.values(), adapter),
    )


def _teacher(lineage: Lineage[Record], adapter: Record, student: Record | None) -> Record | None:
    for _, found in lineage.walk(adapter):
        if found.role == "teacher" and found.record is not None and found.step == MODEL_STEP:
            return found.record
    models = [
        m
        for m in lineage.depends_on(adapter, MODEL_STEP)
        if student is None or m.key != student.key
    ]
    return models[0] if len(models) == 1 and student is not None else None


def _steps(lineage: Lineage[Record], adapter: Record) -> Iterable[StepNote]:
    seen = set()
    for _, found in lineage.walk(adapter):
        if found.record is not None and found.record.key not in seen:
            seen.add(found.record.key)
            yield _note(found.role, found.record)
    yield _note("the adapter", adapter)


def _note(role: str, record: Record) -> StepNote:
    settings = dict(record.payload.config)
    if record.payload.seed is not None:
        settings["seed"] = record.payload.seed
    return StepNote(role, record.step, record.payload.version, record.key, settings)


def _scores(records: Iterable[Record], adapter: Record) -> dict[str, dict[str, float]]:
    """Evaluations of this very adapter, by its bytes, and of the untouched student."""
    mine = adapter.files[WEIGHTS].digest
    tests = [r for r in records if r.step == "evaluate"]
    of_adapter = [r for r in tests if r.payload.inputs.get(f"adapter.{WEIGHTS}") == mine]
    found = {}
    for number, record in enumerate(sorted(of_adapter, key=lambda r: r.key)):
        suffix = f" ({record.key[:8]})" if number else ""
        bare = {r: d for r, d in record.payload.inputs.items() if not r.startswith("adapter.")}
        settings = record.payload.config
        for other in tests:
            if other.payload.inputs == bare and other.payload.config == settings:
                found[f"untouched student{suffix}"] = _numbers(other)
        found[f"this adapter{suffix}"] = _numbers(record)
    return found


def _benchmarks(
    records: Iterable[Record], adapter: Record
) -> dict[str, tuple[float | None, float | None]]:
    """Benchmarks of this very adapter, by its bytes, beside the untouched student's."""
    mine = adapter.files[WEIGHTS].digest
    runs = [r for r in records if r.step == "benchmark"]
    found: dict[str, tuple[float | None, float | None]] = {}
    for record in sorted(runs, key=lambda r: r.key):
        if record.payload.inputs.get(f"adapter.{WEIGHTS}") != mine:
            continue
        bare = {r: d for r, d in record.payload.inputs.items() if not r.startswith("adapter.")}
        config = record.payload.config
        same = [r for r in runs if (r.payload.inputs, r.payload.config) == (bare, config)]
        before = _told(same[0]) if same else {}
        found |= {name: (before.get(name), value) for name, value in _told(record).items()}
    return found


def _told(record: Record) -> dict[str, Any]:
    scores = record.facts.get("scores")
    return dict(scores) if isinstance(scores, dict) else {}


def _numbers(record: Record) -> dict[str, float]:
    return {name: value for name, value in record.facts.items() if type(value) in (int, float)}  # type: ignore[misc]


def folder_of_built(lineage: Lineage[Record], store: Store, model: Record | None) -> Path | None:
    """Return where the files of a model lie that was trained here, None for one from outside."""
    if model is None:
        return None
    for found in lineage.inputs(model):
        if found.role == "built" and found.record is not None:
            record = store.lookup(found.record.key)
            return store.tree_path(record) if record is not None else None
    return None


def original_of_built(lineage: Lineage[Record], model: Record | None) -> Path | None:
    """Return where the checkpoint lay that a model was made of here; None if of nothing outside.

    A quantised model or a mixture of experts states its licence there, and the one that was made of
    it has none of its own.
    """
    if model is None:
        return None
    for found in lineage.inputs(model):
        if found.role == "built" and found.record is not None:
            location = found.record.provenance.get("location")
            return Path(str(location)) if location else None
    return None
