"""Acquire data: read rows, distribute them over the four splits, refuse any overlap."""

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated

from pydantic import Field

from artifacts.canonical import canonical_bytes
from artifacts.disk.digests import digest_bytes
from artifacts.folders import digest_folder
from artifacts.names import Digest
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
from paraknow_core.data.templates import TEMPLATES
from paraknow_core.errors import DataError
from paraknow_core.setting_types import Count, CountOrNone, OneOf, PathOrHubId, Seed, Text
from paraknow_core.settings import Settings, execution
from tasks.engine.json_files import kind_of
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source, SourceChangedError, SourceFiles
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, NotDownloadedError, Step

SPLIT_FILES = {name: f"{name}.parquet" for name in ("seeds", "train", "validation", "test")}

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[A-Za-z0-9][\w.-]*)?")


class RowsConfig(Settings):
    """Where rows come from: one file, or one split of a data set of the Hub."""

    path: PathOrHubId = execution(
        "", title="File", description="JSONL or Parquet. Identity is its content, not its name."
    )
    hub: PathOrHubId = Field("", title="Hub data set", description="Such as openai/gsm8k.")
    subset: Text = Field("", title="Subset", description="The Hub data set's configuration.")
    split: Text = Field("train", title="Split", description="The Hub data set's split.")
    revision: Text = Field("", title="Revision", description="Hub commit; empty: main.")


class ColumnsConfig(Settings):
    """The names under which the data keeps its fields."""

    prompt: Text = "prompt"
    answer: Text = "answer"
    messages: Text = "messages"
    input_ids: Text = "input_ids"
    labels: Text = "labels"
    id: Text = "id"


class SizesConfig(Settings):
    """Rows of each split."""

    seeds: Count = Field(32, title="Seeds", description="Rows for the teacher's sensitivity.")
    train: Count = Field(1000, title="Training rows")
    validation: CountOrNone = Field(200, title="Validation rows")
    test: Count = Field(500, title="Test rows")


class DataConfig(Settings):
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
    template: Annotated[str, OneOf("template", TEMPLATES)] = Field(
        "tulu", title="Template", description="How a conversation becomes text: tulu, or none."
    )
    sizes: SizesConfig = Field(SizesConfig(), title="Sizes")
    seed: Seed = Field(0, title="Seed", description="Another seed deals the rows out otherwise.")


def _given(rows: RowsConfig) -> bool:
    return bool(rows.path or rows.hub)


def _source(config: DataConfig, _inputs: Mapping[str, Ref], run: RunConfig) -> Source:
    """Digest the files; rows from the Hub are read first: only their content is identity."""
    if not _given(config.rows):
        raise DataError(
            "No rows given: set data.rows.path to a JSONL or Parquet file, or data.rows.hub."
        )
    store = run.open_store()
    digests, files = {}, {}
    for role, rows in (("rows", config.rows), ("test", config.test)):
        if rows.path and rows.hub:
            raise DataError(
                f"data.{role} gives both path {rows.path!r} and hub {rows.hub!r}; give one."
            )
        if rows.path:
            path = _existing(rows.path)
            found = digest_folder(path.parent, [path.name], stamps=store.stamps)
            digests[role] = found[path.name].digest
            files[role] = SourceFiles.of_file(path, digests[role])
        elif rows.hub:
            digests[role] = _digest_of(_from_hub(config, rows, run))
    return Source(digests=digests, files=files)


def _digest_of(examples: Sequence[Example]) -> Digest:
    texts = [[e.id, e.prompt, e.answer, e.input_ids, e.labels] for e in examples]
    return digest_bytes(canonical_bytes(texts))


def _existing(name: str) -> Path:
    path = Path(name).expanduser()
    kind = kind_of(path)
    if kind != "file":
        what = "is no regular file" if kind else "does not exist"
        looked = str(path.absolute())[:300]
        raise DataError(f"Data file {name[:300]!r} {what} (looked at {looked}).")
    return path


def _from_hub(config: DataConfig, rows: RowsConfig, run: RunConfig) -> list[Example]:
    if run.download:
        return _read_hub(config, rows)
    try:
        return _read_hub(config, rows, offline=True)
    except DataError as error:
        raise NotDownloadedError(str(error)) from error


def _read_hub(config: DataConfig, rows: RowsConfig, *, offline: bool = False) -> list[Example]:
    return read_hub(
        rows.hub,
        offline=offline,
        config=rows.subset or None,
        split=rows.split,
        revision=rows.revision or None,
        template=config.template,
        columns=Columns(**config.columns.model_dump()),
    )


def _read(job: Job[DataConfig], role: str, rows: RowsConfig) -> list[Example]:
    """Read the rows that the key was made of, and no others."""
    config = job.config
    if rows.path:
        columns = Columns(**config.columns.model_dump())
        return read_examples(job.locations[role], template=config.template, columns=columns)
    examples = _from_hub(config, rows, job.run)
    if _digest_of(examples) != job.digests[role]:
        raise SourceChangedError(
            f"The data set {rows.hub!r} gave other rows when it was read again than when it was "
            "digested. Nothing was stored. Let whatever writes there finish, and run again."
        )
    return examples


def _compute(job: Job[DataConfig]) -> Facts:
    """Read rows, distribute them over seeds, train, validation and test, and refuse any overlap."""
    config = job.config
    sizes = SplitSizes(**config.sizes.model_dump())
    own_test = _given(config.test)
    dealt = SplitSizes(sizes.seeds, sizes.train, sizes.validation, 0 if own_test else sizes.test)
    splits = split_examples(_read(job, "rows", config.rows), sizes=dealt, seed=config.seed)
    if own_test:
        rows = _read(job, "test", config.test)
        splits["test"] = split_examples(
            rows, sizes=SplitSizes(0, 0, 0, sizes.test), seed=config.seed
        )["test"]
    check_overlap(splits)
    for name, file in SPLIT_FILES.items():
        write_examples(job.out / file, splits[name])
    return {name: len(rows) for name, rows in splits.items()}


acquire_data = Step(
    name="acquire-data",
    stage=Stage.ACQUIRE,
    version=1,
    compute=_compute,
    source=_source,
    preview=True,
    retries=2,
)
