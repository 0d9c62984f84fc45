"""LoRA adapters as PEFT folders: what is written is deterministic, what is read is checked.

Shapes: M = out_features, N = in_features, R = rank. In memory a module's change is always
``delta_MN = (alpha / R) * b_MR @ a_RN`` in the layout of its weight, also for an embedding
(vocabulary × hidden); PEFT's transposed layout of embeddings exists only in the files.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor

from paraknow_core.checkpoint.safetensors_header import read_header
from paraknow_core.checkpoint.strict_json import read_json_object
from paraknow_core.errors import CheckpointError, ModelFolderError, RankError

WEIGHTS = "adapter_model.safetensors"
CONFIG = "adapter_config.json"
_PREFIX = "base_model.model."
_FLOATS = ("F32", "BF16", "F16")
_SUFFIXES = (".lora_A.weight", ".lora_B.weight", ".lora_embedding_A", ".lora_embedding_B")

_READ_KEYS = frozenset(
    {"r", "lora_alpha", "lora_dropout", "target_modules", "ensure_weight_tying"}
    | {"base_model_name_or_path", "peft_type", "bias", "fan_in_fan_out"}
)
# These change nothing about what the tensors mean. Any other key must be off (null, false, empty).
_INERT_KEYS = frozenset(
    {"auto_mapping", "peft_version", "revision", "task_type", "inference_mode"}
    | {"init_lora_weights", "megatron_core", "qalora_group_size", "runtime_config"}
)


class LoraFactors(NamedTuple):
    """A low-rank product ``b @ a``, before PEFT's scale of alpha / R.

    Attributes:
        a: R×N, any float dtype.
        b: M×R, the same.
    """

    a: Tensor
    b: Tensor


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter in memory.

    Attributes:
        factors: dotted module name, such as ``"model.layers.0.mlp.up_proj"`` → its factors.
        embeddings: the modules among them that are embeddings.
        rank: R of every factor.
        alpha: PEFT scales every product by ``alpha / rank``.
        dropout: probability of dropping an input of the adapter while it is trained, 0..1.
        tied_head: for a tied student, the head's module; it shares the embedding's factors.
        base_model: Hub id of the student, for people and tools that read the folder.
        fan_in_fan_out: whether modules among them are GPT-2's Conv1D. Factors look the same; PEFT
            finds out by itself, and warns if it was not told.
    """

    factors: Mapping[str, LoraFactors]
    embeddings: frozenset[str]
    rank: int
    alpha: float
    dropout: float = 0.0
    tied_head: str | None = None
    base_model: str | None = None
    fan_in_fan_out: bool = False

    @property
    def scale(self) -> float:
        """What PEFT multiplies every product by."""
        return self.alpha / self.rank

    @property
    def is_zero(self) -> bool:
        """Whether every product is zero because one of its factors is, as PEFT starts them."""
        return not any(bool(a.any()) and bool(b.any()) for a, b in self.factors.values())

    def delta(self, module: str) -> Tensor:
        """The change of a module's weight, M×N in the dtype of the factors."""
        a_RN, b_MR = self.factors[module]
        return self.scale * (b_MR @ a_RN)


def write_adapter(folder: Path, adapter: Adapter) -> Path:
    """Write an adapter as a folder that ``PeftModel.from_pretrained`` reads.

    The same adapter gives the same bytes. A tied head gets a copy of the embedding's factors, so
    that readers that do not tie adapters compute the same.

    Args:
        folder: is made if need be; files of the same names are replaced.
        adapter: factors of any float dtype and device; stored as float32.

    Returns:
        The folder.

    Raises:
        RankError: if a factor's shape does not have the adapter's rank, or the rank is below 1.
    """
    from safetensors.torch import save_file

    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tensors: dict[str, Tensor] = {}
    for module in sorted(adapter.factors):
        _check_rank(module, adapter)
        factors = adapter.factors[module]
        is_embedding = module in adapter.embeddings
        tensors |= _tensors(module, factors, is_embedding=is_embedding)
        if is_embedding and adapter.tied_head is not None:
            tensors |= _tensors(adapter.tied_head, factors, is_embedding=False)
    save_file(tensors, folder / WEIGHTS, metadata={"format": "pt"})
    text = json.dumps(_config(adapter), indent=2, sort_keys=True)
    (folder / CONFIG).write_text(text + "\n", encoding="utf-8")
    return folder


def _check_rank(module: str, adapter: Adapter) -> None:
    a_RN, b_MR = adapter.factors[module]
    if adapter.rank < 1 or (a_RN.shape[0], b_MR.shape[1]) != (adapter.rank, adapter.rank):
        raise RankError(
            f"{module}: factors of shapes {tuple(b_MR.shape)} and {tuple(a_RN.shape)} do not have "
            f"the adapter's rank {adapter.rank}; it is at least 1, and the same for every module."
        )


def _tensors(module: str, factors: LoraFactors, *, is_embedding: bool) -> dict[str, Tensor]:
    """A module's tensors under PEFT's names; PEFT keeps an embedding's delta transposed."""
    a, b = (f.detach().to("cpu", torch.float32) for f in factors)
    if is_embedding:
        named = {".lora_embedding_A": b.T, ".lora_embedding_B": a.T}
    else:
        named = {".lora_A.weight": a, ".lora_B.weight": b}
    # clone: safetensors refuses tensors that share memory, as a tied head's would
    return {
        f"{_PREFIX}{module}{suffix}": tensor.clone(memory_format=torch.contiguous_format)
        for suffix, tensor in named.items()
    }


def _config(adapter: Adapter) -> dict[str, Any]:
    tied = [adapter.tied_head] if adapter.tied_head is not None else []
    alpha = int(adapter.alpha) if float(adapter.alpha).is_integer() else adapter.alpha
    return {
        "base_model_name_or_path": adapter.base_model,
        "bias": "none",
        "ensure_weight_tying": bool(tied),
        "fan_in_fan_out": adapter.fan_in_fan_out,
        "inference_mode": True,
        "init_lora_weights": True,
        "lora_alpha": alpha,
        "lora_dropout": adapter.dropout,
        "modules_to_save": None,
        "peft_type": "LORA",
        "r": adapter.rank,
        "target_modules": sorted([*adapter.factors, *tied]),
        "task_type": "CAUSAL_LM",
        "use_dora": False,
        "use_rslora": False,
    }


def read_adapter(folder: Path) -> Adapter:
    """Read a PEFT LoRA folder, refusing whatever is not a plain LoRA adapter.

    Args:
        folder: holds ``adapter_config.json`` and ``adapter_model.safetensors``.

    Returns:
        The adapter on the CPU, in float32.

    Raises:
        ModelFolderError: if a file is missing (pickled ``.bin`` weights are never read).
        CheckpointError: if the config switches on a feature other than plain LoRA, or the tensors
            are corrupt, incomplete, or not of the config's rank.
    """
    folder = Path(folder)
    for name in (CONFIG, WEIGHTS):
        if not (folder / name).is_file():
            raise ModelFolderError(
                f"{folder}: has no {name}. A PEFT adapter folder needs {CONFIG} and {WEIGHTS}; "
                "pickled adapter weights (.bin) are refused, save them as safetensors."
            )
    config = _checked_config(folder / CONFIG)
    factors, embeddings = _read_factors(folder / WEIGHTS, config["r"])
    tied_head = _split_off_tied_head(factors, embeddings, folder) if config["tied"] else None
    return Adapter(
        factors=factors,
        embeddings=embeddings,
        rank=config["r"],
        alpha=config["lora_alpha"],
        dropout=config["lora_dropout"],
        tied_head=tied_head,
        base_model=config["base_model"],
        fan_in_fan_out=config["fan_in_fan_out"],
    )


def _checked_config(path: Path) -> dict[str, Any]:
    raw = read_json_object(path)
    on = sorted(k for k, v in raw.items() if v and k not in _READ_KEYS | _INERT_KEYS)
    if raw.get("peft_type") != "LORA" or raw.get("bias") not in (None, "none") or on:
        raise CheckpointError(
            f"{path}: not a plain LoRA adapter: peft_type {raw.get('peft_type')!r}, bias "
            f"{raw.get('bias')!r}, switched on: {', '.join(k[:40] for k in on[:8]) or 'nothing'}. "
            "Only peft_type LORA, bias none and no further feature can be read."
        )
    rank: Any = raw.get("r")
    alpha: Any = raw.get("lora_alpha")
    dropout: Any = raw.get("lora_dropout", 0.0)
    if type(rank) is not int or not 1 <= rank <= 65536:
        raise CheckpointError(f"{path}: r is {rank!r}; allowed are integers 1..65536.")
    if type(alpha) not in (int, float) or not 0 < alpha < 1e6:
        raise CheckpointError(f"{path}: lora_alpha is {alpha!r}; allowed is above 0, below 1e6.")
    if type(dropout) not in (int, float) or not 0 <= dropout < 1:
        raise CheckpointError(f"{path}: lora_dropout is {dropout!r}; allowed is 0 up to below 1.")
    base = raw.get("base_model_name_or_path")
    return {
        "r": rank,
        "lora_alpha": float(alpha),
        "lora_dropout": float(dropout),
        "tied": raw.get("ensure_weight_tying") is True,
        "base_model": base if isinstance(base, str) and base else None,
        "fan_in_fan_out": raw.get("fan_in_fan_out") is True,
    }


def _read_factors(path: Path, rank: int) -> tuple[dict[str, LoraFactors], frozenset[str]]:
    from safetensors.torch import load_file

    modules = {name: _module_of(name, path) for name in _checked_names(path)}
    tensors = load_file(path)
    factors: dict[str, LoraFactors] = {}
    embeddings = set()
    for module in sorted(set(modules.values())):
        names = [f"{_PREFIX}{module}{suffix}" for suffix in _SUFFIXES]
        held = [tensors[name].to(torch.float32) if name in tensors else None for name in names]
        a, b, embedding_a, embedding_b = held
        if a is not None and b is not None and embedding_a is None and embedding_b is None:
            found = LoraFactors(a, b)
        elif embedding_a is not None and embedding_b is not None and a is None and b is None:
            found = LoraFactors(embedding_b.T.contiguous(), embedding_a.T.contiguous())
            embeddings.add(module)
        else:
            raise CheckpointError(f"{path}: {module} does not have exactly one pair of factors.")
        if found.a.shape[0] != rank or found.b.shape[1] != rank:
            raise CheckpointError(
                f"{path}: {module} has factors {tuple(found.b.shape)} × "
                f"{tuple(found.a.shape)}, but {CONFIG} says rank {rank}."
            )
        factors[module] = found
    return factors, frozenset(embeddings)


def _checked_names(path: Path) -> list[str]:
    headers = read_header(path)
    for name, header in headers.items():
        if header.dtype not in _FLOATS or len(header.shape) != 2:
            raise CheckpointError(
                f"{path}: tensor {name!r} is {header.dtype} {header.shape}; a LoRA factor is a "
                f"matrix of {', '.join(_FLOATS)}."
            )
    if not headers:
        raise CheckpointError(f"{path}: holds no tensors.")
    return list(headers)


def _module_of(name: str, path: Path) -> str:
    for suffix in _SUFFIXES:
        if name.startswith(_PREFIX) and name.endswith(suffix):
            return name[len(_PREFIX) : -len(suffix)]
    raise CheckpointError(
        f"{path}: tensor {name!r} is no LoRA factor; names are {_PREFIX}<module> with one of "
        f"{', '.join(_SUFFIXES)}. Full weights (modules_to_save) cannot be read."
    )


def _split_off_tied_head(
    factors: dict[str, LoraFactors], embeddings: frozenset[str], folder: Path
) -> str:
    """Find the module that repeats the embedding's factors, and take it out of ``factors``."""
    for embedding in embeddings:
        for module, (a_RN, b_MR) in factors.items():
            same = torch.equal(a_RN, factors[embedding].a)
            if module not in embeddings and same and torch.equal(b_MR, factors[embedding].b):
                del factors[module]
                return module
    raise CheckpointError(
        f"{folder}: {CONFIG} says ensure_weight_tying, but no module repeats the embedding's "
        "factors. Train the adapter anew with tied weights, or switch ensure_weight_tying off."
    )
