"""Updates from a teacher's signals: what the student should become, and the controls of that.

Each has two controls of its own: the teacher's signals of other positions or tokens, and a teacher
that was never trained, another for each seed; maps are fitted anew. The student in the teacher's
place is none of them: it lacks nothing that it has itself, the update is zero, and is refused.
"""

from paraknow_core.method import Method, Use
from paraknow_core.method_tables.controls import control
from paraknow_core.method_tables.names import PLAIN

_LINEAR = ("q", "k", "v", "o", "gate", "up", "down", "head")


def update(
    label: str,
    start: str,
    source: str,
    *,
    uses: frozenset[Use],
    covers: tuple[str, ...],
    needs: tuple[str, ...] = (),
    controls: tuple[str, ...],
) -> Method:
    """Make an update of a teacher's signals."""
    return Method(
        kind="transfer",
        label=label,
        start=f"{start}; plain LoRA elsewhere",
        tells="It is what the other arms are compared with.",
        source=source,
        builder="signals",
        uses=uses,
        draws=True,
        needs=needs,
        baseline=PLAIN,
        rivals=("pissa", "milora"),
        controls=controls,
        covers=covers,
    )


def shuffled(method: Method, of: str, *, label: str, start: str) -> Method:
    """Take away which position or token the teacher's signal belongs to."""
    return control(
        method,
        of,
        "tokens",
        label=label,
        start=start,
        beaten="which position or token a signal belongs to matters",
        replacement="shuffled",
    )


def untrained(method: Method, of: str, *, label: str) -> Method:
    """Take away what the teacher learnt."""
    start = f"{of} from a model of the teacher's sizes that was never trained, drawn for each seed"
    return control(
        method,
        of,
        "teacher",
        label=label,
        start=start,
        beaten="what the teacher learnt matters",
        replacement="untrained",
    )


WHITENED_DISTILLATION = update(
    "the whitened distillation update",
    "every linear layer moved along the whitened gradient of the divergence from the teacher",
    "after K-FAC (arXiv 1503.05671) and distillation (arXiv 1503.02531)",
    uses=frozenset({"outputs"}),
    covers=_LINEAR,
    needs=("covered roles",),
    controls=("distillation-shuffled", "distillation-untrained"),
)

RESIDUAL_REGRESSION = update(
    "the residual-contribution update",
    "each block taught to add to the residual stream what the teacher's layers add",
    "after SemAlign (arXiv 2510.24208)",
    uses=frozenset({"activations"}),
    covers=("down",),
    needs=("covered roles",),
    controls=("residuals-shuffled", "residuals-untrained"),
)

HEAD_REGRESSION = update(
    "the head by regression",
    "the head moved towards the teacher's next-token probabilities",
    "reduced-rank regression on the outputs of distillation (arXiv 1503.02531)",
    uses=frozenset({"outputs"}),
    covers=("embed", "head"),
    needs=("covered roles",),
    controls=("head-shuffled", "head-untrained"),
)

EMBEDDING_ROWS = update(
    "the update of embedding rows",
    "the embedding's rows of rare tokens moved towards the teacher's, mapped",
    "after cross-lingual maps of embeddings (arXiv 1309.4168)",
    uses=frozenset({"parameters"}),
    covers=("embed",),
    needs=("covered roles",),
    controls=("rows-shuffled", "rows-untrained"),
)

_POSITIONS = "with the signals of other positions of other texts"

SHUFFLED_DISTILLATION = shuffled(
    WHITENED_DISTILLATION,
    "whitened-distillation",
    label="the distillation control with shuffled positions",
    start=f"whitened-distillation {_POSITIONS}",
)
UNTRAINED_DISTILLATION = untrained(
    WHITENED_DISTILLATION,
    "whitened-distillation",
    label="the distillation update from an untrained model",
)
SHUFFLED_RESIDUALS = shuffled(
    RESIDUAL_REGRESSION,
    "residual-regression",
    label="the residual control with shuffled positions",
    start=f"residual-regression {_POSITIONS}",
)
UNTRAINED_RESIDUALS = untrained(
    RESIDUAL_REGRESSION,
    "residual-regression",
    label="the residual update from an untrained model",
)
SHUFFLED_HEAD_REGRESSION = shuffled(
    HEAD_REGRESSION,
    "head-regression",
    label="the head control with shuffled positions",
    start=f"head-regression {_POSITIONS}",
)
UNTRAINED_HEAD_REGRESSION = untrained(
    HEAD_REGRESSION, "head-regression", label="the head by regression on an untrained model"
)
SHUFFLED_ROWS = shuffled(
    EMBEDDING_ROWS,
    "embedding-rows",
    label="the control with the rows of other tokens",
    start="embedding-rows from a teacher whose rows belong to other tokens",
)
UNTRAINED_ROWS = untrained(
    EMBEDDING_ROWS, "embedding-rows", label="the update of rows from an untrained model"
)
