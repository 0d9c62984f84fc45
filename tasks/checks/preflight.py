"""What can be known to fail before anything expensive runs."""

import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from paraknow_core.alignment.layers import check_layers
from paraknow_core.alignment.matrices import check_sizes, match_matrices
from paraknow_core.alignment.tokens import check_share
from paraknow_core.data import read_split
from paraknow_core.errors import ConfigError, RankError, ShapeError
from paraknow_core.extraction.structures import STRUCTURES
from paraknow_core.methods import METHODS
from paraknow_core.models.describe import Architecture, Matrix
from paraknow_core.models.four_bit import Quantisation, check_quantisation
from tasks.acquire_model import ModelConfig, load_architecture
from tasks.align import AlignConfig
from tasks.engine.file_memory import once_a_file
from tasks.engine.run import RunConfig
from tasks.extract import ExtractConfig
from tasks.vocabulary import match_vocabularies

Check = Callable[[Mapping[str, Path], Mapping[str, Path]], None]
"""Takes role → folder of what is known so far, and role → where that model lies; raises an error
for what cannot work."""


def check_pair(
    known: Mapping[str, Path],
    locations: Mapping[str, Path],
    *,
    align: AlignConfig,
    extract: ExtractConfig,
    rank: int,
    max_rank: int,
    methods: Sequence[str] = (),
    cuts: bool = True,
    trained: Sequence[str] = (),
) -> None:
    """Refuse a pair that cannot be cut as asked, or a rank too high.

    Args:
        known: folders of the acquired ``teacher`` and ``student``; nothing is checked without both.
        locations: where the two models lie.
        align: which layers are taken.
        extract: what of them is taken.
        rank: of the adapter.
        max_rank: of the decomposition.
        methods: what will be trained, by the names of ``METHODS``.
        cuts: whether any method cuts the student's shapes out of the teacher.
        trained: roles that get an adapter; empty: those that are extracted.

    Raises:
        ShapeError: if the student is deeper or wider than the teacher, or does not fit the
            structure.
        ConfigError: if layers are listed that are not there.
        TokenizerError: if the tokenizers have too little in common.
        RankError: if a rank is above the smallest dimension of a matrix.
    """
    if not {"teacher", "student"} <= known.keys():
        return
    teacher = load_architecture(known["teacher"])
    student = load_architecture(known["student"])
    if cuts:
        matrices = _cut_matrices(known, locations, (teacher, student), align, extract)
        ranks = {"lora.rank": rank, "decompose.max_rank": max_rank}
    else:
        matrices = [m for m in student.matrices if str(m.role) in extract.roles]
        ranks = {"lora.rank": rank}
    for setting, value in ranks.items():
        _check_rank(matrices, setting, value, "extract.roles")
    others = [m for m in student.matrices if str(m.role) in trained]
    if others:
        _check_rank(others, "lora.rank", rank, "lora.train_roles")
    for method in methods:
        if METHODS[method].is_student_start:
            _check_start(student, extract.roles, rank, method)


def _check_rank(matrices: Sequence[Matrix], setting: str, value: int, roles: str) -> None:
    narrow = min(matrices, key=lambda matrix: min(matrix.shape))
    if value > min(narrow.shape):
        raise RankError(
            f"{setting} is {value}, but {narrow.name} of shape {list(narrow.shape)} allows "
            f"1..{min(narrow.shape)}. Lower it, or leave {narrow.role} out of {roles}."
        )


def check_parts(
    known: Mapping[str, Path], _locations: Mapping[str, Path], *, parts: Mapping[str, str]
) -> None:
    """Refuse start points by role that cannot be put together for this student.

    Args:
        known: folder of the acquired ``student``; nothing is checked without it.
        parts: role → the method that its matrices start by.

    Raises:
        ConfigError: if roles of one fused matrix start by two methods, or plain LoRA is left with
            nothing but a head that is tied to the embedding, which goes with it.
    """
    if "student" not in known:
        return
    student = load_architecture(known["student"])
    for module, matrices in student.modules([*parts]).items():
        by = {str(matrix.role): parts[str(matrix.role)] for matrix in matrices}
        if len(set(by.values())) > 1:
            told = ", ".join(f"{role} by {method}" for role, method in by.items())
            raise ConfigError(
                f"{module} is one matrix of several roles, which would start in different ways "
                f"({told}). Give all of them to one method in by_role, or all of them to "
                "extract.roles."
            )
    plain = [role for role, method in parts.items() if METHODS[method].is_plain]
    if plain and not student.modules(plain):
        raise ConfigError(
            f"Of the roles that would start as plain LoRA ({', '.join(plain)}) this student has "
            f"no matrix of its own{'; its head is tied to its embedding' if student.tied else ''}. "
            "Leave them out of lora.train_roles and by_role."
        )


def _cut_matrices(
    known: Mapping[str, Path],
    locations: Mapping[str, Path],
    models: tuple[Architecture, Architecture],
    align: AlignConfig,
    extract: ExtractConfig,
) -> list[Matrix]:
    """Refuse a teacher that cannot be cut as asked; return the student's matrices that it fills."""
    teacher, student = models
    if student.num_layers > teacher.num_layers:
        raise ShapeError(
            f"The student has {student.num_layers} layers, the teacher only {teacher.num_layers}; "
            "each student layer needs a teacher layer of its own. Take a deeper teacher."
        )
    if align.layers is not None:
        sizes = {"num_teacher": teacher.num_layers, "num_student": student.num_layers}
        check_layers(align.layers, **sizes)
    layers = range(student.num_layers)
    matches = match_matrices(teacher, student, layers=layers, roles=extract.roles)
    roles = [str(match.role) for match in matches]
    tokens = match_vocabularies(known, locations, roles=roles)
    check_sizes(matches, by_token=tokens is not None)
    if tokens is not None:
        check_share(tokens, least=extract.min_vocabulary_share)
    STRUCTURES[extract.structure].check(teacher, student, roles)
    return [match.student for match in matches]


def _check_start(student: Architecture, roles: Sequence[str], rank: int, method: str) -> None:
    """No matrix may have fewer directions than the method takes; LoRA-GA takes 2R of them."""
    each = METHODS[method].directions
    for module, (matrix, *_) in student.modules(roles).items():
        most = min(matrix.whole) // each
        if rank > most:
            taken = f", and {method} takes {each} times as many directions" if each > 1 else ""
            raise RankError(
                f"lora.rank is {rank}{taken}, but for {method} {module} of shape "
                f"{list(matrix.whole)} allows 1..{most}. Lower it, or leave {method} out."
            )


def check_answers(
    known: Mapping[str, Path],
    _locations: Mapping[str, Path],
    *,
    student: ModelConfig,
    most: int,
) -> None:
    """Refuse answers that a student trained from scratch has no room for.

    Args:
        known: folder of the ``data``; nothing is checked without it.
        student: where the student comes from; of any other the positions are checked as it runs.
        most: tokens of an answer that are generated.

    Raises:
        ConfigError: states how many tokens there is room for.
    """
    if student.pretrain is None or student.texts is not None or "data" not in known:
        return  # how many tokens a text has, only its tokenizer knows
    if not (known["data"] / "test.parquet").is_file():
        return  # a plan of rows that are not here
    positions = student.pretrain.positions
    prompt = _longest_prompt(known["data"] / "test.parquet")
    if prompt + most > positions:
        raise ConfigError(
            f"evaluate.max_new_tokens is {most}, and the longest prompt of the test rows has "
            f"{prompt} tokens, but a student that is trained from scratch takes {positions} in "
            f"all. Allowed is 1..{max(positions - prompt, 0)}."
        )


@once_a_file
def _longest_prompt(path: Path) -> int:
    """Count ``<s>``, then a token for each word."""
    return max(1 + len(row.prompt.split()) for row in read_split(path))


def check_library(
    _known: Mapping[str, Path], _locations: Mapping[str, Path], *, quantise: Quantisation
) -> None:
    """Refuse a quantised training where the library for it is absent.

    Args:
        quantise: of the training.

    Raises:
        ConfigError: says what to install.
    """
    check_quantisation(quantise)


def check_processes(
    _known: Mapping[str, Path],
    _locations: Mapping[str, Path],
    *,
    processes: int,
    run: RunConfig,
) -> None:
    """Refuse a training in several processes that this machine has no devices for.

    Args:
        processes: of one training.
        run: on which kind of device.

    Raises:
        ConfigError: says how many GPUs there are, or what torch lacks.
    """
    if processes == 1:
        return
    from torch import cuda, distributed

    is_gpu = run.device_type() == "cuda"
    needed = "nccl" if is_gpu else "gloo"
    if not distributed.is_available() or not distributed.is_backend_available(needed):
        raise ConfigError(
            f"finetune.processes is {processes}, but this build of torch lacks {needed}, by which "
            f"processes on a {run.device_type()} meet. Set it to 1, or install another build."
        )
    if is_gpu and processes > cuda.device_count():
        shown = os.environ.get("CUDA_VISIBLE_DEVICES")
        told = "" if shown is None else f" (CUDA_VISIBLE_DEVICES={shown})"
        raise ConfigError(
            f"finetune.processes is {processes}, each on a GPU of its own, but this process sees "
            f"{cuda.device_count()}{told}. Show it as many, or lower finetune.processes."
        )
