"""Mixtures of experts: which families, what their tensors are called, and the dense model of each.

Needs no torch. Shapes: E = experts of a layer, F = width of one expert, N = hidden size.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from paraknow_core.errors import ArchitectureError
from paraknow_core.models.config import checked_config, own_names, read_raw_config
from paraknow_core.models.config_fields import FIELDS

MOST_EXPERTS = 4096
_LAYER = "model.layers.{layer}."


@dataclass(frozen=True)
class Mixture:
    """A family of mixtures, as its Transformers class and its files have it.

    Attributes:
        dense: the family of the same attention with a dense feed-forward block.
        experts, width: fields of config.json: number of experts of a layer, and their width.
        router: name of the router's matrix, E × N.
        expert: name of an expert's matrix; ``{kind}`` is one of ``kinds``.
        kinds: the file's names of gate, up and down.
        shared: where an expert that every token passes stands; empty if there is none. It has a
            gate of its own, and its width is ``shared_expert_intermediate_size``.
        normed: whether the weights of the chosen experts always add up to 1; if not,
            ``norm_topk_prob`` says.
    """

    dense: str
    experts: str
    width: str
    router: str
    expert: str
    kinds: tuple[str, str, str] = ("gate_proj", "up_proj", "down_proj")
    shared: str = ""
    normed: bool = False


_QWEN_EXPERT = _LAYER + "mlp.experts.{expert}.{kind}.weight"

MIXTURES: Mapping[str, Mixture] = MappingProxyType(
    {
        "mixtral": Mixture(
            dense="mistral",
            experts="num_local_experts",
            width="intermediate_size",
            router=_LAYER + "block_sparse_moe.gate.weight",
            expert=_LAYER + "block_sparse_moe.experts.{expert}.{kind}.weight",
            kinds=("w1", "w3", "w2"),
            normed=True,
        ),
        "qwen2_moe": Mixture(
            dense="qwen2",
            experts="num_experts",
            width="moe_intermediate_size",
            router=_LAYER + "mlp.gate.weight",
            expert=_QWEN_EXPERT,
            shared=_LAYER + "mlp.shared_expert",
        ),
        "qwen3_moe": Mixture(
            dense="qwen3",
            experts="num_experts",
            width="moe_intermediate_size",
            router=_LAYER + "mlp.gate.weight",
            expert=_QWEN_EXPERT,
        ),
    }
)
"""By the config's ``model_type``."""

_EXPERTS = ("num_experts", "num_local_experts")
"""What the number of experts of a layer is called; Transformers writes either for Qwen3-MoE."""
_SHARED_WIDTH = "shared_expert_intermediate_size"


@dataclass(frozen=True)
class MixtureConfig:
    """What the config.json of a mixture says.

    Attributes:
        model_type: of the mixture.
        family: its row of the table.
        fields: for its own config class, allow-listed.
        dense: the checked fields of the dense model, under their common names.
        layers, experts, width: numbers; ``width`` of one expert.
        shared_width: of the shared expert; 0 if there is none.
    """

    model_type: str
    family: Mixture
    fields: Mapping[str, Any]
    dense: Mapping[str, Any]
    layers: int
    experts: int
    width: int
    shared_width: int

    @property
    def is_normed(self) -> bool:
        """Whether the weights of a token's experts add up to 1."""
        return self.family.normed or bool(self.fields["norm_topk_prob"])


def is_mixture(folder: Path) -> bool:
    """Whether a folder's config.json is that of a mixture of experts that can be made dense."""
    if not (folder / "config.json").is_file():
        return False
    return read_raw_config(folder).get("model_type") in MIXTURES


def read_mixture(folder: Path) -> MixtureConfig:
    """Read and check the config of a mixture of experts.

    Raises:
        ModelFolderError: if there is no config.json.
        ArchitectureError: if it is no mixture of the table, a field is out of range, or some
            layers are dense.
    """
    raw = read_raw_config(folder)
    model_type = raw.get("model_type")
    if model_type not in MIXTURES or raw.get("quantization_config"):
        what = (
            "quantised" if raw.get("quantization_config") else f"of type {str(model_type)[:40]!r}"
        )
        raise ArchitectureError(
            f"{folder}/config.json: the model is {what}; experts are made dense of unquantised "
            f"{', '.join(MIXTURES)}. Take experts out of the settings, or another model."
        )
    family = MIXTURES[str(model_type)]
    if raw.get("mlp_only_layers") or raw.get("decoder_sparse_step", 1) != 1:
        raise ArchitectureError(
            f"{folder}/config.json: some layers have experts and some have none "
            "(mlp_only_layers, decoder_sparse_step); a dense model of it would have layers of "
            "different widths, which is not supported."
        )
    if raw.get("qkv_bias") is False:
        raise ArchitectureError(
            f"{folder}/config.json: qkv_bias is false; {family.dense} has them."
        )
    stated = next((name for name in _EXPERTS if name in raw), family.experts)
    experts = _number(raw, stated, folder, MOST_EXPERTS)
    chosen = _number(raw, "num_experts_per_tok", folder, experts)
    width = _number(raw, family.width, folder, 2**20)
    shared = _number(raw, _SHARED_WIDTH, folder, 2**20) if family.shared else 0
    known = {name: raw[name] for name in FIELDS if raw.get(name) is not None}
    if known.get("sliding_window") == 0:  # what Transformers writes for none
        del known["sliding_window"]
    own = known | {
        family.experts: experts,
        "num_experts_per_tok": chosen,
        family.width: width,
    }
    if family.shared:
        own[_SHARED_WIDTH] = shared
    if not family.normed:
        own["norm_topk_prob"] = bool(raw.get("norm_topk_prob", False))
    said = known | {"model_type": family.dense, "intermediate_size": width + shared}
    checked_config(said, folder)  # ranges, before a class is made of anything
    dense = checked_config(said | _defaults(str(model_type), own), folder)
    return MixtureConfig(
        str(model_type),
        family,
        own,
        dense,
        layers=dense["num_hidden_layers"],
        experts=experts,
        width=width,
        shared_width=shared,
    )


def dense_fields(mixture: MixtureConfig) -> dict[str, Any]:
    """The dense model's config.json, under the family's own names."""
    return own_names(mixture.dense)


def _number(raw: Mapping[str, Any], name: str, folder: Path, most: int) -> int:
    value = raw.get(name)
    if type(value) is not int or not 1 <= value <= most:
        raise ArchitectureError(
            f"{folder}/config.json: {name} is {str(value)[:40]}; allowed is a whole number in "
            f"1..{most}."
        )
    return value


def _defaults(model_type: str, own: Mapping[str, Any]) -> dict[str, Any]:
    """What the mixture's class takes where config.json says nothing; the dense one may differ."""
    from transformers import AutoConfig

    config: Any = AutoConfig.for_model(model_type, **own)
    width = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    return {
        "head_dim": width,
        "num_key_value_heads": config.num_key_value_heads,
        "rms_norm_eps": config.rms_norm_eps,
        "rope_parameters": dict(config.rope_parameters),
        "max_position_embeddings": config.max_position_embeddings,
        "tie_word_embeddings": config.tie_word_embeddings,
    }
