"""The parameters of the flow ``compare``: which pairs, methods, controls, tasks and seeds."""

from collections.abc import Iterator
from typing import Annotated, Any

from pydantic import BeforeValidator, Field, ValidationError, WithJsonSchema, model_validator

from flows.config.cells import NAME, PairConfig, TaskConfig
from flows.config.judging import overlay_of
from flows.config.limits import BudgetConfig, FanOutConfig, Margins, SlotsConfig
from flows.config.overlay import merged, refuse_doubles
from flows.config.proof import check_orders, check_step_zero
from flows.config.step_settings import STEPS, StepSettingsForm
from flows.config.transfer import TransferConfig
from flows.config.tuning import Rates, Seeds, TuningConfig
from flows.presets.expand import with_recipe
from paraknow_core.data.deal import PAIR_NAMES
from paraknow_core.errors import ConfigError
from paraknow_core.methods import METHODS
from paraknow_core.setting_errors import explain, first_causes, place_of
from paraknow_core.setting_types import Text, choose_setting
from paraknow_core.settings import Settings
from paraknow_core.statistics.design import LEAST_SEEDS, seeds_needed
from paraknow_core.statistics.rate_search import RateSearch
from tasks.comparison_parts.proof_config import ProofConfig
from tasks.engine.run import RunConfig
from tasks.evaluate import EvaluateConfig
from tasks.judging.config import JudgeConfig
from tasks.rows.config import SplitPairs

_COMPARED = ("primary", "metrics", "tasks", "harness")
"""What of the evaluation all methods have to have in common."""
_OTHER_METRICS = (
    "method {}: set.evaluate names another primary metric, or other metrics or benchmarks, than "
    "the comparison has; methods are compared by what is measured of all of them. Name them in "
    "settings.evaluate, or in a task's evaluate"
)


def _all_or_none(given: Any) -> Any:
    """Read true as all pairs of splits, and false as none."""
    return {True: PAIR_NAMES, False: ()}[given] if isinstance(given, bool) else given


class ArmConfig(Settings):
    """One method or control, with what it does differently from the shared settings."""

    name: str = Field(pattern=NAME, title="Name", description="How it is shown.")
    method: str = Field(
        "",
        max_length=64,
        title="Method",
        description="Registered name; empty: the name is it.",
        json_schema_extra={"enum": ["", *METHODS]},
    )
    set: dict[str, dict[str, Any]] = Field(
        {},
        title="Settings",
        description="Settings of steps that differ, such as {extract: {structure: row-column}}.",
    )
    learning_rates: Rates = Field(
        (), title="Learning rates", description="Its own grid; as many as every other has."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, given: Any) -> Any:
        return {"name": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _registered(self) -> "ArmConfig":
        choose_setting("method", self.start, METHODS)
        return self

    @property
    def start(self) -> str:
        """The registered name of its start point."""
        return self.method or self.name


class CompareConfig(Settings):
    """Many pairs × tasks × methods × seeds, and controls that make a claim honest."""

    name: str = Field("compare", pattern=NAME, title="Name")
    pairs: tuple[PairConfig, ...] = Field(min_length=1, title="Pairs")
    tasks: tuple[TaskConfig, ...] = Field(min_length=1, title="Tasks")
    methods: tuple[ArmConfig, ...] = Field(
        (ArmConfig(name="plain"), ArmConfig(name="transfer")), min_length=1, title="Methods"
    )
    controls: tuple[ArmConfig, ...] = Field((), title="Controls")
    recipe: Text = Field(
        "",
        title="Recipe",
        description="Whose settings of the steps are used where none are given: seeking, or a YAML "
        "file. Learning rates are tuned all the same.",
    )
    settings: Annotated[dict[str, dict[str, Any]], StepSettingsForm()] = Field(
        {},
        title="Settings",
        description="Of the steps, shared by all: sensitivity, align, extract, decompose, lora, "
        "finetune, evaluate, as in the flow transfer.",
    )
    judge: JudgeConfig | None = Field(
        None,
        title="Judge",
        description="Another model, which says whose answers it prefers, on every task; a task's "
        "own lies over it.",
    )
    tuning: TuningConfig = Field(TuningConfig(), title="Tuning")
    seeds: Seeds = Field(
        tuple(range(8)),
        min_length=LEAST_SEEDS,
        title="Seeds",
        description="Paired: the same data order for every method. Fewer than "
        f"{seeds_needed(1)} give means and intervals, and show no difference.",
    )
    allow_overlap: Annotated[
        SplitPairs,
        BeforeValidator(_all_or_none),
        WithJsonSchema(
            {
                "anyOf": [
                    {"type": "boolean"},
                    {"type": "array", "items": {"type": "string", "enum": list(PAIR_NAMES)}},
                ]
            }
        ),
    ] = Field(
        (),
        title="Allow overlap",
        description="Pairs of splits that may share rows, such as [seeds-train], or true for all; "
        "the report says what they share.",
    )
    proof: ProofConfig = Field(ProofConfig(), title="Proof")
    margins: Margins = Field(
        {},
        title="Margins",
        description="Metric → the least gain that matters, in its unit; set it beforehand. A "
        "verdict says that there is no gain only where its interval excludes one as large.",
    )
    budget: BudgetConfig = Field(BudgetConfig(), title="Budget")
    slots: SlotsConfig = Field(SlotsConfig(), title="Slots")
    fan_out: FanOutConfig = Field(FanOutConfig(), title="Fan out")
    run: RunConfig = Field(RunConfig(), title="Run")

    @property
    def arms(self) -> tuple[ArmConfig, ...]:
        """Methods, then controls."""
        return self.methods + self.controls

    def rates_of(self, arm: ArmConfig) -> tuple[float, ...]:
        """The learning rates to tune a method over: its own, the shared, or its usual ones."""
        usual = METHODS[arm.start].learning_rates
        return tuple(sorted(arm.learning_rates or self.tuning.learning_rates or usual))

    def search_of(self, arm: ArmConfig) -> RateSearch:
        """How a method gets its learning rate: by the same rule as every other."""
        tuning = self.tuning
        return RateSearch(
            self.rates_of(arm), tuning.seeds, tuning.halving, tuning.extensions, tuning.refine
        )

    def may_overlap(self, task: TaskConfig) -> tuple[str, ...]:
        """Return the pairs of splits of a task that may share rows."""
        own = () if task.problems else task.data.may_share_rows()
        return tuple(dict.fromkeys((*self.allow_overlap, *own)))

    def evaluation(self, task: TaskConfig) -> EvaluateConfig:
        """Return what is measured on a task, and what its verdicts are about.

        What a task's file says lies over the shared settings; a task that is written out has its
        own in place of them.
        """
        shared = self.settings.get("evaluate", {})
        if task.evaluate is None or not task.task:
            return task.evaluate or EvaluateConfig.model_validate(shared)
        own = task.evaluate.model_dump(exclude_unset=True)
        return EvaluateConfig.model_validate({**shared, **own})

    def transfer(self, pair: PairConfig, task: TaskConfig, arm: ArmConfig) -> TransferConfig:
        """Return the settings of one pair, task and method; the fine-tuning's seed and rate vary.

        Raises:
            ConfigError: names the method and the setting that is not allowed.
        """
        settings: dict[str, Any] = merged(self.settings, arm.set)
        if task.evaluate is not None:
            settings["evaluate"] = self.evaluation(task)
        if own := overlay_of(self.judge, task.judge):
            settings["judge"] = own
        try:
            config = TransferConfig(
                name=f"{pair.name}.{task.name}.{arm.name}"[:128],
                teacher=pair.teacher,
                student=pair.student,
                other_teacher=pair.other_teacher,
                teacher_base=pair.teacher_base,
                teacher_adapter=pair.teacher_adapter,
                data=task.data,
                problems=task.problems,
                other_data=task.other_data,
                other_problems=task.other_problems,
                run=self.run,
                **settings,
            )
            config.check_arm(arm.start)
            self.slots.check_processes(config.finetune.processes)
        except ValidationError as error:
            first = first_causes(error)[0]
            told = explain(TransferConfig, first, place=self._written_at(arm, first["loc"]))
            raise ConfigError(f"method {arm.name}: {told}") from None
        except ValueError as error:
            raise ConfigError(f"method {arm.name} on task {task.name}: {error}") from None
        return config

    def _written_at(self, arm: ArmConfig, path: tuple[int | str, ...]) -> str:
        """Where the user wrote what a method's settings have at a place."""
        step, *inner = path or ("",)
        own = arm.set.get(str(step), {})
        if step in arm.set and (not inner or inner[0] in own or step not in self.settings):
            return place_of((*self._place_of(arm), "set", *path))
        return place_of(("settings", *path)) if step in self.settings else place_of(path)

    def _place_of(self, arm: ArmConfig) -> tuple[str | int, ...]:
        for name, arms in (("methods", self.methods), ("controls", self.controls)):
            if arm in arms:
                return name, arms.index(arm)
        return (arm.name,)

    @model_validator(mode="before")
    @classmethod
    def _from_recipe(cls, given: Any) -> Any:
        return with_recipe(given, among=STEPS)

    @model_validator(mode="after")
    def _steps_known(self) -> "CompareConfig":
        for place, given in (
            (("settings",), self.settings),
            *(((*self._place_of(arm), "set"), arm.set) for arm in self.arms),
        ):
            for step in given:
                try:
                    choose_setting("step", step, dict.fromkeys(STEPS))
                except ValueError as error:
                    raise ValueError(f"{place_of(place)}: {error}") from None
        return self

    @model_validator(mode="after")
    def _checked(self) -> "CompareConfig":
        refuse_doubles("pairs", [p.name for p in self.pairs])
        refuse_doubles("tasks", [t.name for t in self.tasks])
        refuse_doubles("methods and controls", [a.name for a in self.arms])
        self.fan_out.check_with(self.slots, self.run)
        check_orders(self.proof, self.pairs, [task.problems for task in self.tasks])
        shared = sorted(set(self.seeds) & set(self.tuning.seeds))
        if shared:
            msg = f"tuning.seeds and seeds share {shared}; tune on seeds that the test never sees"
            raise ValueError(msg)
        budgets = {arm.name: len(self.rates_of(arm)) for arm in self.arms}
        if len(set(budgets.values())) > 1:
            msg = f"every method needs the same number of learning rates (given {budgets})"
            raise ValueError(msg)
        if not self.tuning.seeds and max(budgets.values()) > 1:
            msg = (
                f"tuning.seeds is empty, so no trial chooses among several learning rates (given "
                f"{budgets}); give every method one rate, or tuning.seeds at least one seed"
            )
            raise ValueError(msg)
        for number, task in enumerate(self.tasks):
            if self.tuning.seeds and not (task.problems or task.data).sizes.validation:
                source = "problems" if task.problems else "data"
                msg = (
                    f"tasks[{number}].{source}.sizes.validation is 0, but each method's learning "
                    "rate is chosen on that split; give it at least 1 row"
                )
                raise ValueError(msg)
        try:
            self.check()
        except ConfigError as error:
            raise ValueError(str(error)) from error
        return self

    def check(self) -> None:
        """Refuse settings or methods that cannot work, before anything is acquired."""
        for pair, task in self.cells():
            for arm in self.arms:
                own, shared = self.transfer(pair, task, arm).evaluate, self.evaluation(task)
                if any(getattr(own, name) != getattr(shared, name) for name in _COMPARED):
                    raise ConfigError(_OTHER_METRICS.format(arm.name))
        for task in self.tasks:
            check_step_zero(self.proof, task.name, self.evaluation(task))

    def cells(self) -> Iterator[tuple[PairConfig, TaskConfig]]:
        """Every pair with every task."""
        return ((pair, task) for pair in self.pairs for task in self.tasks)
