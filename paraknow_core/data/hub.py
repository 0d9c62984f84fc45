"""Data sets of the Hugging Face Hub, or in its on-disk forms, through ``datasets``."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

from paraknow_core.data.drafts import Draft, to_example
from paraknow_core.data.examples import Columns, Example
from paraknow_core.data.rows import RowForm, to_draft
from paraknow_core.data.templates import get_template
from paraknow_core.errors import DataError

if TYPE_CHECKING:
    from datasets import Dataset

_DEFAULT_COLUMNS = Columns()


def read_hub(
    name: str,
    *,
    config: str | None,
    split: str,
    revision: str | None,
    template: str,
    columns: Columns = _DEFAULT_COLUMNS,
    offline: bool = False,
) -> list[Example]:
    """Read one split of a data set.

    Args:
        name: Hub id (``openai/gsm8k``), a folder of data files, or one that
            ``Dataset.save_to_disk`` or ``DatasetDict.save_to_disk`` wrote.
        config: the data set's configuration (``main``), None for its default.
        split: such as ``train``.
        revision: Hub commit, None for local folders.
        template: name in `paraknow_core.data.templates.TEMPLATES`.
        columns: names of the fields.
        offline: use only what was downloaded before.

    Raises:
        DataError: if it cannot be loaded, or a row is not of a known form.
    """
    make, form = get_template(template), RowForm(columns)
    drafts = read_hub_drafts(
        name, config=config, split=split, revision=revision, form=form, offline=offline
    )
    return [to_example(draft, template=make, wording=form.wording) for draft in drafts]


def read_hub_drafts(
    name: str,
    *,
    config: str | None,
    split: str,
    revision: str | None,
    form: RowForm,
    offline: bool = False,
) -> list[Draft]:
    """As `read_hub`, of rows that are not put into words yet."""
    rows = _load(name, config=config, split=split, revision=revision, offline=offline)
    if len(rows) == 0:
        raise DataError(f"split {split!r} of data set {name} holds no rows")
    return [
        to_draft(
            _present(row),
            where=f"{name} [{split}] row {number}",
            default_id=f"row-{number}",
            form=form,
        )
        for number, row in enumerate(rows, start=1)
    ]


def _present(row: Mapping[str, Any]) -> Mapping[str, Any]:
    return {name: value for name, value in row.items() if value is not None}


@contextmanager
def _no_network() -> Iterator[None]:
    """Say what HF_HUB_OFFLINE says, which only counts when it is set before the imports.

    ``local_files_only`` alone asks the Hub for a data set's card, six times if it is not reached.
    """
    import datasets
    import huggingface_hub

    places: tuple[Any, ...] = (datasets.config, huggingface_hub.constants)
    before = [place.HF_HUB_OFFLINE for place in places]
    try:
        for place in places:
            place.HF_HUB_OFFLINE = True
        yield
    finally:
        for place, value in zip(places, before, strict=True):
            place.HF_HUB_OFFLINE = value


def _load(
    name: str, *, config: str | None, split: str, revision: str | None, offline: bool
) -> "Dataset":
    import datasets

    folder = Path(name)
    try:
        if (folder / "state.json").is_file():
            return datasets.load_from_disk(name)
        if (folder / "dataset_dict.json").is_file():
            return datasets.load_from_disk(str(folder / split))
        where = datasets.DownloadConfig(local_files_only=offline)
        with _no_network() if offline else nullcontext():
            return datasets.load_dataset(
                name, config, split=split, revision=revision, download_config=where
            )
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"data set {name!r} (config {config!r}, split {split!r}, revision {revision!r}) "
            f"cannot be loaded: {error}"
        ) from error
