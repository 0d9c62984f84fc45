"""What a teacher is, or would be made into, before any step runs."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

from artifacts.disk.sizes import size_text
from flows.inspection.needs import StepNeed
from paraknow_core.errors import ModelFolderError
from paraknow_core.models.describe import Architecture, describe
from tasks.engine.estimates import Estimate
from tasks.engine.step import NotDownloadedError
from tasks.teachers.dense_experts import DenseExpertsConfig, dense_experts, needed_for
from tasks.teachers.dequantise import DequantiseConfig, dequantise, estimate_of
from tasks.teachers.find import GGUF_ENDING, find_model, find_quantised

if TYPE_CHECKING:
    from paraknow_core.dequantisation.quantised_model import QuantisedModel


@dataclass(frozen=True)
class InspectedTeacher:
    """A teacher as the steps would see it.

    Attributes:
        architecture: its sizes and tensors.
        vocabulary: token → row.
        steps: that would make it.
        notes: what would be done to it.
    """

    architecture: Architecture
    vocabulary: Mapping[str, int]
    steps: tuple[StepNeed, ...] = ()
    notes: tuple[str, ...] = ()


def find_here(model: str, *, download: bool) -> Path:
    """Return the folder of a model, as ``find_model``.

    Raises:
        ModelFolderError: also if it would have to be downloaded first, and may not.
    """
    try:
        return find_model(model, "main", download=download)
    except NotDownloadedError:
        raise ModelFolderError(
            f"{model!r} is no folder here, and as a Hub id it is not on this machine. Add "
            "--download to fetch it (all of its weights), or check the spelling."
        ) from None


def teacher_of(model: str, *, download: bool) -> InspectedTeacher:
    """Look at a teacher; of a quantised one say what plain model would be made of it.

    Raises:
        ParaknowError: if it cannot be read, or is of a kind that is not supported.
    """
    from paraknow_core.dequantisation.find import holds_quantised
    from paraknow_core.dequantisation.mixtures import is_mixture
    from paraknow_core.models.load import load_tokenizer

    folder = None if model.endswith(GGUF_ENDING) else find_here(model, download=download)
    if folder is not None and is_mixture(folder):
        return _of_experts(folder)
    if folder is not None and not holds_quantised(folder):
        return InspectedTeacher(describe(folder), load_tokenizer(folder).get_vocab())
    return _quantised(find_quantised(model, "main", "", download=False))


def _quantised(model: "QuantisedModel") -> InspectedTeacher:
    from paraknow_core.dequantisation.quantised_model import plain_architecture, type_counts

    dtype = DequantiseConfig().dtype
    plain = plain_architecture(model, dtype)
    types = ", ".join(f"{count} {name}" for name, count in type_counts(model).items())
    note = (
        f"The teacher is quantised ({model.kind}: {types}). It would be written once as plain "
        f"{dtype} weights, {size_text(plain.weight_bytes)}, and all steps read those. Ask for "
        f"that with teacher.dequantise: {dtype}."
    )
    return _made(model, plain, dequantise.name, estimate_of(plain), note)


def _of_experts(folder: Path) -> InspectedTeacher:
    from paraknow_core.dequantisation.dense_model import DenseModel
    from paraknow_core.dequantisation.quantised_model import plain_architecture

    model = DenseModel(folder, way=DenseExpertsConfig().experts)
    plain = plain_architecture(model, model.dtype)
    note = (
        f"The teacher is a mixture of experts. A dense model of {size_text(plain.weight_bytes)} "
        "would be made of it, and all steps read that. Ask for it with teacher.experts: chosen, "
        "or blended. With chosen:"
    )
    return _made(model, plain, dense_experts.name, needed_for(model), note)


def _made(
    model: "QuantisedModel", plain: Architecture, step: str, need: Estimate, note: str
) -> InspectedTeacher:
    """What a model will be that a step makes."""
    from paraknow_core.dequantisation.write import write_head
    from paraknow_core.models.load import load_tokenizer

    with TemporaryDirectory() as aside:
        write_head(model, Path(aside))
        vocabulary = load_tokenizer(Path(aside)).get_vocab()
    steps = (StepNeed(step, need.memory_bytes, need.disk_bytes, None),)
    return InspectedTeacher(plain, vocabulary, steps, (note, *model.notes))
