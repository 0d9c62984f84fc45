"""Acquire a benchmark: find its definitions, read its data, and refuse what could not be run."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from artifacts.canonical import canonical_bytes
from artifacts.disk.digests import digest_bytes
from artifacts.disk.stamps import StampCache
from artifacts.folders import digest_folder
from paraknow_core.errors import DataError
from paraknow_core.evaluation.benchmarks.own_files import (
    check_definitions,
    data_files,
    definition_files,
)
from paraknow_core.evaluation.benchmarks.wanted import SUBSET, Wanted
from paraknow_core.setting_types import PathOrHubId, Text
from paraknow_core.settings import Settings, execution
from tasks.engine.json_files import write_json
from tasks.engine.progress import logger
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, NotDownloadedError, Step
from tasks.harness.config import HarnessTask, Shots

TASKS, FOLDERS = "tasks.json", "folders.json"


class BenchmarkTasksConfig(Settings):
    """Which benchmark, and where its definitions and data lie; their content is identity."""

    task: Text
    shots: Shots | None = None
    dataset_path: PathOrHubId = ""
    dataset_name: Text = ""
    data_files: dict[Text, PathOrHubId] = execution({})
    include_path: PathOrHubId = execution("")

    @classmethod
    def of(cls, task: HarnessTask, include_path: str) -> "BenchmarkTasksConfig":
        """Take what matters for the tasks themselves."""
        given = {name: getattr(task, name) for name in cls.model_fields if name != "include_path"}
        return cls(**given, include_path=include_path)

    @property
    def wanted(self) -> Wanted:
        """The same as the core takes it."""
        include = Path(self.include_path).expanduser() if self.include_path else None
        return Wanted(
            self.task,
            self.shots,
            include,
            {split: str(Path(name).expanduser()) for split, name in self.data_files.items()},
            self.dataset_path,
            self.dataset_name,
        )


def _source(config: BenchmarkTasksConfig, _inputs: Mapping[str, Ref], run: RunConfig) -> Source:
    """Digest the user's definitions and all local data; the harness's own have its version."""
    wanted, parts = config.wanted, _Parts(config.task, run.open_store().stamps)
    found: dict[str, Any] = {"lm_eval": version("lm_eval")}
    if wanted.include is not None:
        check_definitions(wanted.include)
        files = definition_files(wanted.include)
        found["definitions"] = {
            str(path.relative_to(wanted.include)): parts.digest(path) for path in files
        }
        found["data"] = [parts.digest(path) for path in data_files(wanted.include)]
    if wanted.data_files:
        found["files"] = {split: parts.of(name) for split, name in wanted.data_files.items()}
    return Source(digests={role: digest_bytes(canonical_bytes(of)) for role, of in found.items()})


@dataclass(frozen=True)
class _Parts:
    """Digests of files that a benchmark reads."""

    benchmark: str
    stamps: StampCache

    def digest(self, path: Path) -> str:
        if not path.is_file():
            raise DataError(
                f"Data file {str(path)!r} of benchmark {self.benchmark!r} is not there."
            )
        found = digest_folder(path.parent, [path.name], stamps=self.stamps)
        return str(found[path.name].digest)

    def of(self, name: str) -> str | dict[str, str]:
        """The digest of a split's file, or of the file of each subset."""
        if SUBSET not in name:
            return self.digest(Path(name))
        pattern = Path(name.replace(SUBSET, "*"))
        files = sorted(pattern.parent.glob(pattern.name))
        if not files:
            raise DataError(f"No data file fits {name!r} of benchmark {self.benchmark!r}.")
        return {path.name: self.digest(path) for path in files}


def _compute(job: Job[BenchmarkTasksConfig]) -> Facts:
    """Load a benchmark's tasks once, and write down what they are."""
    from paraknow_core.evaluation.benchmarks.described import describe
    from paraknow_core.evaluation.benchmarks.opened import NotHereError, opened

    try:
        with opened(job.config.wanted, offline=not job.run.download) as benchmark:
            found, folders = describe(benchmark), benchmark.folders
    except NotHereError as error:
        if job.run.download:
            raise
        raise NotDownloadedError(str(error)) from error
    write_json(job.out / TASKS, found)
    write_json(job.out / FOLDERS, list(folders))
    _tell_shared(job.label, found["tasks"])
    return {
        "tasks": len(found["tasks"]),
        "questions": sum(task["questions"] for task in found["tasks"].values()),
        "lm_eval": version("lm_eval"),
    }


def _tell_shared(label: str, tasks: Mapping[str, Mapping[str, Any]]) -> None:
    """Warn of few-shot examples that are questions too, in data that is not the user's to mend."""
    for name, task in tasks.items():
        if shared := task.get("examples_among_questions"):
            logger.warning(
                "%s: %d of %d few-shot examples of %s are among its questions",
                label,
                shared,
                task["examples"],
                name,
            )


benchmark_tasks = Step(
    name="benchmark-tasks",
    stage=Stage.ACQUIRE,
    version=1,
    compute=_compute,
    source=_source,
    preview=True,
    retries=2,
)
