"""Acquire data: read rows, deal them out to the four splits, refuse any overlap."""

import re
from collections.abc import Mapping
from pathlib import Path

from pydantic import Field

from artifacts.canonical import canonical_bytes
from artifacts.digests import digest_bytes
from artifacts.folders import digest_folder
from paraknow_core.data import (
    Columns,
    Example,
    SplitSizes,
    check_overlap,
    read_examples,
    read_hub,
    split_examples,
    write_examples,
)
from paraknow_core.errors import DataError
from tasks.engine.identity import StepConfig, execution
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.step import Facts, Job, NotDownloadedError, Source, Step

SPLIT_FILES = {name: f"{name}.parquet" for name in ("seeds", "train", "validation", "test")}

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


class RowsConfig(StepConfig):
    """Where rows come from: one file, or one split of a data set of the Hub."""

    path: str = execution(
        "", title="File", description="JSONL or Parquet. Identity is its content, not its name."
    )
    hub: str = Field("", title="Hub data set", description="Such as openai/gsm8k.")
    subset: str = Field("", title="Subset", description="The Hub data set's configuration.")
    split: str = Field("train", title="Split", description="The Hub data set's split.")
    revision: str = Field("", title="Revision", description="Hub commit; empty: main.")


class ColumnsConfig(StepConfig):
    """The names under which the data keeps its fields."""

    prompt: str = "prompt"
    answer: str = "answer"
    messages: str = "messages"
    input_ids: str = "input_ids"
    labels: str = "labels"
    id: str = "id"


class SizesConfig(StepConfig):
    """Rows of each split."""

    seeds: int = Field(32, ge=1, title="Seeds", description="Rows for the teacher's sensitivity.")
    train: int = Field(1000, ge=1, title="Training rows")
    validation: int = Field(200, ge=0, title="Validation rows")
    test: int = Field(500, ge=1, title="Test rows")


class DataConfig(StepConfig):
    """Rows, their form, and how they are dealt out."""

    rows: RowsConfig = Field(
        RowsConfig(),
        title="Rows",
        description="For seeds, train and validation; and for test if none is given.",
    )
    test: RowsConfig = Field(
        RowsConfig(),
        title="Test rows",
        description="A data set's own test split, where it has one.",
    )
    columns: ColumnsConfig = Field(ColumnsConfig(), title="Columns")
    template: str = Field(
        "tulu", title="Template", description="How a conversation becomes text: tulu, or none."
    )
    sizes: SizesConfig = Field(SizesConfig(), title="Sizes")
    seed: int = Field(
        0, ge=0, title="Seed", description="Another seed deals the rows out otherwise."
    )


def _given(rows: RowsConfig) -> bool:
    return bool(rows.path or rows.hub)


def _source(config: DataConfig, _inputs: Mapping[str, Ref], run: RunConfig) -> Source:
    """Digest the files; rows from the Hub are read first: only their content is identity."""
    if not _given(config.rows):
        raise DataError(
            "No rows given: set data.rows.path to a JSONL or Parquet file, or data.rows.hub."
        )
    store = run.open_store()
    digests = {}
    for role, rows in (("rows", config.rows), ("test", config.test)):
        if rows.path and rows.hub:
            raise DataError(
                f"data.{role} gives both path {rows.path!r} and hub {rows.hub!r}; give one."
            )
        if rows.path:
            path = _existing(rows.path)
            found = digest_folder(path.parent, [path.name], stamps=store.stamps)
            digests[role] = found[path.name].digest
        elif rows.hub:
            examples = _from_hub(config, rows, run)
            texts = [[e.id, e.prompt, e.answer, e.input_ids, e.labels] for e in examples]
            digests[role] = digest_bytes(canonical_bytes(texts))
    return Source(digests=digests)


def _existing(name: str) -> Path:
    path = Path(name).expanduser()
    if not path.is_file():
        raise DataError(f"Data file {name!r} does not exist (looked at {path.absolute()}).")
    return path


def _from_hub(config: DataConfig, rows: RowsConfig, run: RunConfig) -> list[Example]:
    if run.download:
        return _read(config, rows)
    try:
        return _read(config, rows, offline=True)
    except DataError as error:
        raise NotDownloadedError(str(error)) from error


def _read(config: DataConfig, rows: RowsConfig, *, offline: bool = False) -> list[Example]:
    columns = Columns(**config.columns.model_dump())
    if rows.path:
        return read_examples(_existing(rows.path), template=config.template, columns=columns)
    return read_hub(
        rows.hub,
        offline=offline,
        config=rows.subset or None,
        split=rows.split,
        revision=rows.revision or None,
        template=config.template,
        columns=columns,
    )


def _compute(job: Job[DataConfig]) -> Facts:
    """Read rows, deal them out to seeds, train, validation and test, and refuse any overlap."""
    config = job.config
    sizes = SplitSizes(**config.sizes.model_dump())
    own_test = _given(config.test)
    dealt = SplitSizes(sizes.seeds, sizes.train, sizes.validation, 0 if own_test else sizes.test)
    splits = split_examples(_read(config, config.rows), sizes=dealt, seed=config.seed)
    if own_test:
        rows = _read(config, config.test)
        splits["test"] = split_examples(
            rows, sizes=SplitSizes(0, 0, 0, sizes.test), seed=config.seed
        )["test"]
    check_overlap(splits)
    for name, file in SPLIT_FILES.items():
        write_examples(job.out / file, splits[name])
    return {name: len(rows) for name, rows in splits.items()}


acquire_data = Step(
    name="acquire-data",
    version=1,
    compute=_compute,
    source=_source,
    preview=True,
    retries=2,
)
