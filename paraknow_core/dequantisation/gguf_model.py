"""GGUF files, read by the library gguf, with the names and layout of the Transformers model.

Which tensor becomes which parameter, and how it is turned round (Llama's converter permutes the
heads of q and k, Gemma's adds 1 to norms), is told by Transformers' own tables. Its loader makes
all weights at once; here one is made at a time.
"""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from paraknow_core.checkpoint.tokenizer_files import TOKENIZER_FILES
from paraknow_core.dequantisation.gguf_config import config_of
from paraknow_core.errors import CheckpointError, ConfigError, TokenizerError
from paraknow_core.models.describe import foreseen
from paraknow_core.printable import plain

_FACTORS = "rope_freqs.weight"
_EMBEDDING = "token_embd.weight"
_SAME_ROWS = 0.9
"""Share of a file's tokens that a tokenizer beside it must have in the same rows."""


class GgufModel:
    """A model in one GGUF file; see ``QuantisedModel``."""

    kind = "GGUF"

    def __init__(self, path: Path) -> None:
        """Read metadata and the table of tensors.

        Raises:
            ConfigError: if the library gguf is not installed.
            CheckpointError: if the file is damaged, or holds tensors that no parameter takes.
            ArchitectureError: as ``config_of``.
        """
        gguf = _library(path)
        self.path, self.folder = path, path.parent
        try:
            reader = gguf.GGUFReader(path)
            self._tensors = {tensor.name: tensor for tensor in reader.tensors}
            metadata = {name: _value(field) for name, field in reader.fields.items()}
            tokens = reader.fields.get("tokenizer.ggml.tokens")
            self._tokens = tokens.contents() if tokens is not None else []
        except (MemoryError, OSError):
            raise
        except Exception as error:  # the library checks little, and so raises anything
            raise CheckpointError(
                f"{path}: cannot be read as GGUF ({type(error).__name__}: {plain(error)}). Is the "
                "download complete? If the file is newer than the library, upgrade gguf."
            ) from error
        if _EMBEDDING not in self._tensors:
            raise CheckpointError(
                f"{path}: holds no {_EMBEDDING}: no language model, or one part of a file that "
                "was split. Join the parts with llama.cpp's gguf-split --merge."
            )
        self._gguf, self._metadata = gguf, metadata
        self.config: Mapping[str, Any] = config_of(
            metadata,
            self._tensors,
            rows=int(self._tensors[_EMBEDDING].shape[-1]),
            factors=self._factors(),
            path=path,
        )
        self._processor, self._sources = self._mapping()
        self.types: Mapping[str, str] = {
            parameter: self._tensors[source].tensor_type.name
            for parameter, source in self._sources.items()
        }

    @property
    def files(self) -> tuple[str, ...]:
        """The file itself, and a tokenizer beside it."""
        return (self.path.name, *self._tokenizer_files())

    @property
    def notes(self) -> tuple[str, ...]:
        """Whence the tokenizer comes."""
        beside = self._tokenizer_files()
        how = "beside the file" if beside else "made of the file's own by Transformers"
        return (f"The tokenizer is the one {how}.",)

    def read(self, parameter: str) -> Tensor:
        """As ``QuantisedModel.read``."""
        source = self._sources[parameter]
        tensor = self._tensors[source]
        try:
            weights = self._gguf.dequantize(tensor.data, tensor.tensor_type)
        except NotImplementedError as error:
            raise CheckpointError(
                f"{self.path}: {source} is stored as {tensor.tensor_type.name}, which the library "
                "gguf cannot turn into plain numbers. Take the file in another type, such as "
                "Q8_0 or Q4_K_M."
            ) from error
        kept: dict[str, Any] = {"tensors": {}}
        done = self._processor.process(
            weights=weights, name=source, tensor_key_mapping={}, parsed_parameters=kept
        )
        # GPT-2's head is handed over on another way, because its name ends as another's.
        found = done.weights if done.name else next(iter(kept["tensors"].values()))
        if isinstance(found, Tensor):
            return found
        return torch.from_numpy(found if found.flags.writeable else found.copy())

    def write_tokenizer(self, folder: Path) -> None:
        """Copy the tokenizer that lies beside the file, or else make one of the file's own.

        Raises:
            TokenizerError: if it cannot be made, or the one beside belongs to another model.
        """
        beside = self._tokenizer_files()
        if beside:
            for name in beside:
                shutil.copyfile(self.folder / name, folder / name)
            self._check_rows(folder)
            return
        self._check_splitting()
        from transformers import AutoTokenizer

        try:
            tokenizer: Any = AutoTokenizer.from_pretrained(
                str(self.folder), gguf_file=self.path.name, local_files_only=True
            )
            tokenizer.save_pretrained(folder)
            _drop_added(folder / "tokenizer.json", len(self._tokens))
        except (KeyboardInterrupt, SystemExit, MemoryError):
            raise
        except BaseException as error:  # as in load_tokenizer
            raise TokenizerError(
                f"{self.path}: Transformers cannot make a tokenizer of the file's own "
                f"({type(error).__name__}: {plain(error)}). {_BESIDE}"
            ) from error

    def _factors(self) -> list[float] | None:
        found = self._tensors.get(_FACTORS)
        return None if found is None else [float(factor) for factor in found.data.ravel()]

    def _mapping(self) -> tuple[Any, dict[str, str]]:
        """Transformers' processor of this architecture, and parameter → the file's tensor."""
        from transformers import modeling_gguf_pytorch_utils as untyped

        tables: Any = untyped
        arch = self._metadata["general.architecture"]
        kind = tables.TENSOR_PROCESSORS.get(arch, tables.TensorProcessor)
        number = next(n for n, name in self._gguf.MODEL_ARCH_NAMES.items() if name == arch)
        names = self._gguf.get_tensor_name_map(number, self.config["num_hidden_layers"])
        sources = {}
        for tensor in foreseen(self.config).tensors:
            module, _, ending = tensor.parameter.rpartition(".")
            sources[tensor.parameter] = f"{names.get_name(module)}.{ending}"
        missing = sorted(set(sources.values()) - self._tensors.keys())
        unused = sorted(self._tensors.keys() - set(sources.values()) - {_FACTORS})
        if missing or unused:
            told = f"it lacks {', '.join(missing[:3])}" if missing else ""
            more = f"no parameter takes {', '.join(unused[:3])}" if unused else ""
            raise CheckpointError(
                f"{self.path}: file and metadata do not make a {self.config['model_type']} model: "
                f"{' and '.join(filter(None, (told, more)))}. Is the download complete? Otherwise "
                "take the original's safetensors."
            )
        return kind(config=dict(self.config)), sources

    def _tokenizer_files(self) -> tuple[str, ...]:
        there = [name for name in TOKENIZER_FILES if (self.folder / name).is_file()]
        return tuple(there) if "tokenizer.json" in there else ()

    def _check_splitting(self) -> None:
        """Refuse a byte-level vocabulary whose way of splitting text Transformers would guess."""
        from transformers.integrations.gguf import gguf_tokenizer_mapping as untyped

        tables: Any = untyped
        kind = self._metadata.get("tokenizer.ggml.model")
        way = self._metadata.get("tokenizer.ggml.pre")
        if kind == "gpt2" and way != "gpt-2" and way not in tables.GGUF_PRE_TOKENIZER_SPLITS:
            raise TokenizerError(
                f"{self.path}: how its tokenizer splits text ({str(way)[:40]!r}) is not known to "
                f"this version of Transformers. {_BESIDE}"
            )

    def _check_rows(self, folder: Path) -> None:
        """Refuse a tokenizer beside the file that is another model's."""
        from transformers import AutoTokenizer

        own: Any = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
        words = own.get_vocab()
        same = sum(words.get(token) == row for row, token in enumerate(self._tokens))
        if self._tokens and same < _SAME_ROWS * min(len(self._tokens), len(words)):
            raise TokenizerError(
                f"{self.folder}: of the {len(self._tokens):,} tokens of {self.path.name}, "
                f"tokenizer.json beside it has {same:,} in the same row: it belongs to another "
                "model. Replace it by the original's, or take it away."
            )


_BESIDE = "Put the original model's tokenizer.json and tokenizer_config.json beside the file."


def _drop_added(path: Path, rows: int) -> None:
    """Drop tokens that the file has not: Transformers' GPT-2 class adds its own ``<|endoftext|>``.

    The embedding has no row for them.
    """
    whole = json.loads(path.read_text(encoding="utf-8"))
    whole["added_tokens"] = [token for token in whole["added_tokens"] if token["id"] < rows]
    path.write_text(json.dumps(whole, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def _library(path: Path) -> Any:
    try:
        import gguf
    except ImportError as error:
        raise ConfigError(
            f"{path} is a GGUF file, which is read by the library gguf: "
            "pip install 'paraknow[gguf]'"
        ) from error
    return gguf


def _value(field: Any) -> Any:
    """A metadata value; of an array its length, which spares a million small objects."""
    return len(field.data) if len(field.types) > 1 else field.contents()
