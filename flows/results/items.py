"""Every test item of a comparison in one Parquet file, and the comparison judged from it again.

Such a file is a finding that can be kept, sent and checked without the store, the models or a new
training: all numbers of the report's verdicts and tables follow from it.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from artifacts.names import StepKey
from artifacts.queries.index import summaries
from artifacts.records import Record
from artifacts.store import Store
from paraknow_core.durable_files import settle
from paraknow_core.errors import ConfigError, DataError
from paraknow_core.evaluation.benchmarks.scores import read_scores, score_of
from paraknow_core.evaluation.items import Item, read_items
from paraknow_core.evaluation.metrics import METRICS
from paraknow_core.report.page.data import Comparison, Pair
from paraknow_core.statistics.judge import Judgement
from paraknow_core.statistics.whole import whole_sentence
from tasks.comparison import comparison
from tasks.comparison_parts.config import ComparisonConfig, arm_role, cell_role
from tasks.comparison_parts.design import design_of, methods_of
from tasks.comparison_parts.primary import benchmark_roles, primary_of
from tasks.comparison_parts.proof import orders_of, untrained_of
from tasks.comparison_parts.proof_config import ProofConfig
from tasks.comparison_parts.told import failed_pair, told_of
from tasks.harness.reported import benchmark_items, benchmark_role

_ABOUT = b"paraknow.comparison"
_LOWER = b"paraknow.lower_is_better"
"""Cells whose verdict is about a benchmark's metric of which the lower value is the better one."""


def write_comparison(store: Store, name: str, path: Path) -> int:
    """Write every item of the newest report of a comparison, and what the report is about.

    Args:
        store: that has the report and the evaluations it was made of.
        name: of the comparison.
        path: of a Parquet file; appears complete or not at all.

    Returns:
        How many rows: cell, method, seed, what was measured (the method's ``items``; for proofs
        also what is ``untrained``, and the ``vanilla`` student's and the teacher's answers, which
        have no method and seed; ``benchmark0-score``: the questions of a benchmark that a verdict
        is about), item, NLL in nats, answer's tokens, whether it is right, and further values.

    Raises:
        ConfigError: if the store has no report of that name, or lacks an evaluation.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    record = _newest_report(store, name)
    config = ComparisonConfig.model_validate(record.payload.config)
    held = [
        (*place, number, item)
        for place in _places(config, record)
        for number, item in enumerate(_stored_items(store, record, _role(*place)))
    ]
    asked, lower = _asked(store, record, config)
    held += asked
    more = list(dict.fromkeys(name for *_, item in held for name in item.measured))
    schema = _schema(more)
    rows = [
        (*place, item.nll, item.tokens, item.correct, *map(item.measured.get, more))
        for *place, item in held
    ]
    columns = dict(zip(schema.names, map(list, zip(*rows, strict=True)), strict=True))
    columns = columns or {name: [] for name in schema.names}
    about = {_ABOUT: config.model_dump_json()} | ({_LOWER: json.dumps(lower)} if lower else {})
    table = pa.table(columns, schema=schema.with_metadata(about))
    draft = path.with_name(f".{path.name}")
    packed = ["nll"]
    pq.write_table(
        table,
        draft,
        compression="zstd",
        compression_level=19,
        use_byte_stream_split=packed,
        use_dictionary=[column for column in columns if column not in packed],
    )
    settle(draft, path)
    return int(table.num_rows)


def read_comparison(path: Path) -> Comparison:
    """Read what `write_comparison` wrote, and judge every cell again.

    Returns:
        Verdicts, contrasts and scores, as the comparison's own report has them; without what only
        its store knows: models, curves, pictures and what it took.

    Raises:
        DataError: if the file is none of these.
    """
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        table = pq.read_table(path)
        config = ComparisonConfig.model_validate_json(table.schema.metadata[_ABOUT])
        lower = json.loads(table.schema.metadata.get(_LOWER, b"[]"))
        if "what" not in table.column_names:  # written before proofs were in it
            table = table.append_column("what", pa.array(["items"] * table.num_rows))
        own = _schema().names
        more = [name for name in table.column_names if name not in own]
        rows = table.select([*own, *more]).to_pydict()
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path} holds no comparison: {error}") from error
    found: dict[str, list[Item]] = {}
    for row in zip(*rows.values(), strict=True):
        *place, number, nll, tokens, correct = row[: len(own)]
        known = zip(more, row[len(own) :], strict=True)
        measured = {name: value for name, value in known if value is not None}
        item = Item(str(number), "", "", nll, tokens, "", "", "", correct, measured)
        found.setdefault(_role(*place), []).append(item)
    judged = {
        f"{cell.pair} on {cell.task}": _judged(config, number, found, is_lower=number in lower)
        for number, cell in enumerate(config.cells)
    }
    return Comparison(
        title=config.name,
        created=config.created,
        summary=whole_sentence({name: judgement for name, (_, judgement) in judged.items()}),
        methods=methods_of(config),
        pairs=tuple(pair for pair, _ in judged.values()),
        orders=orders_of(config, found.get),
        design=design_of(config),
        caveats=config.caveats,
    )


def _judged(
    config: ComparisonConfig,
    number: int,
    found: Mapping[str, Sequence[Item]],
    *,
    is_lower: bool,
) -> tuple[Pair, Judgement]:
    cell = config.cells[number]
    if cell.failure:
        return failed_pair(cell, cell.failure, "Nothing was compared"), Judgement()
    answers = [
        {seed: found[arm_role(number, place, "items", seed)] for seed in arm.seeds}
        for place, arm in enumerate(cell.arms)
    ]
    primary = primary_of(cell, number, found.get, higher_is_better=not is_lower)
    pair, judgement = told_of(cell, answers, config, primary)
    return replace(pair, untrained=untrained_of(config, number, found.get)), judgement


_Place = tuple[int, int | None, int | None, str]
"""Cell, method and seed, and what was measured; no method and seed: of the cell as a whole."""


def _places(config: ComparisonConfig, report: Record) -> Iterator[_Place]:
    """Every evaluation with a result that verdicts and proofs are made of."""
    inputs = report.provenance.get("inputs")
    known = set(inputs) if isinstance(inputs, dict) else set()
    for number, cell in enumerate(config.cells):
        for place, arm in enumerate(cell.arms):
            for seed in arm.seeds:
                yield number, place, seed, "items"
    if config.proof == ProofConfig():
        return
    for number, cell in enumerate(config.cells):
        besides: list[_Place] = [
            (number, None, None, what) for what in ("vanilla", "teacher-items")
        ]
        besides += [
            (number, place, seed, "untrained")
            for place, arm in enumerate(cell.arms)
            for seed in arm.seeds
        ]
        yield from (one for one in besides if _role(*one) in known)


_Row = tuple[int, int | None, int | None, str, int, Item]
"""A place, the number of an item there, and the item."""


def _asked(store: Store, record: Record, config: ComparisonConfig) -> tuple[list[_Row], list[int]]:
    """Read the questions of benchmarks that verdicts are about; which cells' metrics are losses."""
    rows: list[_Row] = []
    lower: list[int] = []
    for number, cell in enumerate(config.cells):
        metric = METRICS.choose(cell.primary)
        for place, seed, role in benchmark_roles(cell, number):
            folder = store.tree_path(_stored(store, record, role))
            what = benchmark_role(cell.benchmarks.index(metric.source), "score")
            items = benchmark_items(folder, metric)
            rows += [(number, place, seed, what, n, item) for n, item in enumerate(items)]
            if score_of(read_scores(folder), metric).higher_is_better is False:
                lower.append(number)
    return rows, sorted(set(lower))


def _role(cell: int, arm: int | None, seed: int | None, what: str) -> str:
    return cell_role(cell, what) if arm is None else arm_role(cell, arm, what, seed)


def _newest_report(store: Store, name: str) -> Record:
    made = [summary.key for summary in summaries(store) if summary.step == comparison.name]
    reports = [record for key in made if (record := store.lookup_record(key)) is not None]
    own = [record for record in reports if record.payload.config.get("name") == name]
    if not own:
        known = sorted({str(record.payload.config.get("name")) for record in reports})
        told = f"there are {', '.join(known)}" if known else "there is none of any name"
        raise ConfigError(f"no report of a comparison {name!r} in {store.root}; {told}")
    return max(own, key=lambda record: str(record.provenance.get("finished", "")))


def _stored_items(store: Store, record: Record, role: str) -> list[Item]:
    return read_items(store.file_path(_stored(store, record, role), "items.parquet"))


def _stored(store: Store, record: Record, role: str) -> Record:
    said = record.provenance.get("inputs")
    named = said.get(role) if isinstance(said, dict) else None
    key = named.get("key") if isinstance(named, dict) else None
    found = store.lookup(StepKey(str(key))) if key else None
    if found is None:
        raise ConfigError(
            f"the report {record.key[:12]} was made of an evaluation ({role}) that is not in "
            f"{store.root} any more; run the comparison again"
        )
    return found


def _schema(measured: Iterable[str] = ()) -> Any:
    import pyarrow as pa

    return pa.schema(
        [
            ("cell", pa.int16()),
            ("arm", pa.int16()),
            ("seed", pa.int64()),
            ("what", pa.string()),
            ("item", pa.int32()),
            ("nll", pa.float32()),  # reports show four digits; it halves the file
            ("tokens", pa.int32()),
            ("correct", pa.bool_()),
            *((name, pa.float32()) for name in measured),
        ]
    )
