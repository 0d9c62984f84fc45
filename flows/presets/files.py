"""Files that describe a task or a recipe: finding one by name or path, and reading it.

A fault is told with the file and the line that it stands in.
"""

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Self, TypeVar

from pydantic import Field, ValidationError, model_validator

from flows.config.adapter import AdapterConfig
from flows.config.baseline import BaselineConfig
from paraknow_core.data.splits import SPLITS
from paraknow_core.errors import ConfigError
from paraknow_core.registry import Registry
from paraknow_core.setting_errors import explain, first_causes
from paraknow_core.setting_types import Text
from paraknow_core.settings import Settings
from paraknow_core.strict_yaml import line_in_yaml, read_yaml
from tasks.align import AlignConfig
from tasks.decompose import DecomposeConfig
from tasks.evaluate import EvaluateConfig
from tasks.extract import ExtractConfig
from tasks.finetune import FinetuneConfig
from tasks.harness.config import OWN_BENCHMARK
from tasks.judging.config import JudgeConfig
from tasks.rows.config import DataConfig
from tasks.sensitivity import SensitivityConfig

FOLDER = Path(__file__).parent
SUFFIX = ".yaml"
_ABOUT = frozenset({"title", "source", "harness"})
"""What such a file says for people, and no experiment takes."""


class PresetFile(Settings):
    """What every such file has."""

    title: Text = Field("", title="Title", description="How it is listed.")
    source: Text = Field("", title="Source", description="Paper and licence.")

    def sections(self) -> dict[str, Any]:
        """Return the settings that it stands for, as plain values, without defaults."""
        return self.model_dump(exclude_unset=True, exclude=set(_ABOUT))


def own_benchmark_in(found: Any, own: str) -> Any:
    """Put the harness task of a task's file in the place of ``own``, where that is one's name."""
    evaluate = found.get("evaluate") if isinstance(found, Mapping) else None
    if not own or not isinstance(evaluate, Mapping) or evaluate.get("tasks") != OWN_BENCHMARK:
        return found
    return {**found, "evaluate": {**evaluate, "tasks": [own]}}


class TaskFile(PresetFile):
    """A task: its rows, their words, and how answers are measured."""

    harness: Text = Field(
        "",
        title="Harness task",
        description="Its name in lm-evaluation-harness, if it has one; evaluate.tasks: own means "
        "it.",
    )
    data: DataConfig = Field(title="Data")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), title="Evaluate")
    judge: JudgeConfig | None = Field(None, title="Judge")

    @model_validator(mode="before")
    @classmethod
    def _with_own_benchmark(cls, given: Any) -> Any:
        own = given.get("harness") if isinstance(given, Mapping) else ""
        return own_benchmark_in(given, own if isinstance(own, str) else "")

    @model_validator(mode="after")
    def _has_rows(self) -> Self:
        lacking = [] if self.data.rows.given else self.data.from_common()
        if lacking:
            msg = (
                f"data.rows is required, for {', '.join(lacking)}: give path (a JSONL or Parquet "
                f"file) or hub, or rows of their own to each of {', '.join(SPLITS)}"
            )
            raise ValueError(msg)
        return self


class RecipeFile(PresetFile):
    """How a transfer is made: the settings of its steps."""

    sensitivity: SensitivityConfig | None = None
    align: AlignConfig | None = None
    extract: ExtractConfig | None = None
    decompose: DecomposeConfig | None = None
    lora: AdapterConfig | None = None
    finetune: FinetuneConfig | None = None
    baseline: BaselineConfig | None = None


F = TypeVar("F", bound=PresetFile)
KINDS: Mapping[type[PresetFile], str] = {TaskFile: "task", RecipeFile: "recipe"}
"""Kind of file → what it is called; the shipped ones lie in a folder of that name and an s."""


@cache
def shipped(kind: type[PresetFile]) -> Registry[Path]:
    """Return the files of a kind that are part of the package, by name."""
    what = KINDS[kind]
    found = sorted((FOLDER / f"{what}s").glob(f"*{SUFFIX}"))
    return Registry(what, {path.stem: path for path in found})


def find(kind: type[PresetFile], name: str) -> Path:
    """Return the file that a name or path means.

    Args:
        kind: of the file.
        name: one of `shipped`, or a path, which ends in ``.yaml`` or ``.yml``.

    Raises:
        ConfigError: for an unknown name; names the nearest one.
    """
    if Path(name).suffix in (SUFFIX, ".yml"):
        return Path(name).expanduser()
    try:
        return shipped(kind).choose(name)
    except ConfigError as error:
        raise ConfigError(f"{error}; a file of your own is given by its path, *{SUFFIX}") from None


def read_preset(kind: type[F], name: str) -> F:
    """Read a task or recipe.

    Args:
        kind: `TaskFile` or `RecipeFile`.
        name: as `find` takes it.

    Raises:
        ConfigError: for an unknown name, or a fault of the file, with its line.
    """
    path = find(kind, name)
    fields = read_yaml(path, refuse=ConfigError)
    if not isinstance(fields, dict):
        raise ConfigError(
            f"{path}:1: a {KINDS[kind]} holds settings (key: value), not {type(fields).__name__}"
        )
    try:
        return kind.model_validate(fields)
    except ValidationError as error:
        text = path.read_text(encoding="utf-8")
        told = [
            f"{path}:{line_in_yaml(text, one['loc'])}: {explain(kind, one)}"
            for one in first_causes(error)[:5]
        ]
        raise ConfigError("; ".join(told)) from None
