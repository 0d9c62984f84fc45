"""How each method of quantisation packs a matrix: which tensors, and what they stand for."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paraknow_core.dequantisation.formulas import (
    awq_weight,
    bit_fields,
    gptq_weight,
    nested_absmax,
    scaled_weight,
    table_weight,
)
from paraknow_core.dequantisation.packing import (
    MatrixParts,
    PackedMatrix,
    Packing,
    Tensors,
    allowed_value,
    refused,
)
from paraknow_core.errors import ArchitectureError, CheckpointError
from paraknow_core.registry import Registry
from paraknow_core.strict_data import NotStrictError, parse_json


def _gptq(said: Mapping[str, Any], folder: Path) -> Packing:
    bits = allowed_value(said, "bits", (2, 4, 8), folder, default=None)
    form = allowed_value(said, "checkpoint_format", ("gptq", "gptq_v2"), folder, default="gptq")
    size = said.get("group_size", -1)
    if said.get("dynamic"):
        raise refused(folder, "bits differ from module to module (dynamic)")
    needed = ("qweight", "qzeros", "scales")

    def find(parts: MatrixParts) -> PackedMatrix | None:
        if "qweight" not in parts.names:
            return None

        def weight(of: Tensors) -> Tensor:
            inputs = torch.arange(parts.shape[1])
            groups = of.get("g_idx", inputs // (size if size > 0 else parts.shape[1]))
            return gptq_weight(
                of["qweight"],
                of["qzeros"],
                of["scales"],
                groups,
                bits=bits,
                zero_less_one=form == "gptq",
            )

        return PackedMatrix(f"GPTQ {bits} bit", parts.taken(needed, ("g_idx",)), weight)

    return Packing("GPTQ", needed, find)


def _awq(said: Mapping[str, Any], folder: Path) -> Packing:
    allowed_value(said, "bits", (4,), folder, default=4)
    allowed_value(said, "version", ("gemm",), folder, default="gemm")
    needed = ("qweight", "qzeros", "scales")

    def find(parts: MatrixParts) -> PackedMatrix | None:
        if "qweight" not in parts.names:
            return None
        taken = parts.taken(needed)
        return PackedMatrix("AWQ 4 bit", taken, lambda of: awq_weight(*(of[n] for n in needed)))

    return Packing("AWQ", needed, find)


_STATE = "weight.quant_state.bitsandbytes__"
_NESTED = ("weight.nested_absmax", "weight.nested_quant_map")


def _bitsandbytes(_said: Mapping[str, Any], _folder: Path) -> Packing:
    def find(parts: MatrixParts) -> PackedMatrix | None:
        state = next((end for end in parts.names if end.startswith(_STATE)), "")
        if state:
            needed = ("weight", "weight.absmax", "weight.quant_map", state)
            kind = state.removeprefix(_STATE)
            taken = parts.taken(needed, _NESTED)
            return PackedMatrix(
                f"bitsandbytes {kind}", taken, lambda of: _of_table(of, state, parts)
            )
        if parts.dtypes.get("weight") is torch.int8:
            taken = parts.taken(("weight", "SCB"), ("weight_format",))
            return PackedMatrix("bitsandbytes int8", taken, lambda of: _of_rows(of, parts))
        if parts.dtypes.get("weight") is torch.uint8:
            raise CheckpointError(
                f"{parts.module} is packed, but its {_STATE}nf4 (or fp4) is missing. A file is "
                "incomplete: download the model again."
            )
        return None

    return Packing("bitsandbytes", ("weight", "weight.absmax", "weight.quant_map"), find)


def _of_table(of: Tensors, state: str, parts: MatrixParts) -> Tensor:
    try:
        said = parse_json(bytes(of[state].tolist()))
        block, shape = int(said["blocksize"]), tuple(said["shape"])
        absmax = of["weight.absmax"]
        if "nested_blocksize" in said:
            absmax = nested_absmax(
                absmax,
                of["weight.nested_quant_map"],
                of["weight.nested_absmax"],
                block=int(said["nested_blocksize"]),
                offset=float(said["nested_offset"]),
            )
    except (NotStrictError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            f"{parts.module}: its {state} cannot be read ({type(error).__name__}: {error}). "
            "Download the model again."
        ) from error
    if shape != parts.shape:
        raise CheckpointError(
            f"{parts.module}: packed as {list(shape)}, but config.json makes it "
            f"{list(parts.shape)}. Config and weights do not belong together."
        )
    return table_weight(
        of["weight"], of["weight.quant_map"], absmax, block=block, shape=parts.shape
    )


def _of_rows(of: Tensors, parts: MatrixParts) -> Tensor:
    form = int(of["weight_format"]) if "weight_format" in of else 0
    if form:
        raise CheckpointError(
            f"{parts.module}: int8 weights in layout {form} of a kernel; only rows (0) are made "
            "plain. Save the model again with a newer bitsandbytes."
        )
    return scaled_weight(of["weight"], of["SCB"].view(-1, 1) / 127, (1, parts.shape[1]))


def _float8(said: Mapping[str, Any], folder: Path) -> Packing:
    size = said.get("weight_block_size")
    if size is not None and not _is_pair(size):
        raise refused(folder, f"weight_block_size is {size!r}")

    def find(parts: MatrixParts) -> PackedMatrix | None:
        scale = next((n for n in ("weight_scale_inv", "weight_scale") if n in parts.names), "")
        return _scaled(parts, scale or "weight_scale_inv", size, "float8")

    return Packing("FP8", ("weight", "weight_scale_inv"), find, _ACTIVATIONS)


def _is_pair(size: object) -> bool:
    return isinstance(size, list) and len(size) == 2 and all(type(n) is int and n > 0 for n in size)


_ACTIVATIONS = (".input_scale", ".activation_scale", ".output_scale", ".k_scale", ".v_scale")
"""Scales of activations and of the key/value cache: they change no weight."""

_EIGHT_BITS = (torch.float8_e4m3fn, torch.float8_e5m2, torch.int8)


def _scaled(parts: MatrixParts, scale: str, block: Any, kind: str) -> PackedMatrix | None:
    """A matrix of 8-bit numbers with scales by tensor, row, group or block."""
    if parts.dtypes.get("weight") not in _EIGHT_BITS:
        return None

    def weight(of: Tensors) -> Tensor:
        scales = of[scale]
        whole = scales.reshape(-1, 1) if scales.dim() < 2 else scales
        size = tuple(block or _even(parts.shape, tuple(whole.shape)))
        if tuple(whole.shape) != tuple(map(math.ceil, _over(parts.shape, size))):
            raise ValueError(f"scales do not fit blocks of {list(size)}")
        return scaled_weight(of["weight"], whole, (size[0], size[1]))

    return PackedMatrix(kind, parts.taken(("weight", scale)), weight)


def _over(shape: tuple[int, int], size: tuple[int, ...]) -> tuple[float, float]:
    return shape[0] / size[0], shape[1] / size[1]


def _even(shape: tuple[int, int], scales: tuple[int, ...]) -> tuple[int, int]:
    return shape[0] // max(scales[0], 1), shape[1] // max(scales[1], 1)


_FORMS = ("float-quantized", "int-quantized", "naive-quantized", "pack-quantized")


def _compressed(said: Mapping[str, Any], folder: Path) -> Packing:
    form = allowed_value(said, "format", _FORMS, folder, default=None)
    groups = said.get("config_groups")
    kinds = list(groups.values()) if isinstance(groups, Mapping) else []
    weights = kinds[0].get("weights") if len(kinds) == 1 and isinstance(kinds[0], Mapping) else None
    if not isinstance(weights, Mapping):
        raise refused(folder, "config_groups of the quantisation are not one group with weights")
    if not weights.get("symmetric", True):
        raise refused(folder, "weights are quantised with zero points (symmetric: false)")
    block = weights.get("block_structure") if weights.get("strategy") == "block" else None
    if block is not None and not _is_pair(block):
        raise refused(folder, f"block_structure is {block!r}")
    if form != "pack-quantized":
        kind = f"{form} {weights.get('num_bits')} bit"
        return Packing(
            "compressed-tensors",
            ("weight", "weight_scale"),
            lambda parts: _scaled(parts, "weight_scale", block, kind),
            _ACTIVATIONS,
        )
    bits = allowed_value(weights, "num_bits", (2, 4, 8), folder, default=None)
    needed = ("weight_packed", "weight_scale")

    def find(parts: MatrixParts) -> PackedMatrix | None:
        if "weight_packed" not in parts.names:
            return None
        if "weight_g_idx" in parts.names:
            raise refused(folder, "inputs are grouped in another order (weight_g_idx)")

        def weight(of: Tensors) -> Tensor:
            numbers = bit_fields(of["weight_packed"], bits)[:, : parts.shape[1]]
            scales = of["weight_scale"].reshape(parts.shape[0], -1)
            size = (1, parts.shape[1] // scales.shape[1])
            return scaled_weight(numbers - 2 ** (bits - 1), scales, size)

        kind = f"{form} {bits} bit"
        return PackedMatrix(kind, parts.taken(needed, ("weight_shape",)), weight)

    return Packing("compressed-tensors", needed, find, _ACTIVATIONS)


METHODS_OF_PACKING: Registry[Callable[[Mapping[str, Any], Path], Packing]] = Registry(
    "quantisation",
    {
        "gptq": _gptq,
        "awq": _awq,
        "bitsandbytes": _bitsandbytes,
        "fp8": _float8,
        "compressed-tensors": _compressed,
    },
    error=ArchitectureError,
)
"""By ``quant_method`` of a config.json."""
