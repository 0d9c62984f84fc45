"""What arms' trainings took: operations and seconds, read off the records of their steps."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from artifacts.names import StepKey, is_hex_digest
from artifacts.records import FileEntry, Record
from artifacts.store import Store
from paraknow_core.inspection.cost import backward_flops, training_flops
from paraknow_core.methods import METHODS
from paraknow_core.models.describe import Architecture
from tasks.comparison_parts.config import CellReport

_WEIGHTS, _FLOAT = "adapter_model.safetensors", 4
"""An adapter's weights are float32, so their number is the file's size by 4, its header aside."""


@dataclass(frozen=True)
class Compute:
    """What an arm took; None where no record says.

    Attributes:
        flops: of one seed's training (``training_flops``).
        teacher_flops: of the passes of a teacher that it builds on, done once for all seeds: for
            outputs 2 operations for each weight and token, for sensitivity 6; 0 if there are none.
        seconds: of one seed's training when it was computed, mean over seeds.
    """

    flops: float | None = None
    teacher_flops: float | None = None
    seconds: float | None = None

    @property
    def whole(self) -> float | None:
        """Operations for who trains one adapter: its training and the passes of a teacher."""
        if self.flops is None or self.teacher_flops is None:
            return None
        return self.flops + self.teacher_flops


def compute_of(
    store: Store,
    arms: Mapping[str, Sequence[str]],
    *,
    teacher: Architecture | None,
    student: Architecture | None,
) -> dict[str, Compute]:
    """Say what the trainings of a cell's arms took.

    Results from before a training's record counted tokens get the count of another one on the same
    rows, if any arm has one.

    Args:
        store: with the records.
        arms: name → keys of the trainings of its seeds.
        teacher: the pair's; None if it is not known.
        student: the same.
    """
    trained = {
        name: [r for key in keys if (r := store.lookup_record(StepKey(key))) is not None]
        for name, keys in arms.items()
    }
    above = {name: list(_above(store, found[:1])) for name, found in trained.items()}
    everything = [r for name in trained for r in (*trained[name], *above[name])]
    tokens = {place: count for r in everything for place, count in _tokens_an_epoch(r)}
    found = {}
    for name, records in trained.items():
        if teacher is None or student is None or not records:
            found[name] = Compute()
            continue
        found[name] = Compute(
            _training(store, records[0], student, tokens.get(_rows(records[0]))),
            sum(_pass(record, teacher) for record in above[name]),
            fmean(float(str(r.provenance.get("seconds", 0.0))) for r in records),
        )
    return found


def compute_told(cell: CellReport, took: Mapping[str, Compute]) -> tuple[str, ...]:
    """Say what the methods took, as multiples of plain LoRA's training where there is one.

    Args:
        cell: with the methods.
        took: name → what it took.

    Returns:
        One sentence; none if what two of them took is not known, or all took the same.
    """
    whole = {arm.name: value for arm in cell.arms if (value := took[arm.name].whole)}
    plain = [a.name for a in cell.arms if METHODS[a.start].is_plain and a.loss == "answers"]
    unit = next((name for name in (*plain, *whole) if name in whole), "")
    shown = {name: f"{value / whole[unit]:.2f}" for name, value in whole.items()}
    if len(set(shown.values())) < 2:
        return ()
    told = ", ".join(f"{name} {text}" for name, text in shown.items() if name != unit)
    return (
        "Compute for one adapter, with the teacher's passes that it builds on, in multiples of "
        f"what {unit} takes: {told}. Trials of learning rates are not counted.",
    )


def _rows(trained: Record) -> tuple[str, str]:
    """What rows a step reads: by digest of the split, and as far as they are not cut off."""
    payload = trained.payload
    return str(payload.inputs.get("data.train.parquet")), str(payload.config.get("cutoff"))


def _tokens_an_epoch(record: Record) -> Iterator[tuple[tuple[str, str], int]]:
    """How many tokens the training rows have, if a record says so."""
    tokens = record.facts.get("tokens")
    if isinstance(tokens, int) and "data.train.parquet" in record.payload.inputs:
        yield _rows(record), tokens // _epochs(record)


def _epochs(record: Record) -> int:
    return int(str(record.payload.config.get("epochs", 1)))


def _training(
    store: Store, trained: Record, student: Architecture, an_epoch: int | None
) -> float | None:
    delivered = trained.files.get(_WEIGHTS)
    if an_epoch is None or delivered is None:
        return None
    in_model = _in_model(store, trained) or delivered
    said = trained.facts.get("epochs_done")  # where it was stopped early
    epochs = said if isinstance(said, int | float) else _epochs(trained)
    return training_flops(student, round(an_epoch * epochs), in_model.size // _FLOAT)


def _in_model(store: Store, trained: Record) -> FileEntry | None:
    """Return the weights that stand for the adapters of the model that was trained, if known.

    In float32 it has the start point's alone, as the start product is subtracted from the weights.
    In bfloat16, or quantised, it has an anchor too: as many weights as the delivered adapter.
    """
    config = trained.payload.config
    if config.get("compute_dtype", "float32") != "float32" or "quantise" in config:
        return None
    starts = _inputs(store, trained, role="start")
    return next((start.files.get(_WEIGHTS) for start in starts), None)


def _pass(record: Record, teacher: Architecture) -> float:
    """Operations of a pass of a teacher; 0 of any other step."""
    said, tokens = record.facts.get("flops"), record.facts.get("tokens")
    if isinstance(said, int | float):
        return float(said)
    is_pass = record.step == "sensitivity" and isinstance(tokens, int)
    return backward_flops(teacher, int(str(tokens))) if is_pass else 0.0


def _above(store: Store, records: Iterable[Record]) -> Iterator[Record]:
    """Everything that results were made from, as their records name it, each once."""
    waiting, seen = list(records), set[str]()
    while waiting:
        for found in _inputs(store, waiting.pop()):
            if found.key not in seen:
                seen.add(found.key)
                yield found
                waiting.append(found)


def _inputs(store: Store, record: Record, *, role: str | None = None) -> Iterator[Record]:
    """What a result was made from directly, or one input of it, as far as there are records."""
    said = record.provenance.get("inputs")
    for name, value in said.items() if isinstance(said, Mapping) else ():
        key = str(value.get("key", "")) if isinstance(value, Mapping) else ""
        if role in (None, name) and is_hex_digest(key):
            found = store.lookup_record(StepKey(key))
            if found is not None:
                yield found
