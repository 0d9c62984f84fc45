"""The items of a test: what a model is asked, and what it answered."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from paraknow_core.divergence import perplexity
from paraknow_core.errors import DataError

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Item:
    """What the model answered to one row, and how likely the right answer was to it.

    ``nll`` is in nats, summed over the answer's ``tokens`` (the end-of-sequence token excluded);
    NaN or infinite where the model's numbers overflow.
    ``extracted`` is the part of the generated text that was compared, ``expected`` the part of the
    right answer that it was compared with.
    """

    id: str
    prompt: str
    answer: str
    nll: float
    tokens: int
    generated: str
    extracted: str
    expected: str
    correct: bool


@dataclass(frozen=True)
class EvaluationResult:
    """Metrics of a split and the items they come from."""

    items: tuple[Item, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """``answer_nll`` (nats a token, Σnll / Σtokens), ``perplexity`` (its exponential),
        ``exact_match`` (0..1), and the numbers of ``items`` and answer ``tokens``.

        ``answer_nll`` and ``perplexity`` are infinite if the NLL of any item is not finite.
        """
        tokens = sum(item.tokens for item in self.items)
        is_finite = not self.not_finite
        nll = math.fsum(item.nll for item in self.items) / tokens if is_finite else math.inf
        return {
            "answer_nll": nll,
            "perplexity": perplexity(nll),
            "exact_match": sum(item.correct for item in self.items) / len(self.items),
            "items": len(self.items),
            "tokens": tokens,
        }

    @property
    def not_finite(self) -> int:
        """How many items have an NLL that is NaN or infinite."""
        return sum(not math.isfinite(item.nll) for item in self.items)


@dataclass(frozen=True)
class Question:
    """A row as the harness gets it: its texts, and the token numbers that training would use."""

    id: str
    prompt: str
    answer: str
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]


def write_items(path: Path, items: Sequence[Item]) -> None:
    """Write items as Parquet, one column a field: same items, same bytes (one pyarrow version)."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    kinds = {"nll": pa.float64(), "tokens": pa.int64(), "correct": pa.bool_()}
    schema = pa.schema([(field.name, kinds.get(field.name, pa.string())) for field in fields(Item)])
    table = pa.Table.from_pylist([asdict(item) for item in items], schema=schema)
    pq.write_table(table, path, compression="zstd", version="2.6", store_schema=False)


def read_items(path: Path) -> list[Item]:
    """Read what `write_items` wrote.

    Raises:
        DataError: if the file cannot be read as one.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return [Item(**row) for row in pq.read_table(path).to_pylist()]
    except (pa.ArrowException, OSError, TypeError) as error:
        raise DataError(f"{path} cannot be read as evaluation items: {error}") from error
