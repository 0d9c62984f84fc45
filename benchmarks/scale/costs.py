"""What steps of a pair of real models take: bytes, and seconds of a GPU or of the CPU beside it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from benchmarks.scale.assumptions import Assumptions
from flows.inspection.needs import StepNeed, needs, settings_of
from paraknow_core.inspection.compatibility import compare_models, compare_vocabularies
from paraknow_core.inspection.machine import Machine
from paraknow_core.models.describe import Architecture, foreseen

ON_GPU = ("sensitivity", "finetune", "evaluate")
LIKE = {"control": "decompose", "student-start": "decompose", "plain-lora": "lora"}
"""Step → the one whose estimate stands for it."""
KEPT = {"finetune": 2 / 8, "sensitivity": 1 / 2}
"""Share of a step's estimated room that its result takes; the rest are checkpoints meanwhile."""
SAMPLES, TOKENS, RANK = 32, 200, 16
_TOKENS = 1000
_LLAMA = {
    "model_type": "llama",
    "vocab_size": 128256,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
}
TEACHER = _LLAMA | {
    "hidden_size": 4096,
    "num_hidden_layers": 32,
    "intermediate_size": 14336,
    "tie_word_embeddings": False,
}
"""Sizes of Llama-3.1-8B."""
STUDENT = _LLAMA | {
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "head_dim": 64,
    "intermediate_size": 8192,
    "tie_word_embeddings": True,
}
"""Sizes of Llama-3.2-1B."""


@dataclass(frozen=True)
class Unit:
    """What one step takes."""

    gpu_seconds: float
    cpu_seconds: float
    disk_bytes: float


@cache
def _needs(a: Assumptions) -> Mapping[str, StepNeed]:
    teacher, student = foreseen(TEACHER), foreseen(STUDENT)
    settings = settings_of(roles=(), rank=RANK, structure="", dtype="bfloat16")
    vocabulary = {str(n): n for n in range(_TOKENS)}
    words = compare_vocabularies(
        vocabulary, vocabulary, teacher_rows=teacher.vocab_size, student_rows=student.vocab_size
    )
    pair = compare_models(
        teacher,
        student,
        words,
        roles=settings.extract.roles,
        rank=RANK,
        structure=settings.extract.structure,
        min_share=settings.extract.min_vocabulary_share,
    )
    # With SVDs beside the GPU, on the CPU, as they are without double precision on it.
    machine = Machine("cpu", 16, a.gpu_flops, a.cpu_flops64, a.gpu_bandwidth, 0, 0)
    found = needs(
        teacher,
        student,
        pair.matches,
        settings=settings,
        machine=machine,
        samples=SAMPLES,
        tokens=TOKENS,
    )
    return {need.step: need for need in found}


def hashed_bytes(model: Mapping[str, object]) -> float:
    """Return the bytes of a model's bfloat16 weights, which acquiring it digests."""
    whole: Architecture = foreseen(model)
    return 2.0 * whole.num_parameters


def unit(step: str, shared: Sequence[str], a: Assumptions) -> Unit:
    """Return what one step of a kind takes, with these models.

    Args:
        step: its name.
        shared: what there is one for each of: one of a student alone has the student's size.
        a: unit costs.
    """
    if step == "acquire-model":
        model = TEACHER if "teacher" in shared else STUDENT
        return Unit(0.0, hashed_bytes(model) / a.hash_rate, a.small_file_bytes)
    need = _needs(a).get(LIKE.get(step, step))
    seconds = (need.seconds or 0.0) if need else 0.0
    size = (need.disk_bytes or a.small_file_bytes) if need else a.small_file_bytes
    size *= KEPT.get(step, 1.0)
    if step in ON_GPU:
        return Unit(seconds + a.step_overhead, 0.0, size)
    return Unit(0.0, seconds + a.light_overhead, size)
