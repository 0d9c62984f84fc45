"""Updates from a teacher's parameters, and the controls of each; their maps are fitted anew."""

from paraknow_core.method import Method, Use
from paraknow_core.method_tables.controls import control
from paraknow_core.method_tables.names import LATEN, OWN, PLAIN, THESEUS, WEIGHT_TRANSPORT

_USES: frozenset[Use] = frozenset({"parameters", "activations", "labels"})


def transport(
    *,
    label: str,
    start: str,
    source: str,
    controls: tuple[str, ...],
    draws: bool = False,
    needs: tuple[str, ...] = (),
    covers: tuple[str, ...] = (),
) -> Method:
    """Change the student by what a teacher's parameters say."""
    return Method(
        kind="transfer",
        label=label,
        start=start,
        tells="It is what the other arms are compared with.",
        source=source,
        builder="transport",
        uses=_USES,
        draws=draws,
        needs=needs,
        baseline=PLAIN,
        rivals=("pissa", "milora"),
        controls=controls,
        covers=covers,
    )


def shuffled(method: Method, of: str) -> Method:
    """Take away the place of the teacher's values."""
    return control(
        method,
        of,
        "update",
        label=f"the control of {of} with permuted matrices",
        start=f"{of} from a teacher whose matrices have their rows and columns permuted",
        beaten="the place of the teacher's values matters, beyond their distribution",
        replacement="shuffled",
    )


def scaled_down(method: Method, of: str) -> Method:
    """Take the teacher away altogether: the student's matrices made smaller."""
    return control(
        method,
        of,
        "update",
        label=f"the control of {of} that scales the weights down",
        start=f"the student's own matrices scaled down, by as much as the update of {of} is large",
        beaten="what the update says matters, beyond taking some of the student's weights away",
        replacement="scaled-down",
        draws=method.draws,
    )


def drawn(method: Method, of: str) -> Method:
    """Take away what tuning taught, where no untrained model can stand for the teacher."""
    return control(
        method,
        of,
        "update",
        label=f"the control of {of} with a drawn task vector",
        start=f"{of} of a task vector that is drawn at random, as large in each matrix",
        beaten="what tuning taught matters, beyond its size and what the student's own gradient "
        "says",
        replacement="drawn",
    )


def untrained(method: Method, of: str) -> Method:
    """Take away what the teacher learnt."""
    return control(
        method,
        of,
        "teacher",
        label=f"the control of {of} from an untrained model",
        start=f"{of} from a model of the teacher's sizes that was never trained, another for each "
        "seed",
        beaten="what the teacher learnt matters",
        replacement="untrained",
    )


def own(method: Method, of: str) -> Method:
    """Put the student in its teacher's place."""
    return control(
        method,
        of,
        "teacher",
        label=f"the control of {of} from the student to itself",
        start=f"{of} from the student to itself",
        beaten="a teacher gives more than the student's own weights do",
        replacement=OWN,
        draws=method.draws,
    )


THESEUS_UPDATE = transport(
    label="the update of Theseus",
    start="what tuning changed in the teacher, carried over by orthogonal maps between activations",
    source="Theseus (arXiv 2602.12952) with GradFix (arXiv 2510.09658); of an adapter, after "
    "Cross-LoRA (arXiv 2508.05232)",
    controls=("theseus-shuffled", "theseus-drawn", "theseus-scaled-down"),
    needs=("teacher base",),
)

WEIGHT_TRANSPORT_UPDATE = transport(
    label="the update by weight transport",
    start="the teacher's matrices as maps between activations carry them over, less the student's",
    source="after Theseus (arXiv 2602.12952), for weights in place of task vectors",
    controls=("transport-shuffled", "transport-untrained", "transport-scaled-down"),
)

LATEN_UPDATE = transport(
    label="the update of LaTen",
    start="the teacher's most telling neurons, translated, on top of the student's",
    source="LaTen (arXiv 2505.14436)",
    controls=("laten-shuffled", "laten-untrained", "laten-scaled-down"),
    draws=True,
    needs=("covered roles",),
    covers=("v", "o", "up", "down"),
)

THESEUS_SHUFFLED = shuffled(THESEUS_UPDATE, THESEUS)
THESEUS_DRAWN = drawn(THESEUS_UPDATE, THESEUS)
THESEUS_SCALED_DOWN = scaled_down(THESEUS_UPDATE, THESEUS)
TRANSPORT_SHUFFLED = shuffled(WEIGHT_TRANSPORT_UPDATE, WEIGHT_TRANSPORT)
TRANSPORT_UNTRAINED = untrained(WEIGHT_TRANSPORT_UPDATE, WEIGHT_TRANSPORT)
TRANSPORT_SCALED_DOWN = scaled_down(WEIGHT_TRANSPORT_UPDATE, WEIGHT_TRANSPORT)
LATEN_SHUFFLED = shuffled(LATEN_UPDATE, LATEN)
LATEN_UNTRAINED = untrained(LATEN_UPDATE, LATEN)
LATEN_OWN = own(LATEN_UPDATE, LATEN)
LATEN_SCALED_DOWN = scaled_down(LATEN_UPDATE, LATEN)
