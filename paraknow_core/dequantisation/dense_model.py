"""The dense model that stands for a mixture of experts on some texts; see ``QuantisedModel``.

Of each layer's experts one feed-forward block is made: that of the expert to which most tokens were
sent, or the mean of all, weighted by what the routers gave them. Shapes: F = width of an expert,
S = of the shared one, N = hidden size.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paraknow_core.checkpoint.model_folder import model_files
from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.checkpoint.tokenizer_files import TOKENIZER_FILES
from paraknow_core.dequantisation.mixtures import read_mixture
from paraknow_core.dequantisation.routing import Routing
from paraknow_core.errors import CheckpointError
from paraknow_core.models.describe import WEIGHT_DTYPES, foreseen

WAYS = ("chosen", "blended")
_KINDS = ("gate_proj", "up_proj", "down_proj")
_DTYPES = {torch.float32: "float32", torch.bfloat16: "bfloat16", torch.float16: "float16"}


class DenseModel:
    """A mixture of experts, read as a dense model; plain weights are read as they are."""

    kind = "mixture of experts"

    def __init__(self, folder: Path, *, way: str, routing: Routing | None = None) -> None:
        """Read config and headers.

        Args:
            folder: of the mixture.
            way: ``chosen``: the expert to which most tokens were sent; ``blended``: the mean of all
                experts' matrices, weighted by the sums of their routing weights.
            routing: of the texts; without it no block can be read.

        Raises:
            ArchitectureError: as ``read_mixture``.
            CheckpointError: if a tensor is missing, left over, or of an unknown type.
        """
        self.folder, self.way, self.routing = folder, way, routing
        self.mixture = read_mixture(folder)
        self.config: Mapping[str, Any] = self.mixture.dense
        self._checkpoint = Checkpoint(folder)
        self._check()
        names = [tensor.parameter for tensor in foreseen(self.config).tensors]
        self.types: Mapping[str, str] = {name: self._type(name) for name in names}

    @property
    def files(self) -> tuple[str, ...]:
        """All that belongs to the model."""
        return tuple(model_files(self.folder))

    @property
    def notes(self) -> tuple[str, ...]:
        """What a dense model of it leaves out."""
        mixture = self.mixture
        shared = (
            f", joined by the shared expert of width {mixture.shared_width}, times the mean of its "
            "gate"
            if mixture.shared_width
            else ""
        )
        made = {
            "chosen": "the one that most of the seeds' tokens are sent to",
            "blended": "their mean, weighted by how the seeds are routed",
        }[self.way]
        return (
            f"Of each layer's {mixture.experts} experts of width {mixture.width} one block is "
            f"made: {made}{shared}.",
        )

    @property
    def dtype(self) -> str:
        """The dtype of the embedding: that the dense weights are written in."""
        return _DTYPES[self._checkpoint.dtype("model.embed_tokens.weight")]

    def read(self, parameter: str) -> Tensor:
        """As ``QuantisedModel.read``."""
        parts = parameter.split(".")
        if ".mlp." not in parameter:
            return self._checkpoint.read(parameter)
        return self._block(int(parts[2]), _KINDS.index(parts[-2]))

    def write_tokenizer(self, folder: Path) -> None:
        """Copy the tokenizer's files."""
        for name in TOKENIZER_FILES:
            if (self.folder / name).is_file():
                shutil.copyfile(self.folder / name, folder / name)

    def _block(self, layer: int, kind: int) -> Tensor:
        """Gate, up or down: F × N or N × F, with the shared expert (F + S) × N or N × (F + S)."""
        if self.routing is None:
            raise CheckpointError(f"{self.folder}: which experts count is known only of texts.")
        is_down = kind == _KINDS.index("down_proj")
        weights_E = self.routing.weights[layer]
        # Where the weights of a token's experts do not add up to 1, one block must be as small.
        scales = is_down and not self.mixture.is_normed
        scale = float(weights_E.sum()) / self.routing.tokens if scales else 1.0
        if self.way == "chosen":
            made = self._expert(layer, int(self.routing.counts[layer].argmax()), kind)
        else:
            share_E = weights_E / weights_E.sum()
            used = [int(e) for e in share_E.nonzero()]
            made = torch.stack([share_E[e] * self._expert(layer, e, kind) for e in used]).sum(0)
        block = made * scale
        family = self.mixture.family
        if family.shared:
            place = family.shared.format(layer=layer)
            shared = self._checkpoint.read(f"{place}.{_KINDS[kind]}.weight").double()
            gate = float(self.routing.shared[layer]) if is_down else 1.0
            block = torch.cat((block, shared * gate), dim=1 if is_down else 0)
        return block

    def _expert(self, layer: int, expert: int, kind: int) -> Tensor:
        name = self._name(layer, expert, kind)
        return self._checkpoint.read(name).double()

    def _name(self, layer: int, expert: int, kind: int) -> str:
        family = self.mixture.family
        return family.expert.format(layer=layer, expert=expert, kind=family.kinds[kind])

    def _type(self, parameter: str) -> str:
        if ".mlp." not in parameter:
            return str(self._checkpoint.dtype(parameter)).removeprefix("torch.")
        return f"{self.way} of {self.mixture.experts} experts"

    def _check(self) -> None:
        """Every tensor of the mixture is there, and no other."""
        mixture, family = self.mixture, self.mixture.family
        wanted = {t.parameter for t in foreseen(self.config).tensors if ".mlp." not in t.parameter}
        for layer in range(mixture.layers):
            wanted |= {
                self._name(layer, expert, kind)
                for expert in range(mixture.experts)
                for kind in range(len(_KINDS))
            }
            wanted.add(family.router.format(layer=layer))
            if family.shared:
                place = family.shared.format(layer=layer)
                wanted |= {f"{place}.{kind}.weight" for kind in _KINDS} | {f"{place}_gate.weight"}
        held = set(self._checkpoint.names)
        missing, left = sorted(wanted - held), sorted(held - wanted)
        left = [name for name in left if not name.endswith("rotary_emb.inv_freq")]
        if missing or left:
            told = f"lacks {missing[0]}" if missing else f"also holds {left[0]}"
            raise CheckpointError(
                f"{self.folder}: of a {mixture.model_type} model of this config.json the folder "
                f"{told}. Is the download complete? Take the original's files."
            )
        strange = [name for name in wanted if self._checkpoint.dtype(name) not in _DTYPES]
        if strange:
            raise CheckpointError(
                f"{self.folder}: {min(strange)} is stored as "
                f"{self._checkpoint.dtype(min(strange))}; read are {', '.join(WEIGHT_DTYPES)}."
            )
