"""Safetensors checkpoints whose matrices are packed: GPTQ, AWQ, bitsandbytes, float8."""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paraknow_core.checkpoint.model_folder import model_files
from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.checkpoint.tokenizer_files import TOKENIZER_FILES
from paraknow_core.dequantisation.packing import MatrixParts, PackedMatrix, Packing
from paraknow_core.dequantisation.schemes import METHODS_OF_PACKING
from paraknow_core.errors import ArchitectureError, CheckpointError
from paraknow_core.models.config import checked_config, read_raw_config
from paraknow_core.models.describe import foreseen
from paraknow_core.models.families import Family
from paraknow_core.models.family_tables import FAMILIES

QUANTISATION_FIELDS = ("quantization_config", "compression_config")
_PLAIN = (torch.float32, torch.bfloat16, torch.float16)


def quantisation_of(raw: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a config.json says of how weights are packed; None if they are not."""
    found = next((raw[name] for name in QUANTISATION_FIELDS if raw.get(name)), None)
    return found if isinstance(found, Mapping) else None


class PackedFolder:
    """A model folder with packed matrices; see ``QuantisedModel``."""

    notes: tuple[str, ...] = ()

    def __init__(self, folder: Path) -> None:
        """Read config and headers, and find out how each parameter is stored.

        Raises:
            ArchitectureError: if the method of quantisation or the model is not supported.
            CheckpointError: if a file is damaged, a tensor is missing, or one is left over.
        """
        self.folder = folder
        raw = read_raw_config(folder)
        said = quantisation_of(raw) or {}
        self._packing = _packing(said, folder)
        self.kind = self._packing.name
        rest = {name: value for name, value in raw.items() if name not in QUANTISATION_FIELDS}
        self.config: Mapping[str, Any] = checked_config(rest, folder)
        self._family: Family = FAMILIES[self.config["model_type"]]
        self._checkpoint = Checkpoint(folder)
        self._stored, self._packed = self._find()
        self.types: Mapping[str, str] = {
            name: self._packed[name].type if name in self._packed else self._plain_type(name)
            for name in (tensor.parameter for tensor in foreseen(self.config).tensors)
        }

    @property
    def files(self) -> tuple[str, ...]:
        """All that belongs to the model."""
        return tuple(model_files(self.folder))

    def read(self, parameter: str) -> Tensor:
        """As ``QuantisedModel.read``."""
        if parameter not in self._packed:
            return self._checkpoint.read(self._stored[parameter])
        packed = self._packed[parameter]
        parts = {part: self._checkpoint.read(name) for part, name in packed.parts.items()}
        try:
            return packed.weight(parts)
        except (RuntimeError, IndexError, ValueError) as error:
            shapes = ", ".join(f"{part} {tuple(t.shape)}" for part, t in parts.items())
            raise CheckpointError(
                f"{self.folder}: the tensors of {parameter} ({shapes}) do not fit together as "
                f"{self.kind} packs them: {error}. Download the model again."
            ) from error

    def write_tokenizer(self, folder: Path) -> None:
        """Copy the tokenizer's files."""
        for name in TOKENIZER_FILES:
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)

    def _find(self) -> tuple[dict[str, str], dict[str, PackedMatrix]]:
        """Parameter → its tensor where it is plain, and how it is packed where it is not."""
        names = set(self._checkpoint.names)
        stored: dict[str, str] = {}
        packed: dict[str, PackedMatrix] = {}
        used: set[str] = set()
        for tensor in foreseen(self.config).tensors:
            found = self._packed_as(tensor.parameter, names, tensor.shape)
            if found is not None:
                if tensor.transposed:
                    raise ArchitectureError(
                        f"{self.folder}: {tensor.parameter} is packed and stored transposed; that "
                        "is not supported. Take the original's safetensors."
                    )
                packed[tensor.parameter] = found
                used |= set(found.parts.values())
                continue
            plain = [n for n in self._family.stored_names(tensor.parameter) if n in names]
            if not plain:
                raise CheckpointError(
                    f"{self.folder}: {tensor.parameter} follows from config.json, but the weights "
                    f"hold neither it nor what {self.kind} packs it as "
                    f"({', '.join(self._packing.needed)}). A file is incomplete, or this is not "
                    f"{self.kind}."
                )
            stored[tensor.parameter] = plain[0]
            used.add(plain[0])
        self._refuse_extra(names - used)
        return stored, packed

    def _packed_as(
        self, parameter: str, names: set[str], shape: tuple[int, ...]
    ) -> PackedMatrix | None:
        for name in self._family.stored_names(parameter):
            module, _, ending = name.rpartition(".")
            if ending != "weight" or len(shape) != 2:
                continue
            ends = {n.removeprefix(f"{module}."): n for n in names if n.startswith(f"{module}.")}
            dtypes = {end: self._checkpoint.dtype(n) for end, n in ends.items()}
            parts = MatrixParts(f"{self.folder}: {module}", ends, dtypes, (shape[0], shape[1]))
            found = self._packing.find(parts)
            if found is not None:
                return found
        return None

    def _plain_type(self, parameter: str) -> str:
        dtype = self._checkpoint.dtype(self._stored[parameter])
        if dtype not in _PLAIN:
            raise CheckpointError(
                f"{self.folder}: {parameter} is stored as {dtype} without what {self.kind} needs "
                "beside it. Download the model again."
            )
        return str(dtype).removeprefix("torch.")  # float16, bfloat16, float32

    def _refuse_extra(self, left: set[str]) -> None:
        ignored = (*self._family.leftovers, *self._packing.ignored)
        tied = bool(self.config.get("tie_word_embeddings", self._family.tied))
        for name in sorted(left):
            if name.endswith(ignored) or (tied and "lm_head." in name):
                continue
            raise CheckpointError(
                f"{self.folder}: tensor {name!r} belongs to no parameter of a "
                f"{self.config['model_type']} model as {self.kind} packs it. Take the original's "
                "safetensors."
            )


def _packing(said: Mapping[str, Any], folder: Path) -> Packing:
    method = said.get("quant_method") or ("bitsandbytes" if "load_in_4bit" in said else "")
    if method not in METHODS_OF_PACKING:
        raise ArchitectureError(
            f"{folder}/config.json: quantised by {str(method)[:40]!r}. Made plain are "
            f"{', '.join(METHODS_OF_PACKING)}; of others take the original's safetensors."
        )
    return METHODS_OF_PACKING[str(method)](said, folder)
