"""What every kind of quantised checkpoint is to the rest of the program."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from torch import Tensor

from paraknow_core.models.config import own_names
from paraknow_core.models.describe import Architecture, foreseen

SAFETENSORS_NAMES: Mapping[str, str] = {"float32": "F32", "bfloat16": "BF16", "float16": "F16"}
"""What safetensors calls the dtypes that weights may be written in."""


class QuantisedModel(Protocol):
    """A quantised checkpoint whose weights are read one at a time."""

    @property
    def kind(self) -> str:
        """The format, as messages call it."""
        ...

    @property
    def folder(self) -> Path:
        """Where its files lie."""
        ...

    @property
    def files(self) -> tuple[str, ...]:
        """Those that its weights, config and tokenizer are read from."""
        ...

    @property
    def config(self) -> Mapping[str, Any]:
        """The fields of its config.json that count, under their common names."""
        ...

    @property
    def types(self) -> Mapping[str, str]:
        """The model's parameter → how the file stores it, such as ``Q4_K``."""
        ...

    @property
    def notes(self) -> tuple[str, ...]:
        """What a user should know of how it was read."""
        ...

    def read(self, parameter: str) -> Tensor:
        """Read one parameter of the Transformers model, in its shape there.

        Returns:
            A tensor on the CPU, in float32; where the file holds plain numbers, in their dtype.

        Raises:
            CheckpointError: if it cannot be made; says of what, and why.
        """
        ...

    def write_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer's files into a folder.

        Raises:
            TokenizerError: if there is none that can be used; says what to do.
        """
        ...


def plain_architecture(model: QuantisedModel, dtype: str) -> Architecture:
    """Sizes and tensors of the plain model that a quantised one is written as.

    Args:
        model: the quantised one; only its config is used.
        dtype: ``float32``, ``bfloat16`` or ``float16``.
    """
    found = foreseen(model.config)
    stored = SAFETENSORS_NAMES[dtype]
    return replace(found, tensors=tuple(replace(t, dtype=stored) for t in found.tensors))


def config_fields(model: QuantisedModel) -> dict[str, Any]:
    """The fields of config.json, under the names that the family's config class uses."""
    return own_names(model.config)


def type_counts(model: QuantisedModel) -> dict[str, int]:
    """How many parameters are stored in which type, the commonest first."""
    return dict(Counter(model.types.values()).most_common())
