"""Whether a model can be the one that a teacher was tuned from, by their sizes. Needs no torch."""

from dataclasses import replace
from pathlib import Path
from typing import Any

from paraknow_core.errors import ConfigError
from paraknow_core.models.describe import Architecture, describe


def check_base(tuned: Architecture, base: Architecture) -> None:
    """Refuse a base that cannot be the one that a teacher was tuned from, by its sizes.

    Raises:
        ConfigError: names the first difference.
    """
    theirs, ours = (_comparable(model) for model in (tuned, base))
    if theirs == ours:
        return
    for name in ("model_type", *Architecture.__dataclass_fields__):
        if theirs[name] != ours[name]:
            break
    told = "" if name == "tensors" else f": {name} is {ours[name]} in it, {theirs[name]} in that"
    raise ConfigError(
        f"teacher_base is not what the teacher was tuned from{told or ': its tensors are others'}. "
        "Give the model that the teacher's tuning began with."
    )


def _comparable(model: Architecture) -> dict[str, Any]:
    """The sizes that tuning leaves as they are; dtypes and files may be others."""
    same = tuple(sorted((t.parameter, t.shape) for t in model.tensors))
    bare = replace(model, tensors=())
    return {name: getattr(bare, name) for name in Architecture.__dataclass_fields__} | {
        "tensors": same
    }


def same_sizes(tuned: Path, base: Path) -> Architecture:
    """Describe a teacher and its base, and refuse what cannot belong together.

    Raises:
        ConfigError: as ``check_base``.
        ModelFolderError, ArchitectureError, CheckpointError: as ``describe``.
    """
    teacher = describe(tuned)
    check_base(teacher, describe(base))
    return teacher
