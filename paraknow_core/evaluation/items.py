"""The items of a test: what is asked of a model, and what came of it."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING

from paraknow_core.errors import DataError

if TYPE_CHECKING:
    pass


@dataclass(frozen=True)
class Item:
    """What the model did with one row.

    ``nll`` is in nats, summed over the answer's ``tokens`` (the end-of-sequence token excluded).
    ``extracted`` is what of the generated text was compared, ``expected`` with what.
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
        """
        tokens = sum(item.tokens for item in self.items)
        nll = math.fsum(item.nll for item in self.items) / tokens
        return {
            "answer_nll": nll,
            "perplexity": math.exp(nll) if nll < 700 else math.inf,
            "exact_match": sum(item.correct for item in self.items) / len(self.items),
            "items": len(self.items),
            "tokens": tokens,
        }


@dataclass(frozen=True)
class Question:
    """A row as the harness gets it: texts, and the token numbers training would use."""

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
        DataError: if the file is no such file.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return [Item(**row) for row in pq.read_table(path).to_pylist()]
    except (pa.ArrowException, OSError, TypeError) as error:
        raise DataError(f"{path} cannot be read as evaluation items: {error}") from error
