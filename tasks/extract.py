"""Find, in each teacher matrix, the part of the student's shape that is taken."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

from paraknow_core.alignment.matrices import VOCABULARY_ROLES, check_sizes, match_matrices
from paraknow_core.alignment.tokens import check_share
from paraknow_core.errors import NumericsError
from paraknow_core.extraction.cuts import Cut, choose_cuts
from paraknow_core.extraction.structures import STRUCTURES
from paraknow_core.inspection.cost import extraction_work
from paraknow_core.inspection.work import Work
from paraknow_core.models.describe import MATRIX_ROLES, Architecture, Role
from paraknow_core.setting_types import OneOf, Seed, Share, choose_setting
from paraknow_core.settings import Settings, execution, later
from tasks.acquire_model import load_architecture
from tasks.engine.devices.memory import memory_told
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.json_files import read_json, write_json
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step
from tasks.rows.shared_tokens import tokenizer_digests
from tasks.vocabulary import match_vocabularies

if TYPE_CHECKING:
    from torch import Tensor

ROLE_GROUPS: Mapping[str, tuple[Role, ...]] = {
    "embedding": (Role.EMBED,),
    "attention": (Role.Q, Role.K, Role.V, Role.O),
    "ffn": (Role.GATE, Role.UP, Role.DOWN),
    "head": (Role.HEAD,),
    "vocabulary": VOCABULARY_ROLES,
    "all": MATRIX_ROLES,
}
"""Shorthand for the origins that SeeKing (arXiv 2310.11451, §5) compares.

What its public code calls the embedding is ``vocabulary``: the embedding and the head.
"""


_BLOCK_BYTES: Mapping[str, int] = {"cpu": 2**25, "cuda": 2**30}
"""Bytes that reading a map block by block takes, whatever its size; a GPU takes larger blocks."""


def expand_roles(names: Iterable[str]) -> tuple[str, ...]:
    """Write groups of roles out, in report order; a list of mere roles stays as it is given."""
    given = tuple(names)
    if not set(given) & (ROLE_GROUPS.keys() - {"head"}):
        return given
    wanted = {str(role) for name in given for role in ROLE_GROUPS.get(name, (name,))}
    known = [str(role) for role in MATRIX_ROLES if role in wanted]
    return (*known, *sorted(wanted - set(known)))


def _groups(roles: Any) -> Any:
    if isinstance(roles, str):
        roles = (roles,)
    is_names = isinstance(roles, list | tuple) and all(isinstance(r, str) for r in roles)
    return expand_roles(roles) if is_names else roles


def _role_known(name: str) -> str:
    choose_setting("role", name, dict.fromkeys([*map(str, MATRIX_ROLES), *ROLE_GROUPS]))
    return name


def _roles_known(roles: tuple[str, ...]) -> tuple[str, ...]:
    for name in roles:
        _role_known(name)
    return roles


RoleName = Annotated[str, Field(max_length=32), AfterValidator(_role_known)]
"""A kind of matrix, or a group of them."""

_RoleNames = tuple[Annotated[str, Field(max_length=32)], ...]
Roles = Annotated[
    _RoleNames,
    Field(min_length=1),
    BeforeValidator(_groups, json_schema_input_type=_RoleNames),
    AfterValidator(_roles_known),
]
"""Kinds of matrix, groups of them written out."""


class ExtractConfig(Settings):
    """What is cut out of the teacher."""

    structure: Annotated[str, OneOf("structure", STRUCTURES)] = Field(
        "submatrix",
        title="Structure",
        description=f"{', '.join(STRUCTURES)}; see docs/strategies.md.",
    )
    roles: Roles = Field(
        tuple(str(role) for role in MATRIX_ROLES),
        title="Roles",
        description="Kinds of matrix transferred: embed, q, k, v, o, gate, up, down, head; or "
        "groups of them: embedding, vocabulary (embedding and head), attention, ffn, all.",
    )
    seed: Seed = later(0, title="Seed", description="Of the random structures.")
    min_vocabulary_share: Share = execution(
        0.5,
        title="Least vocabulary share",
        description="With two tokenizers: how many of the student's tokens the teacher must have.",
    )


def _source(config: ExtractConfig, inputs: Mapping[str, Ref], _run: RunConfig) -> Source:
    """The tokenizers enter the key only if they differ; else the output does not depend on them."""
    found = tokenizer_digests(inputs)
    moves_tokens = any(role in config.roles for role in VOCABULARY_ROLES)
    if not moves_tokens or len(set(found.values())) == 1:
        return Source()
    return Source(digests=found)


def _compute(job: Job[ExtractConfig]) -> Facts:
    """Choose rows and columns of every matrix; the output holds their indices, not the weights.

    The maps are summed and searched on the run's device.
    """
    from paraknow_core.checkpoint.reader import Checkpoint
    from paraknow_core.models.load import pick_device

    teacher, student = (load_architecture(job.inputs[who]) for who in ("teacher", "student"))
    matches = match_matrices(
        teacher,
        student,
        layers=read_json(job.inputs["layers"] / "layers.json"),
        roles=job.config.roles,
    )
    tokens = match_vocabularies(job.inputs, job.locations, roles=[str(m.role) for m in matches])
    check_sizes(matches, by_token=tokens is not None)
    facts: Facts = {}
    if tokens is not None:
        check_share(tokens, least=job.config.min_vocabulary_share)
        facts = {"vocabulary_share": tokens.share, "vocabulary_matched": tokens.matched}
        write_json(job.out / "vocabulary.json", facts | {"vocabulary_tokens": tokens.tokens})
    need = _memory(job.config, teacher, job.run.device_type())
    with (
        Checkpoint(job.inputs["scores"]) as scores,
        memory_told("searching the sensitivity maps", need=need),
    ):
        cuts, indices = choose_cuts(
            scores,
            matches,
            structure=job.config.structure,
            teacher=teacher,
            student=student,
            seed=job.config.seed,
            tokens=None if tokens is None else tokens.rows,
            device=pick_device(job.run.device),
            progress=job.progress,
        )
    write_json(job.out / "windows.json", [cut.to_json() for cut in cuts])
    _write_indices(job.out, indices)
    total = sum(cut.total for cut in cuts)
    if not total:
        raise NumericsError(
            f"The teacher's sensitivity is zero in all {len(cuts)} matrices that are to be cut, so "
            "none of their parts matters more than another. Take a teacher that was trained, or "
            "other roles (extract.roles)."
        )
    caught = sum(cut.score for cut in cuts) / total
    return {"windows": len(cuts), "sensitivity_share": caught, **facts}


def _write_indices(folder: Path, indices: "dict[str, Tensor]") -> None:
    from safetensors.torch import save_file

    if indices:
        own = {name: index.clone() for name, index in sorted(indices.items())}
        save_file(own, folder / "indices.safetensors")


def read_cuts(folder: Path) -> list[Cut]:
    """Read the cuts from an extract step's artifact."""
    return [Cut(**fields) for fields in read_json(folder / "windows.json")]


def read_indices(folder: Path) -> "dict[str, Tensor]":
    """Read the rows and columns that are not consecutive from an extract step's artifact."""
    from safetensors.torch import load_file

    path = folder / "indices.safetensors"
    return load_file(path) if path.exists() else {}


def _numerics(_config: ExtractConfig, run: RunConfig) -> Mapping[str, str | bool]:
    """A GPU adds float64 sums in another order; keys of a CPU say nothing, as they ever did."""
    device = run.device_type()
    return {} if device == "cpu" else {"accumulate": "float64", "device": device}


def _memory(config: ExtractConfig, teacher: Architecture, device: str) -> int:
    """What the structure holds of the largest matrix: of the device's memory."""
    largest = max(tensor.num_elements for tensor in teacher.tensors)
    held, block = largest * STRUCTURES[config.structure].element_bytes, _BLOCK_BYTES[device]
    return max(held, block) if device == "cpu" else held + block


def _estimate(config: ExtractConfig, known: Foreseen) -> Estimate:
    """What the structure holds of the largest matrix; a few hundred bytes a cut, and numbers."""
    teacher = known.architecture("teacher")
    structure = STRUCTURES[config.structure]
    memory = _memory(config, teacher, known.device())
    disk = 400 * len(teacher.tensors)
    if not structure.is_contiguous:
        sides = [matrix.shape for matrix in teacher.matrices]
        disk += sum(4 * (rows + cols) for rows, cols in sides)
    kept = 1.0  # the share of the teacher's layers that are taken
    if "student" in known.folders:
        kept = min(1.0, known.architecture("student").num_layers / teacher.num_layers)
    shapes = [matrix.shape for matrix in teacher.matrices if str(matrix.role) in config.roles]
    whole = extraction_work(shapes)
    work = Work(moved=kept * whole.moved, launches=kept * whole.launches)
    return Estimate(memory_bytes=memory, disk_bytes=disk, work=work)


extract = Step(
    name="extract",
    stage=Stage.EXTRACT,
    version=1,
    compute=_compute,
    reads={
        "scores": (),
        "teacher": ("architecture.json",),
        "student": ("architecture.json",),
        "layers": ("layers.json",),
    },
    opens=("teacher", "student"),
    source=_source,
    numerics=_numerics,
    estimate=_estimate,
    threaded=True,
    sized_by=("teacher",),
)
