"""Whether another model can take a teacher's place, so that what it learnt is all that differs."""

from collections.abc import Mapping
from pathlib import Path

from paraknow_core.errors import ConfigError, ShapeError, TokenizerError
from paraknow_core.models.describe import Architecture
from tasks.acquire_model import load_architecture
from tasks.engine.json_files import read_json
from tasks.engine.source_files import MANIFEST


def check_same_shape(known: Mapping[str, Path], _locations: Mapping[str, Path]) -> None:
    """Refuse another teacher of another shape or tokenizer, or one that is the teacher itself.

    Args:
        known: folders of the acquired ``teacher`` and ``other``; nothing is checked without both.

    Raises:
        ShapeError: if a matrix is larger, smaller or missing; names it with both shapes.
        TokenizerError: if their vocabularies differ.
        ConfigError: if both are the same files.
    """
    if not {"teacher", "other"} <= known.keys():
        return
    teacher, other = (_shapes(load_architecture(known[who])) for who in ("teacher", "other"))
    differing = [name for name in teacher | other if teacher.get(name) != other.get(name)]
    if differing:
        first = differing[0]
        raise ShapeError(
            f"other_teacher has another shape than the teacher: {first} is "
            f"{_told(other.get(first))}, the teacher's is {_told(teacher.get(first))}, and "
            f"{len(differing)} of {len(teacher | other)} matrices differ. A control with another "
            "teacher is one thing taken away only where all else is alike: take one of the same "
            "shape."
        )
    tokens = {who: read_json(known[who] / "tokenizer.json") for who in ("teacher", "other")}
    if tokens["teacher"]["vocabulary"] != tokens["other"]["vocabulary"]:
        raise TokenizerError(
            f"other_teacher has another tokenizer ({tokens['other']['size']} tokens) than the "
            f"teacher ({tokens['teacher']['size']} tokens). Take one with the same."
        )
    manifests = [known[who] / MANIFEST for who in ("teacher", "other")]
    if all(path.is_file() for path in manifests) and len({p.read_bytes() for p in manifests}) == 1:
        raise ConfigError(
            "other_teacher is the teacher itself, file by file, so nothing is taken away. Take a "
            "model of the same shape that learnt something else."
        )


def _shapes(model: Architecture) -> dict[str, tuple[int, ...]]:
    """Shapes of all matrices by role and layer; a tied head has none of its own."""
    return {
        str(m.role) if m.layer is None else f"{m.role} of layer {m.layer}": m.shape
        for m in model.matrices
    }


def _told(shape: tuple[int, ...] | None) -> str:
    return "missing" if shape is None else str(list(shape))
