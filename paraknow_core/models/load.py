"""Models and tokenizers from a folder: checked first, no remote code, no pickles, no downloads."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.checkpoint.tokenizer_files import check_tokenizer_files
from paraknow_core.errors import (
    ArchitectureError,
    CheckpointError,
    ConfigError,
    ParaknowError,
    TokenizerError,
)
from paraknow_core.models.config import own_names, read_config
from paraknow_core.models.describe import describe
from paraknow_core.models.four_bit import Quantisation, is_quantised, keep_trainable, loading
from paraknow_core.printable import printable

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

_DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}


def parse_dtype(name: str) -> torch.dtype:
    """Turn ``float32``, ``bfloat16`` or ``float16`` into torch's dtype.

    Raises:
        ConfigError: for any other name.
    """
    if name not in _DTYPES:
        raise ConfigError(f"Unknown dtype {name!r}; allowed are {', '.join(_DTYPES)}.")
    return _DTYPES[name]


def pick_device(name: str) -> str:
    """Choose a device: ``auto`` is the first CUDA device if there is one, else the CPU.

    Args:
        name: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        ConfigError: if the name is another, or this machine has no such device.
    """
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "auto":
        return "cuda" if count else "cpu"
    kind, _, number = name.partition(":")
    if name == "cpu" or (kind == "cuda" and (number.isdecimal() or name == "cuda")):
        if name == "cpu" or int(number or 0) < count:
            return name
        raise ConfigError(
            f"Device {name!r} is asked for, but this machine has {count} CUDA devices. "
            "Use auto or cpu."
        )
    raise ConfigError(f"Unknown device {name!r}; allowed are auto, cpu, cuda and cuda:N.")


def load_model(
    folder: Path,
    *,
    dtype: torch.dtype = torch.float32,
    device: str = "cpu",
    quantise: Quantisation = "none",
) -> "PreTrainedModel":
    """Load a causal language model from its config.json and safetensors files alone.

    The folder is checked by ``describe`` before anything is built, only allow-listed config fields
    reach Transformers, and no other file of the folder has an influence: no generation defaults,
    adapters, kernels or code. Where the stored dtype is ``dtype`` and the device is the CPU, the
    weights stay mapped from the files until they are written to.

    Args:
        folder: a model folder in the Transformers layout.
        dtype: of the weights in memory, whatever they are on disk.
        device: as ``pick_device`` returns it.
        quantise: how the matrices are held in memory, embedding and head aside.

    Returns:
        The model in evaluation mode, with the key/value cache off.

    Raises:
        ModelFolderError, ArchitectureError, CheckpointError: as ``describe``.
        ConfigError: if the library that quantises is not there.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, AutoConfig

    architecture = describe(folder)
    config: Any = built_config(AutoConfig, folder)
    held = loading(quantise, dtype=dtype, device=device)
    with Checkpoint(folder) as weights:
        state = {tensor.parameter: weights.read(tensor.name) for tensor in architecture.tensors}
        model_class: Any = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
        with no_bar(), refusals(folder):
            model: Any = model_class.from_pretrained(
                None,
                config=config,
                state_dict=state,
                dtype=dtype,
                attn_implementation=attention_of(model_class, config),
                use_safetensors=True,
                local_files_only=True,
                **held,
            )
    model.config.use_cache = False
    if is_quantised(model):  # its matrices' shapes are those of packed bytes
        keep_trainable(model)
        return model.eval()  # type: ignore[no-any-return]
    same_parameters(model, {t.parameter: t.shape for t in architecture.tensors}, Path(folder))
    return model.to(device).eval()  # type: ignore[no-any-return]


def new_model(folder: Path, *, dtype: torch.dtype) -> "PreTrainedModel":
    """Build a model of a folder's config with new weights, as its own class initialises them.

    Args:
        folder: a model folder; only config.json is read.
        dtype: of the weights, which are drawn from torch's current random state.

    Returns:
        The model on the CPU.

    Raises:
        ModelFolderError, ArchitectureError: if config.json is missing or refused.
    """
    from transformers import AutoConfig, AutoModelForCausalLM

    untyped: Any = AutoModelForCausalLM
    config = built_config(AutoConfig, folder)
    with refusals(folder):
        return untyped.from_config(config, dtype=dtype)  # type: ignore[no-any-return]


def attention_of(model_class: Any, config: Any) -> str:
    """PyTorch's fused attention, except where it would leave out Gemma 2's soft cap."""
    capped = getattr(config, "attn_logit_softcapping", None) is not None
    return "sdpa" if model_class._supports_sdpa and not capped else "eager"


@contextmanager
def no_bar() -> Iterator[None]:
    """Switch Transformers' progress bar off, and restore the setting afterwards."""
    from transformers.utils import logging as untyped

    logging: Any = untyped
    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def built_config(auto: Any, folder: Path) -> Any:
    """A folder's config as Transformers' own class; raises as ``read_config``."""
    fields = own_names(read_config(folder))
    with refusals(folder):
        config = auto.for_model(fields.pop("model_type"), **fields)
    slides = "sliding_attention" in (getattr(config, "layer_types", None) or ())
    if slides and config.sliding_window is None:
        raise ArchitectureError(
            f"{folder}/config.json: sliding_window is null, but layers have sliding_attention. "
            "Give its width, or layer_types of full_attention alone."
        )
    return config


def check_buildable(folder: Path) -> None:
    """Check that Transformers builds a model of a folder's config; allocates no weights.

    Raises:
        ModelFolderError, ArchitectureError: if config.json is missing or refused.
    """
    with torch.device("meta"):
        new_model(folder, dtype=torch.float32)


@contextmanager
def refusals(folder: Path) -> Iterator[None]:
    """Turn any error of Transformers' classes about a config's values into one sentence."""
    try:
        yield
    except (MemoryError, OSError, ParaknowError, torch.OutOfMemoryError):
        raise  # not caused by the config
    except Exception as error:
        raise ArchitectureError(
            f"{folder}/config.json: Transformers does not accept it: {_one_line(error)}"
        ) from error


def _one_line(error: BaseException) -> str:
    """The first 300 characters of an error; some libraries write a page."""
    text = f"{type(error).__name__}: {printable(error)}"
    return text if len(text) <= 300 else text[:299] + "…"


def same_parameters(model: Any, expected: dict[str, tuple[int, ...]], folder: Path) -> None:
    """Check that the model's parameters are the files' tensors: maps use these names."""
    built = {name: tuple(p.shape) for name, p in model.named_parameters()}
    if built != expected:
        names = sorted(set(built.items()) ^ set(expected.items()))[:3]
        raise CheckpointError(
            f"{folder}: Transformers builds other parameters than the files hold, such as {names}. "
            "This version of Transformers may not fit; see constraints.txt."
        )


MOST_ADDED = 1024
"""Most tokens or characters that a tokenizer may add to a text.

Usual are one or two special tokens, and one letter in front.
"""


def load_tokenizer(folder: Path) -> "PreTrainedTokenizerBase":
    """Load a model folder's tokenizer and check that every token has a row in the embedding.

    Args:
        folder: a model folder; ``vocab_size`` of its config.json is the number of rows. More rows
            than tokens are fine: vocabularies are often padded.

    Raises:
        TokenizerError: if there is no tokenizer that loads without remote code, it has more
            tokens than the embedding has rows, or adds a great deal to every text; states both
            numbers.
        ModelFolderError, ArchitectureError: if config.json is missing or refused.
    """
    from transformers import AutoTokenizer

    rows = read_config(folder)["vocab_size"]
    check_tokenizer_files(folder)
    try:
        tokenizer: Any = AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
        tokenizer("a")  # some settings are only met when a text is cut into tokens
        needed = max(len(tokenizer), 1 + max(tokenizer.get_vocab().values(), default=-1))
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    # The loaders raise a dozen kinds for missing or broken files, and the Rust library's panics
    # are no Exception.
    except BaseException as error:
        raise TokenizerError(
            f"{folder}: its tokenizer cannot be loaded ({_one_line(error)}). Needed are "
            "tokenizer.json and tokenizer_config.json, as save_pretrained writes them."
        ) from error
    if needed > rows:
        raise TokenizerError(
            f"{folder}: the tokenizer has {needed} tokens, but the embedding only {rows} rows "
            "(vocab_size). Use the tokenizer that belongs to this model."
        )
    _check_additions(folder, tokenizer)
    return tokenizer  # type: ignore[no-any-return]


def _check_additions(folder: Path, tokenizer: Any) -> None:
    """Refuse a tokenizer that makes megabytes of every text: no step would ever finish."""
    added = tokenizer.num_special_tokens_to_add(pair=False)
    normalizer: Any = getattr(getattr(tokenizer, "backend_tokenizer", None), "normalizer", None)
    letters = map(chr, range(32, 127)) if normalizer is not None else ()
    for letter in letters:  # one by one, to stop at the first that grows
        added = max(added, len(normalizer.normalize_str(letter)))
        if added > MOST_ADDED:
            break
    if added > MOST_ADDED:
        raise TokenizerError(
            f"{folder}: the tokenizer adds {added:,} tokens or characters to a text; allowed are "
            f"{MOST_ADDED:,}. Look at normalizer and post_processor in its tokenizer.json."
        )
