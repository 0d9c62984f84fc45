"""Directions of token space that the teacher has and the student lacks, for embedding and head."""

from collections.abc import Mapping
from typing import Any, Literal

from pydantic import Field

from paraknow_core.alignment.matrices import VOCABULARY_ROLES, source_role
from paraknow_core.alignment.tokens import TokenMatch, check_share
from paraknow_core.errors import ConfigError
from paraknow_core.models.describe import Architecture, Role
from paraknow_core.setting_types import Rank, Scale, Seed, Share
from paraknow_core.settings import Settings, later
from tasks.acquire_model import load_architecture
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.json_files import write_json
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step
from tasks.rows.shared_tokens import least_vocabulary_share, tokenizer_digests
from tasks.vocabulary import match_tokenizers

_SHOWN_TOKENS = 20


class NovelOptionsConfig(Settings):
    """How large the start point is made, and what of a tied student it is written to."""

    scale: Scale = Field(1.0, title="Scale", description="Of the start product.")
    tied: Literal["both", "head"] = later(
        "both",
        title="Tied students",
        description="both: embedding and head share one adapter, as they share their weights; "
        "head: the head has an adapter of its own, and the embedding stays as it is. A student "
        "whose head is not tied has two adapters either way.",
    )


class NovelTokensConfig(NovelOptionsConfig):
    """Which directions of token space are taken, and how large they are made."""

    roles: tuple[Literal["embed", "head"], ...] = Field(
        ("embed", "head"),
        min_length=1,
        title="Roles",
        description="The matrices whose rows are tokens: embed, head. A tied head comes with the "
        "embedding, and takes what the teacher's head has; see tied.",
    )
    directions: Literal["novel", "top", "random"] = Field(
        "novel",
        title="Directions",
        description="novel: what the student cannot express; controls of the same sizes: top (the "
        "teacher's leading ones), random.",
    )
    shuffle: bool = Field(
        False,
        title="Shuffled rows",
        description="A control: every token gets the teacher's row of another one.",
    )
    max_rank: Rank = Field(
        32, title="Maximum rank", description="Any LoRA rank up to this re-uses the directions."
    )
    seed: Seed = Field(0, title="Seed", description="Of random directions and shuffled rows.")
    min_vocabulary_share: Share = least_vocabulary_share()


def _source(_config: NovelTokensConfig, inputs: Mapping[str, Ref], _run: RunConfig) -> Source:
    """Which rows are tokens, and which are padding, is what the tokenizers say."""
    return Source(digests=tokenizer_digests(inputs))


def _compute(job: Job[NovelTokensConfig]) -> Facts:
    """Find what the teacher's tokens distinguish and the student's cannot, one matrix at a time."""
    from safetensors.torch import save_file

    from paraknow_core.checkpoint.reader import Checkpoint

    teacher, student = (load_architecture(job.inputs[who]) for who in ("teacher", "student"))
    wanted = matrices_of(student, job.config.roles, tied=job.config.tied)
    match, names = match_tokenizers(job.locations, teacher, student)
    check_share(match, least=job.config.min_vocabulary_share)
    factors: dict[str, Any] = {}
    certificates: dict[str, Any] = {}
    tokens: dict[str, Any] = {}
    with (
        Checkpoint(job.locations["teacher"]) as of_teacher,
        Checkpoint(job.locations["student"]) as of_student,
    ):
        for done, (module, role) in enumerate(wanted.items()):
            job.progress(done, len(wanted), module)
            theirs = teacher.matrix(_source_role(teacher, student, role))
            # Views of the mapped files: rows are read when they are used, a block at a time.
            matrices = of_teacher.read(theirs.name), of_student.read(student.matrix(role).name)
            made = _novel(job.config, matrices, match)
            factors |= {
                f"{module}.U": made.factors.u_MR,
                f"{module}.S": made.factors.s_R,
                f"{module}.Vh": made.factors.vh_RN,
            }
            certificates[module] = made.certificate | {
                "energy": made.energy,
                "novel_share": made.share,
            }
            tokens[module] = _carriers(made.factors, names)
    save_file(factors, job.out / "factors.safetensors")
    write_json(job.out / "certificates.json", certificates)
    write_json(job.out / "tokens.json", tokens)
    return {
        "matrices": len(wanted),
        "tokens": match.matched,
        "directions": min(len(factors[f"{module}.S"]) for module in wanted),
        "novel_share": {module: c["novel_share"] for module, c in certificates.items()},
        "energy": {module: c["energy"] for module, c in certificates.items()},
    }


def matrices_of(
    student: Architecture, roles: tuple[str, ...], *, tied: str = "both"
) -> dict[str, Role]:
    """Name the student's modules whose rows are tokens, among the wanted roles.

    Args:
        student: what they are wanted of.
        roles: embed, head, or both.
        tied: of a tied student ``both`` names the embedding, whose adapter the head shares, and
            ``head`` the head alone.

    Returns:
        Module → role of the matrix that it computes with; a tied head's is the embedding's.

    Raises:
        ConfigError: if the student has none of them.
    """
    if student.tied and tied == "head":
        return {student.module_of(Role.HEAD): Role.EMBED}
    found = {
        student.module_of(role): role
        for role in VOCABULARY_ROLES
        if str(role) in roles and role in student.roles
    }
    if not found:
        raise ConfigError(
            f"roles are {', '.join(roles)}, but the student's head is tied to its embedding: name "
            "embed, which carries both, or set tied: head."
        )
    return found


def _source_role(teacher: Architecture, student: Architecture, role: Role) -> Role:
    """The teacher's matrix to take from; a tied student's one matrix takes from the head.

    Nearly all of the effect was measured in the head: what the output can tell apart.
    """
    return source_role(teacher, Role.HEAD if student.tied else role)


def _novel(config: NovelTokensConfig, matrices: tuple[Any, Any], match: TokenMatch) -> Any:
    """Find the directions of one matrix, given the teacher's and the student's as stored."""
    from paraknow_core.initialisation.novel_tokens import novel_tokens, token_rows

    shuffle = config.seed if config.shuffle else None
    rows = token_rows(*matrices, match.rows, shuffle=shuffle)
    return novel_tokens(
        rows,
        rank=min(config.max_rank, rows.student_VS.shape[1]),
        directions=config.directions,
        scale=config.scale,
        seed=config.seed,
    )


def _carriers(factors: Any, names: Mapping[int, str]) -> list[dict[str, Any]]:
    """The tokens that carry most of the directions: their shares of the squared norm of U Σ."""
    weight_V = (factors.u_MR * factors.s_R).double().square().sum(1)
    whole = float(weight_V.sum())
    most = weight_V.topk(min(_SHOWN_TOKENS, len(weight_V)))
    return [
        {"token": names.get(row, ""), "row": row, "share": value / whole}
        for value, row in zip(most.values.tolist(), most.indices.tolist(), strict=True)
    ]


def _estimate(config: NovelTokensConfig, known: Foreseen) -> Estimate:
    """N in float32 and its work copy, the Gram matrices, a block in float64; factors on disk."""
    student = known.architecture("student")
    width = student.hidden_size
    if "teacher" in known.folders:
        width = known.architecture("teacher").hidden_size
    rows = student.vocab_size
    gram = 8 * (width**2 + student.hidden_size**2)
    factors = 4 * min(config.max_rank, student.hidden_size) * (rows + student.hidden_size)
    return Estimate(
        memory_bytes=4 * rows * (2 * width + student.hidden_size) + 4 * gram + 2**26,
        disk_bytes=len(config.roles) * factors,
    )


novel_tokens = Step(
    name="novel-tokens",
    stage=Stage.DECOMPOSE,
    version=1,
    compute=_compute,
    reads={
        "teacher": ("manifest.json", "architecture.json"),
        "student": ("manifest.json", "architecture.json"),
    },
    opens=("teacher", "student"),
    source=_source,
    estimate=_estimate,
    threaded=True,
    sized_by=("student",),
)
