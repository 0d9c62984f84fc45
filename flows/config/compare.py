"""The parameters of the flow ``compare``: which pairs, methods, controls, tasks and seeds."""

from collections.abc import Iterator, Sequence
from typing import Any

from pydantic import Field, ValidationError, field_validator, model_validator

from flows.config.transfer import TransferConfig
from paraknow_core.errors import ConfigError
from tasks.acquire_data import DataConfig
from tasks.acquire_model import ModelConfig
from tasks.engine.identity import StepConfig
from tasks.engine.run import RunConfig
from tasks.evaluate import EvaluateConfig
from tasks.word_problems import WordProblemsConfig

_NAME = r"^[A-Za-z0-9][\w.-]{0,63}$"
_SHARED = (
    *("sensitivity", "align", "extract", "decompose", "lora", "finetune", "evaluate"),
    *("starts", "random_teacher"),
)

MIN_SEEDS = 5
"""The exact sign-flip test of five pairs cannot go below p = .0625; fewer show nothing at all."""


class PairConfig(StepConfig):
    """One teacher and one student."""

    name: str = Field(pattern=_NAME, title="Name")
    teacher: ModelConfig = Field(title="Teacher")
    student: ModelConfig = Field(title="Student")


class TaskConfig(StepConfig):
    """What is learned and measured."""

    name: str = Field(pattern=_NAME, title="Name")
    data: DataConfig = Field(DataConfig(), title="Data")
    problems: WordProblemsConfig | None = Field(None, title="Word problems")
    other_data: DataConfig | None = Field(
        None,
        title="Data of another task",
        description="For the control other-seeds; only its seeds are used.",
    )
    other_problems: WordProblemsConfig | None = Field(
        None, title="Generated data of another task", description="In place of other_data."
    )
    evaluate: EvaluateConfig | None = Field(
        None, title="Evaluate", description="In place of the comparison's own, for this task."
    )


class ArmConfig(StepConfig):
    """One method or control, with what it does differently from the shared settings."""

    name: str = Field(pattern=_NAME, title="Name", description="How it is shown.")
    method: str = Field("", title="Method", description="Registered name; empty: the name is it.")
    set: dict[str, Any] = Field(
        {},
        title="Settings",
        description="Settings of steps that differ, such as {extract: {structure: row-column}}.",
    )
    learning_rates: tuple[float, ...] = Field(
        (), title="Learning rates", description="Its own grid; as many as every other has."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @property
    def start(self) -> str:
        """The registered name of its start point."""
        return self.method or self.name


class TuningConfig(StepConfig):
    """How each method gets its learning rate: the least validation loss, same trials for all."""

    learning_rates: tuple[float, ...] = Field(
        (1e-4, 3e-4, 1e-3), min_length=1, title="Learning rates"
    )
    seeds: tuple[int, ...] = Field(
        (1000,), min_length=1, title="Seeds", description="Of the trials; none of the test's."
    )

    @field_validator("learning_rates")
    @classmethod
    def _ascending(cls, rates: tuple[float, ...]) -> tuple[float, ...]:
        if any(rate <= 0 for rate in rates) or len(set(rates)) < len(rates):
            msg = f"learning rates must be positive and different (given {list(rates)})"
            raise ValueError(msg)
        return tuple(sorted(rates))


class BudgetConfig(StepConfig):
    """What a plan may cost; a plan beyond it is refused before anything runs. 0: no limit."""

    hours: float = Field(0, ge=0, title="Hours", description="Of steps whose time is known.")
    disk_gb: float = Field(0, ge=0, title="Disk", description="Gigabytes (10⁹ bytes).")
    steps: int = Field(0, ge=0, title="Steps", description="To compute.")


class SlotsConfig(StepConfig):
    """How many steps compute at the same time."""

    cpu: int = Field(1, ge=1, le=256, title="CPU slots")
    gpus: tuple[str, ...] = Field(
        (),
        title="GPU slots",
        description="One for each: its number or id, as CUDA_VISIBLE_DEVICES takes it.",
    )


class CompareConfig(StepConfig):
    """Many pairs × tasks × methods × seeds, and controls that make a claim honest."""

    name: str = Field("compare", pattern=_NAME, title="Name")
    pairs: tuple[PairConfig, ...] = Field(min_length=1, title="Pairs")
    tasks: tuple[TaskConfig, ...] = Field(min_length=1, title="Tasks")
    methods: tuple[ArmConfig, ...] = Field(
        (ArmConfig(name="plain"), ArmConfig(name="transfer")), min_length=1, title="Methods"
    )
    controls: tuple[ArmConfig, ...] = Field((), title="Controls")
    settings: dict[str, Any] = Field(
        {},
        title="Settings",
        description="Of the steps, shared by all: sensitivity, align, extract, decompose, lora, "
        "finetune, evaluate, as in the flow transfer.",
    )
    tuning: TuningConfig = Field(TuningConfig(), title="Tuning")
    seeds: tuple[int, ...] = Field(
        tuple(range(8)),
        min_length=MIN_SEEDS,
        title="Seeds",
        description="Paired: the same data order for every method. At least 5.",
    )
    allow_overlap: bool = Field(
        False,
        title="Allow overlap",
        description="Go on although splits share texts (13-grams); the report says so.",
    )
    budget: BudgetConfig = Field(BudgetConfig(), title="Budget")
    slots: SlotsConfig = Field(SlotsConfig(), title="Slots")
    run: RunConfig = Field(RunConfig(), title="Run")

    @property
    def arms(self) -> tuple[ArmConfig, ...]:
        """Methods, then controls."""
        return self.methods + self.controls

    def transfer(self, pair: PairConfig, task: TaskConfig, arm: ArmConfig) -> TransferConfig:
        """Return the settings of one pair, task and method; the fine-tuning's seed and rate vary.

        Raises:
            ConfigError: names the method and the setting that is not allowed.
        """
        unknown = sorted((self.settings.keys() | arm.set.keys()) - set(_SHARED))
        if unknown:
            raise ConfigError(
                f"settings of {', '.join(unknown)} are not known here; known are "
                f"{', '.join(_SHARED)}"
            )
        settings = _merged(self.settings, arm.set)
        if task.evaluate is not None:
            settings["evaluate"] = task.evaluate
        try:
            return TransferConfig(
                name=f"{pair.name}.{task.name}.{arm.name}",
                teacher=pair.teacher,
                student=pair.student,
                data=task.data,
                problems=task.problems,
                other_data=task.other_data,
                other_problems=task.other_problems,
                run=self.run,
                **settings,
            )
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(part) for part in first["loc"])
            raise ConfigError(f"method {arm.name}: {place}: {first['msg']}") from None

    @model_validator(mode="after")
    def _checked(self) -> "CompareConfig":
        for what, names in (
            ("pairs", [p.name for p in self.pairs]),
            ("tasks", [t.name for t in self.tasks]),
            ("methods and controls", [a.name for a in self.arms]),
            ("seeds", self.seeds),
        ):
            _refuse_doubles(what, names)
        shared = sorted(set(self.seeds) & set(self.tuning.seeds))
        if shared:
            msg = f"tuning.seeds and seeds share {shared}; tune on seeds that the test never sees"
            raise ValueError(msg)
        budgets = {
            arm.name: len(arm.learning_rates or self.tuning.learning_rates) for arm in self.arms
        }
        if len(set(budgets.values())) > 1:
            msg = f"every method needs the same number of learning rates (given {budgets})"
            raise ValueError(msg)
        return self

    def check(self) -> None:
        """Refuse settings or methods that cannot work, before anything is acquired."""
        for pair, task in self.cells():
            for arm in self.arms:
                self.transfer(pair, task, arm)

    def cells(self) -> Iterator[tuple[PairConfig, TaskConfig]]:
        """Every pair with every task."""
        return ((pair, task) for pair in self.pairs for task in self.tasks)


def _refuse_doubles(what: str, names: Sequence[Any]) -> None:
    doubles = sorted({name for name in names if list(names).count(name) > 1})
    if doubles:
        msg = f"{what} must differ; given twice: {', '.join(map(str, doubles))}"
        raise ValueError(msg)


def _merged(shared: dict[str, Any], own: dict[str, Any]) -> dict[str, Any]:
    """Lay a method's settings over the shared ones, step by step."""
    found = {step: dict(values) for step, values in shared.items()}
    for step, values in own.items():
        found[step] = {**found.get(step, {}), **values}
    return found
