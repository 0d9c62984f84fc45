"""A benchmark's tasks as the harness loads them, with their data."""

import contextlib
import logging
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import datasets
import yaml
from datasets.exceptions import DatasetsError
from huggingface_hub.errors import HfHubHTTPError
from lm_eval.tasks import TaskManager
from lm_eval.tasks._yaml_loader import load_yaml

from paraknow_core.errors import ConfigError, DataError
from paraknow_core.evaluation.benchmarks.find import HARNESS, OWN, Found, find
from paraknow_core.evaluation.benchmarks.own_files import check_definitions
from paraknow_core.evaluation.benchmarks.wanted import SUBSET, Wanted
from paraknow_core.printable import printable

_LOADERS = {".json": "json", ".jsonl": "json", ".parquet": "parquet", ".csv": "csv"}
"""Ending of a data file → what `datasets` calls its kind."""


class NotHereError(DataError):
    """A benchmark's data is not on this machine, and the Hub cannot or may not be asked."""


@dataclass(frozen=True)
class Opened:
    """A benchmark, loaded.

    Attributes:
        wanted: what was asked for.
        folders: of the harness's own that hold definitions of it, relative to its tasks.
        tasks: name → the harness's task.
        groups: name → the harness's group.
        manager: that loaded them.
    """

    wanted: Wanted
    folders: tuple[str, ...]
    tasks: Mapping[str, Any]
    groups: Mapping[str, Any]
    manager: TaskManager

    @property
    def roots(self) -> list[Any]:
        """The groups and tasks that are part of no other group here."""
        inside = {name for group in self.groups.values() for name in group.child_names}
        both = {**self.groups, **self.tasks}
        return [one for name, one in both.items() if name not in inside]

    def shots_of(self, task: Any) -> int:
        """Return how many examples stand before each of a task's questions."""
        fixed = task.get_config("num_fewshot")
        return int(fixed or 0) if self.wanted.shots is None or fixed == 0 else self.wanted.shots


@contextlib.contextmanager
def opened(
    wanted: Wanted, folders: Sequence[str] | None = None, *, offline: bool = False
) -> Iterator[Opened]:
    """Load a benchmark with its data; files of the user's replace what the definitions name.

    Args:
        wanted: the benchmark.
        folders: of the harness's own, as an earlier ``Opened.folders`` has them; None: looked for.
        offline: use only what was downloaded before.

    Raises:
        ConfigError: for an unknown name, or a definition with faults; names file and line.
        NotHereError: for data of the Hub that cannot be had.
        DataError: for local data that is not there.
    """
    if wanted.include is not None:
        check_definitions(wanted.include)
    own = [OWN, *([wanted.include] if wanted.include else [])]
    with tempfile.TemporaryDirectory(prefix="paraknow-benchmark-") as aside, quiet():
        if folders is None or wanted.has_own_data:
            found = find(wanted.name, wanted.include)
            _write_replacements(wanted, found, Path(aside))
            folders = found.folders
        places = [*(HARNESS / folder for folder in folders), *own, Path(aside)]
        manager = TaskManager(include_defaults=False, include_path=[str(one) for one in places])
        with _refusals(wanted), _network(allowed=not offline):
            loaded = manager.load([wanted.name])
        tasks, groups = loaded["tasks"], loaded.get("groups", {})
        yield Opened(wanted, tuple(folders), tasks, groups, manager)


def _write_replacements(wanted: Wanted, found: Found, folder: Path) -> None:
    """Write for each task a definition that includes its own, and names other data.

    It is what the harness's guide tells its users to do, so that all else stays as it is defined.
    """
    if not wanted.has_own_data:
        return
    files = wanted.data_files
    if len(found.files) > 1 and files and not any(SUBSET in name for name in files.values()):
        raise ConfigError(
            f"benchmark {wanted.name!r} has {len(found.files)} tasks with data of their own; write "
            f"{SUBSET} where data_files name their subsets, such as test: data/{SUBSET}.jsonl"
        )
    for number, (name, path) in enumerate(found.files.items()):
        subset = str(load_yaml(path, resolve_func=False).get("dataset_name") or name)
        replaced: dict[str, Any] = {"include": str(path), "task": name}
        if files:
            named = {split: file.replace(SUBSET, subset) for split, file in files.items()}
            replaced |= {
                "dataset_path": _loader_of(named),
                "dataset_name": None,
                "dataset_kwargs": {"data_files": named},
            }
        if wanted.dataset_path:
            replaced["dataset_path"] = wanted.dataset_path
        if wanted.dataset_name:
            replaced["dataset_name"] = wanted.dataset_name
        text = yaml.safe_dump(replaced, allow_unicode=True)
        (folder / f"{number}.yaml").write_text(text, encoding="utf-8")


def _loader_of(named: Mapping[str, str]) -> str:
    kinds = {_LOADERS.get(Path(file).suffix, "") for file in named.values()}
    if "" in kinds or len(kinds) > 1:
        raise ConfigError(
            f"data_files are {', '.join(named.values())}; they all have to be of one kind: "
            f"{', '.join(_LOADERS)}"
        )
    for file in named.values():
        if not Path(file).is_file():
            raise DataError(f"Data file {file!r} of a benchmark does not exist.")
    return kinds.pop()


@contextlib.contextmanager
def _refusals(wanted: Wanted) -> Iterator[None]:
    """Turn what the harness and `datasets` raise into one sentence."""
    try:
        yield
    except (MemoryError, KeyboardInterrupt):
        raise
    except (ConnectionError, HfHubHTTPError) as error:
        raise NotHereError(
            f"the data of benchmark {wanted.name!r} cannot be had: {_line(error)}. Download it "
            "where there is a network (HF_DATASETS_OFFLINE and HF_HUB_OFFLINE not set), or name "
            "local files: data_files, with a file for each split"
        ) from error
    except (FileNotFoundError, DatasetsError) as error:
        raise DataError(
            f"the data of benchmark {wanted.name!r} cannot be read: {_line(error)}"
        ) from error
    except Exception as error:
        raise ConfigError(
            f"benchmark {wanted.name!r} cannot be loaded: {type(error).__name__}: {_line(error)}"
        ) from error


@contextlib.contextmanager
def _network(*, allowed: bool) -> Iterator[None]:
    """Keep `datasets` from asking the Hub, as HF_HUB_OFFLINE does when it is set beforehand."""
    before = datasets.config.HF_HUB_OFFLINE
    datasets.config.HF_HUB_OFFLINE = before or not allowed
    try:
        yield
    finally:
        datasets.config.HF_HUB_OFFLINE = before


def _line(error: BaseException) -> str:
    text = printable(str(error)).strip() or type(error).__name__
    return text if len(text) <= 300 else text[:299] + "…"


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Hide the harness's advice, and the bars of `datasets`."""
    from datasets.utils.logging import (
        disable_progress_bar,
        enable_progress_bar,
        is_progress_bar_enabled,
    )

    logger = logging.getLogger("lm_eval")
    level, shown = logger.level, is_progress_bar_enabled()
    logger.setLevel(logging.ERROR)
    disable_progress_bar()
    try:
        yield
    finally:
        logger.setLevel(level)
        if shown:
            enable_progress_bar()
