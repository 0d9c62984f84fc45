"""The compatibility report of a pair, from configs, headers and tokenizers; stores nothing."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from artifacts.disk.files import free_bytes
from artifacts.disk.locations import default_store_root
from flows.calibration.stored import Where, calibrated
from flows.inspection.limits import disk_problems, layer_note, memory_notes, memory_problems
from flows.inspection.needs import (
    StepNeed,
    measured,
    memory_needs,
    needs,
    rates_of,
    settings_of,
)
from flows.inspection.teacher import find_here, teacher_of
from paraknow_core.inspection.compatibility import (
    Compatibility,
    Problem,
    Vocabularies,
    compare_models,
    compare_vocabularies,
)
from paraknow_core.inspection.laws import SlotRates
from paraknow_core.models.describe import Architecture, describe
from tasks.decompose import DecomposeConfig
from tasks.rows.config import SizesConfig
from tasks.starts.lora import LoraConfig

if TYPE_CHECKING:
    from paraknow_core.inspection.machine import Machine

_UNLIMITED = 2**62


@dataclass(frozen=True)
class InspectionRequest:
    """What is asked: the pair, and the settings that matter for what it needs.

    Attributes:
        teacher, student: folders or Hub ids.
        roles: kinds of matrix; empty for all.
        rank: of the adapter.
        samples: seed samples of the sensitivity.
        tokens: of a row, which estimates assume.
        structure: how matrices are cut; "" for the default.
        dtype: that models are computed in.
        download: whether a Hub id may be downloaded.
        store: where results would go; None for the default place.
    """

    teacher: str
    student: str
    roles: tuple[str, ...] = ()
    rank: int = LoraConfig().rank
    samples: int = SizesConfig().seeds
    tokens: int = 256
    structure: str = ""
    dtype: str = "float32"
    download: bool = False
    store: Path | None = None


@dataclass(frozen=True)
class Inspection:
    """The whole report."""

    question: InspectionRequest
    teacher: Architecture
    student: Architecture
    vocabularies: Vocabularies
    pair: Compatibility
    structure: str
    machine: "Machine"
    rates: SlotRates
    steps: tuple[StepNeed, ...]
    disk_bytes: int
    disk_free_bytes: int
    problems: tuple[Problem, ...]
    notes: tuple[str, ...]

    @property
    def can_run(self) -> bool:
        """Whether nothing stands in the way."""
        return not self.problems

    def to_json(self) -> str:
        """Return the report as JSON text with stable names."""
        return json.dumps(_as_json(self), indent=1)


def inspect_pair(question: InspectionRequest) -> Inspection:
    """Find out whether a pair can run here, what would be cut how, and what it would need.

    Raises:
        ParaknowError: if a model cannot be read, or a setting is not allowed.
    """
    from paraknow_core.models.load import load_tokenizer  # needs torch

    settings = settings_of(
        roles=question.roles,
        rank=question.rank,
        structure=question.structure,
        dtype=question.dtype,
    )
    theirs = teacher_of(question.teacher, download=question.download)
    folder = find_here(question.student, download=question.download)
    teacher, student = theirs.architecture, describe(folder)
    words = compare_vocabularies(
        theirs.vocabulary,
        load_tokenizer(folder).get_vocab(),
        teacher_rows=teacher.vocab_size,
        student_rows=student.vocab_size,
    )
    pair = compare_models(
        teacher,
        student,
        words,
        roles=settings.extract.roles,
        rank=question.rank,
        structure=settings.extract.structure,
        min_share=settings.extract.min_vocabulary_share,
    )
    machine = measured(question.dtype)
    known = calibrated(Where(machine.device, machine.threads, question.dtype))
    rates = known or rates_of(machine, question.dtype)
    needed = needs(
        teacher,
        student,
        pair.matches,
        settings=settings,
        machine=machine,
        rates=rates,
        samples=question.samples,
        tokens=question.tokens,
    )
    steps = [*theirs.steps, *needed]
    place = (question.store or default_store_root()).expanduser().absolute()
    free = free_bytes(next(p for p in (place, *place.parents) if p.is_dir()))
    disk = sum(step.disk_bytes or 0 for step in steps)
    least = settings.one_row_at_once()
    least_memory, in_half = (
        memory_needs(
            teacher,
            student,
            chosen,
            tokens=question.tokens,
            memory_bytes=machine.memory_bytes,
            device=machine.device,
        )
        for chosen in (least, least.in_bfloat16())
    )
    at_once = memory_needs(
        teacher,
        student,
        settings,
        tokens=question.tokens,
        memory_bytes=_UNLIMITED,
        device=machine.device,
    )
    limits = [
        *memory_problems(least_memory, machine, question.dtype, max(in_half.values())),
        *disk_problems(disk, free, place),
    ]
    return Inspection(
        question=question,
        teacher=teacher,
        student=student,
        vocabularies=words,
        pair=pair,
        structure=settings.extract.structure,
        machine=machine,
        rates=rates,
        steps=tuple(steps),
        disk_bytes=disk,
        disk_free_bytes=free,
        problems=(*pair.problems, *limits),
        notes=(
            *theirs.notes,
            *_notes(pair, words),
            *memory_notes(steps, least_memory, machine),
            *layer_note(steps, at_once["sensitivity"]),
        ),
    )


def _notes(pair: Compatibility, words: Vocabularies) -> list[str]:
    notes = []
    default = DecomposeConfig().max_rank
    if 0 < pair.max_rank < default:
        notes.append(
            f"Set decompose.max_rank to at most {pair.max_rank}; its default is {default}."
        )
    if not words.equal:
        notes.append(
            "Rows of embedding and head are matched by token; those without a partner keep the "
            "student's own. extract.min_vocabulary_share says how many must have one."
        )
    return notes


def _as_json(found: Inspection) -> dict[str, Any]:
    question = asdict(found.question)
    question["roles"] = list(found.question.roles)
    question["store"] = str(found.question.store) if found.question.store else None
    question["structure"] = found.structure
    return {
        "can_run": found.can_run,
        "problems": [asdict(problem) for problem in found.problems],
        "notes": list(found.notes),
        "settings": question,
        "teacher": _model_json(found.teacher),
        "student": _model_json(found.student),
        "vocabulary": {
            name: getattr(found.vocabularies, name)
            for name in ("equal", "teacher_tokens", "student_tokens", "shared", "same_row")
        },
        "roles": [asdict(report) for report in found.pair.roles],
        "rank": {
            "asked": found.question.rank,
            "max": found.pair.max_rank,
            "limited_by": found.pair.narrowest,
            "delivered": 2 * found.question.rank,
        },
        "machine": asdict(found.machine),
        "rates": found.rates.told,
        "steps": [asdict(step) for step in found.steps],
        "disk": {"needed_bytes": found.disk_bytes, "free_bytes": found.disk_free_bytes},
    }


def _model_json(model: Architecture) -> dict[str, Any]:
    return {
        "model_type": model.model_type,
        "parameters": model.num_parameters,
        "weight_bytes": model.weight_bytes,
        "dtypes": sorted({tensor.dtype for tensor in model.tensors}),
        "layers": model.num_layers,
        "hidden_size": model.hidden_size,
        "intermediate_size": model.intermediate_size,
        "heads": model.num_heads,
        "kv_heads": model.num_kv_heads,
        "head_dim": model.head_dim,
        "vocab_size": model.vocab_size,
        "tied": model.tied,
        "roles": [str(role) for role in model.roles],
    }
