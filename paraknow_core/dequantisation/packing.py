"""What a packed matrix is: its tensors, and how its weight is made of them."""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paraknow_core.errors import ArchitectureError, CheckpointError

Tensors = Mapping[str, Tensor]
"""A matrix's tensors by the ends of their names, such as ``qweight``."""


@dataclass(frozen=True)
class MatrixParts:
    """What a file holds under the name of one module.

    Attributes:
        module: its name, for messages.
        names: end of a tensor's name → the whole name.
        dtypes: end of a tensor's name → element type.
        shape: (M, N) that the config makes of the weight.
    """

    module: str
    names: Mapping[str, str]
    dtypes: Mapping[str, torch.dtype]
    shape: tuple[int, int]

    def taken(self, needed: Iterable[str], optional: Iterable[str] = ()) -> dict[str, str]:
        """The whole names of some tensors.

        Raises:
            CheckpointError: if one that is needed is missing.
        """
        missing = [end for end in needed if end not in self.names]
        if missing:
            raise CheckpointError(
                f"{self.module} is packed, but its {', '.join(missing)} is missing. A file is "
                "incomplete: download the model again."
            )
        return {end: self.names[end] for end in (*needed, *optional) if end in self.names}


@dataclass(frozen=True)
class PackedMatrix:
    """One packed matrix.

    Attributes:
        type: how it is stored, in a few words.
        parts: end of a tensor's name → the whole name.
        weight: makes the M × N weight, in float32, of the tensors.
    """

    type: str
    parts: Mapping[str, str]
    weight: Callable[[Tensors], Tensor]


@dataclass(frozen=True)
class Packing:
    """A method of quantisation with its settings.

    Attributes:
        name: as messages call it.
        needed: ends of the names of the tensors that a packed matrix has.
        find: how a module's matrix is packed; None if it is not.
        ignored: ends of names of tensors that no weight depends on.
    """

    name: str
    needed: tuple[str, ...]
    find: Callable[[MatrixParts], PackedMatrix | None]
    ignored: tuple[str, ...] = ()


def refused(folder: Path, what: str) -> ArchitectureError:
    """Return the error for a setting of the quantisation that is not supported."""
    return ArchitectureError(
        f"{folder}/config.json: {what}, which cannot be made plain. Take the original's "
        "safetensors."
    )


def allowed_value(
    said: Mapping[str, Any], name: str, allowed: Collection[Any], folder: Path, *, default: Any
) -> Any:
    """Return a setting of the quantisation.

    Raises:
        ArchitectureError: if it is none of ``allowed``.
    """
    value = said.get(name, default)
    value = value.lower() if isinstance(value, str) else value
    if value not in allowed:
        shown = ", ".join(map(str, allowed))
        raise refused(folder, f"{name} of the quantisation is {value!r} (known: {shown})")
    return value
