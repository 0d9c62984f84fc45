"""Acquire data: read rows, distribute them over the four splits, refuse any overlap."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from artifacts.canonical import canonical_bytes
from artifacts.disk.digests import digest_bytes
from artifacts.folders import digest_folder
from artifacts.names import Digest
from paraknow_core.data import Columns, DealtSizes, Example, get_template, write_examples
from paraknow_core.data.deal import COMMON, SHOTS, DealRules, deal
from paraknow_core.data.drafts import Draft, to_example
from paraknow_core.data.files import read_drafts
from paraknow_core.data.hub import read_hub_drafts
from paraknow_core.data.rows import RowForm
from paraknow_core.data.wording import Wording
from paraknow_core.errors import DataError
from tasks.engine.estimates import FORESEEN_ROWS
from tasks.engine.json_files import kind_of, write_json
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source, SourceChangedError, SourceFiles
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, NotDownloadedError, Step
from tasks.rows.config import SPLIT_FILES, DataConfig, FewshotConfig, RowsConfig


def _source(config: DataConfig, _inputs: Mapping[str, Ref], run: RunConfig) -> Source:
    """Digest the files; rows from the Hub are read first: only their content is identity."""
    lacking = [] if config.rows.given else list(config.from_common())
    if lacking:
        raise DataError(
            "No rows given: set data.rows.path to a JSONL or Parquet file, or data.rows.hub"
            + (f" (for {', '.join(lacking)})." if config.sources() else ".")
        )
    store = run.open_store()
    digests, files = {}, {}
    for role, rows in config.sources().items():
        if rows.path:
            path = _existing(rows.path)
            found = digest_folder(path.parent, [path.name], stamps=store.stamps)
            digests[role] = found[path.name].digest
            files[role] = SourceFiles.of_file(path, digests[role])
        elif rows.hub:
            digests[role] = _digest_of(_from_hub(config, rows, run), config, role)
    return Source(digests=digests, files=files)


def _digest_of(drafts: Sequence[Draft], config: DataConfig, role: str) -> Digest:
    template, wording = get_template(config.template), _wording(config, role)
    texts: list[list[Any]] = []
    for draft in drafts:
        e = to_example(draft, template=template, wording=wording)
        texts.append([e.id, e.prompt, e.answer, e.input_ids, e.labels])
        if e.references or e.own or draft.group:  # which rows of earlier versions had not
            texts[-1] += [e.references, e.own, draft.group]
    return digest_bytes(canonical_bytes(texts))


def _existing(name: str) -> Path:
    path = Path(name).expanduser()
    kind = kind_of(path)
    if kind != "file":
        what = "is no regular file" if kind else "does not exist"
        looked = str(path.absolute())[:300]
        raise DataError(f"Data file {name[:300]!r} {what} (looked at {looked}).")
    return path


def _wording(config: DataConfig, role: str) -> Wording:
    rows = config.sources().get(role)
    return config.wording if rows is None or rows.wording is None else rows.wording


def row_form(config: DataConfig, rows: RowsConfig) -> RowForm:
    """Return what the fields of some rows mean, as the core takes it."""
    columns = config.columns if rows.columns is None else rows.columns
    return RowForm(
        Columns(**columns.model_dump()),
        config.wording if rows.wording is None else rows.wording,
        group=config.fewshot.group if config.fewshot.count else "",
        unanswered=config.unanswered,
    )


def _from_hub(config: DataConfig, rows: RowsConfig, run: RunConfig) -> list[Draft]:
    if run.download:
        return _read_hub(config, rows)
    try:
        return _read_hub(config, rows, offline=True)
    except DataError as error:
        raise NotDownloadedError(str(error)) from error


def _read_hub(config: DataConfig, rows: RowsConfig, *, offline: bool = False) -> list[Draft]:
    return read_hub_drafts(
        rows.hub,
        offline=offline,
        config=rows.subset or None,
        split=rows.split,
        revision=rows.revision or None,
        form=row_form(config, rows),
    )


def _read(job: Job[DataConfig], role: str, rows: RowsConfig) -> list[Draft]:
    """Read the rows that the key was made of, and no others."""
    if rows.path:
        return read_drafts(job.locations[role], row_form(job.config, rows))
    drafts = _from_hub(job.config, rows, job.run)
    if _digest_of(drafts, job.config, role) != job.digests[role]:
        raise SourceChangedError(
            f"The data set {rows.hub!r} gave other rows when it was read again than when it was "
            "digested. Nothing was stored. Let whatever writes there finish, and run again."
        )
    return drafts


def deal_rules(config: DataConfig) -> DealRules:
    """Return how rows are dealt out, as the core takes it."""
    roles = (COMMON, *SPLIT_FILES, SHOTS)
    wordings = {role: _wording(config, role) for role in roles}
    if config.seeds_from == "train":
        wordings["seeds"] = wordings["train"]
    return DealRules(
        sizes=DealtSizes(**config.sizes.model_dump()),
        seed=config.seed,
        template=config.template,
        wordings=wordings,
        fewshot=config.fewshot,
        seeds_from=config.seeds_from,
        may_share=config.may_share,
    )


def _compute(job: Job[DataConfig]) -> Facts:
    """Read rows, distribute them over seeds, train, validation and test, and refuse any overlap."""
    config = job.config
    drafts = {role: _read(job, role, rows) for role, rows in config.sources().items()}
    splits: dict[str, list[Example]] = deal(drafts, deal_rules(config))
    for name, file in SPLIT_FILES.items():
        write_examples(job.out / file, splits[name])
    return {name: len(rows) for name, rows in splits.items()}


def _foresee(config: DataConfig, out: Path) -> bool:
    """Write what the settings say of rows that are not here yet, for a plan's estimates."""
    write_json(out / FORESEEN_ROWS, config.foresee())
    return True


def _decided_by(config: DataConfig, file: str) -> str:
    """Examples before questions change the splits that get them, and no others."""
    if file.removesuffix(".parquet") not in config.fewshot.splits:
        config = config.model_copy(update={"fewshot": FewshotConfig()})
    return config.model_dump_json()


acquire_data = Step(
    name="acquire-data",
    stage=Stage.ACQUIRE,
    version=1,
    compute=_compute,
    source=_source,
    foresee=_foresee,
    decided_by=_decided_by,
    preview=True,
    retries=2,
)
