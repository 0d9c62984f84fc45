"""The parameters of the flows, composed of the steps' own configs."""

from typing import Annotated, Any, Literal, Self

from pydantic import Field, model_validator

from flows.config.adapter import AdapterConfig
from flows.config.baseline import BaselineConfig
from flows.config.judging import check_judged
from flows.config.limits import BudgetConfig
from flows.config.needs import NEEDS
from flows.config.tuned_teacher import TeacherAdapter, TeacherBase
from flows.presets.expand import with_presets
from paraknow_core.methods import METHODS, PLAIN, TRANSFER, transfer_among
from paraknow_core.setting_types import EachOnce, LearningRate, OneOf, Text
from paraknow_core.settings import Settings, later
from tasks.acquire_model import ModelConfig
from tasks.align import AlignConfig
from tasks.decompose import DecomposeConfig
from tasks.engine.run import RunConfig
from tasks.evaluate import EvaluateConfig
from tasks.extract import ExtractConfig, RoleName, expand_roles
from tasks.finetune import FinetuneConfig
from tasks.judging.config import JudgeConfig
from tasks.random_model import RandomModelConfig
from tasks.rows.config import DataConfig
from tasks.sensitivity import SensitivityConfig
from tasks.starts.novel_tokens import NovelOptionsConfig
from tasks.starts.signal_start import SignalOptionsConfig
from tasks.starts.student_start import StartOptionsConfig
from tasks.starts.transport import TransportOptionsConfig
from tasks.word_problems import WordProblemsConfig

MethodName = Annotated[str, OneOf("method", METHODS)]


class SignalsConfig(SignalOptionsConfig):
    """How signals are turned into an update, and how large their controls are."""

    control_size: Literal["method", "own"] = later(
        "method",
        title="Size of controls",
        description="method: in each module the Frobenius norm of the method's update, so that "
        "size is not what differs; own: as the method is sized, a scale that is chosen being "
        "chosen anew.",
    )


class RandomTeacherConfig(RandomModelConfig):
    """How a teacher that was never trained is drawn for the control random-teacher."""

    each_seed: bool = later(
        False,
        title="Each seed its own",
        description="Draw another model for each fine-tuning seed, as the other methods' untrained "
        "controls do. Otherwise one draw stands for all: cheaper, since its sensitivity is "
        "measured once, but then a difference may be owed to this one draw.",
    )


class TransferConfig(Settings):
    """One teacher/student pair, end to end."""

    name: str = Field(
        "transfer",
        pattern=r"^[A-Za-z0-9][\w.-]{0,127}$",
        title="Name",
        description="How the run is shown; no identity.",
    )
    task: Text = Field(
        "",
        title="Task",
        description="Whose data and evaluation are used where none are given: a name that "
        "`paraknow tasks` lists, or a YAML file.",
    )
    recipe: Text = Field(
        "",
        title="Recipe",
        description="Whose settings of the steps are used where none are given: seeking, or a YAML "
        "file.",
    )
    teacher: ModelConfig = Field(title="Teacher")
    student: ModelConfig = Field(title="Student")
    teacher_base: TeacherBase = None
    teacher_adapter: TeacherAdapter = ""
    data: DataConfig = Field(DataConfig(), title="Data")
    problems: WordProblemsConfig | None = Field(
        None, title="Word problems", description="Generated data, in place of Data (the demo's)."
    )
    sensitivity: SensitivityConfig = Field(SensitivityConfig(), title="Sensitivity")
    align: AlignConfig = Field(AlignConfig(), title="Align")
    extract: ExtractConfig = Field(ExtractConfig(), title="Extract")
    decompose: DecomposeConfig = Field(DecomposeConfig(), title="Decompose")
    lora: AdapterConfig = Field(AdapterConfig(), title="LoRA")
    finetune: FinetuneConfig = Field(FinetuneConfig(), title="Fine-tune")
    baseline: BaselineConfig = Field(BaselineConfig(), title="Plain LoRA")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), title="Evaluate")
    judge: JudgeConfig | None = Field(
        None, title="Judge", description="Another model, which says whose answers it prefers."
    )
    budget: BudgetConfig = Field(BudgetConfig(), title="Budget")
    run: RunConfig = Field(RunConfig(), title="Run")
    arms: Annotated[tuple[MethodName, ...], EachOnce] = Field(
        (PLAIN, TRANSFER),
        title="Arms",
        description=f"What is trained side by side, of {', '.join(METHODS)}.",
    )
    learning_rates: dict[MethodName, LearningRate] = Field(
        {},
        title="Learning rates",
        description="Of single arms; others have baseline's (plain) or finetune's.",
    )
    starts: StartOptionsConfig = Field(StartOptionsConfig(), title="Start points without a teacher")
    novel: NovelOptionsConfig = Field(NovelOptionsConfig(), title="Novel tokens")
    signals: SignalsConfig = Field(SignalsConfig(), title="Updates from signals")
    transport: TransportOptionsConfig = Field(
        TransportOptionsConfig(), title="Updates from parameters"
    )
    by_role: dict[RoleName, MethodName] = Field(
        {},
        title="Start points by role",
        description="Roles, or groups of them, that start otherwise than the arm's own method "
        "says, such as {attention: milora}.",
    )
    random_teacher: RandomTeacherConfig = Field(
        RandomTeacherConfig(), title="Random teacher", description="Its draw, for that control."
    )
    other_teacher: ModelConfig | None = Field(
        None,
        title="Another teacher",
        description="Of the same shape and tokenizer, which learnt something else; for the "
        "controls other-teacher and novel-other.",
    )
    other_data: DataConfig | None = Field(
        None,
        title="Data of another task",
        description="For the control other-seeds; only its seeds are used.",
    )
    other_problems: WordProblemsConfig | None = Field(
        None, title="Generated data of another task", description="In place of other_data."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_presets(cls, given: Any) -> Any:
        return with_presets(given)

    def chosen_arms(self) -> tuple[str, ...]:
        """The arms to train, without plain LoRA where that is switched off."""
        return tuple(arm for arm in self.arms if not METHODS[arm].is_plain or self.baseline.enabled)

    def learning_rate(self, arm: str) -> float:
        """The learning rate of an arm: its own, else that of its kind."""
        usual = self.baseline if METHODS[arm].is_plain else self.finetune
        return self.learning_rates.get(arm, usual.learning_rate)

    def methods_by_role(self, method: str) -> dict[str, str]:
        """Say which method each role of an arm starts by: its own, another's, or plain LoRA's.

        Args:
            method: the arm's, a key of ``METHODS``.

        Returns:
            Role → method, for the roles that are trained.
        """
        others = {r: m for name, m in self.by_role.items() for r in expand_roles([name])}
        started = set(METHODS[method].covers or self.extract.roles) & set(self.extract.roles)
        return {
            role: others.get(role, method if role in started else PLAIN)
            for role in self.trained_roles
        }

    @property
    def trained_roles(self) -> tuple[str, ...]:
        """The roles that get an adapter: first those that are extracted, in their order."""
        extracted, trained = self.extract.roles, self.lora.train_roles or ()
        return (*extracted, *(role for role in trained if role not in extracted))

    def methods_used(self, method: str) -> tuple[str, ...]:
        """The methods that an arm's start point comes from, each once."""
        return tuple(dict.fromkeys(self.methods_by_role(method).values()))

    @property
    def transfer_arm(self) -> str:
        """The arm that the report is about; the others are compared with it."""
        return transfer_among(self.arms)

    @model_validator(mode="after")
    def _judged_where_asked(self) -> Self:
        check_judged(self.evaluate, self.judge)
        return self

    @model_validator(mode="after")
    def _teacher_has_a_tokenizer(self) -> Self:
        for place in ("teacher", "teacher_base", "other_teacher"):
            model = getattr(self, place)
            if model is None or model.texts is None:
                continue
            msg = (
                f"{place}.texts: only a student is trained on texts, with its teacher's tokenizer; "
                "give the teacher as a model, or a recipe without texts"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _stops_by_validation(self) -> Self:
        if self.finetune.early_stopping and not (self.problems or self.data).sizes.validation:
            source = "problems" if self.problems else "data"
            msg = (
                "finetune.early_stopping stops by the loss on the validation split, but "
                f"{source}.sizes.validation is 0; give it at least 1 row"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _arms_possible(self) -> Self:
        if not self.transfer_arm:
            transfers = " or ".join(name for name, method in METHODS.items() if method.is_transfer)
            msg = f"arms are {', '.join(self.arms) or 'none'}; {transfers} must be among them"
            raise ValueError(msg)
        for arm in self.arms:
            self.check_arm(arm)
        return self

    def check_arm(self, method: str) -> None:
        """Refuse a method that these settings leave nothing to do.

        Args:
            method: a key of ``METHODS``.

        Raises:
            ValueError: says what it lacks.
        """
        for name in dict.fromkeys((method, *self.methods_used(method))):
            for need in METHODS[name].needs:
                if lack := NEEDS[need](self, name):
                    raise ValueError(lack)
        if method not in self.methods_used(method):
            msg = (
                f"by_role gives every role that {method} has a start point for to another method; "
                f"leave one of them out of by_role, or leave {method} out"
            )
            raise ValueError(msg)

    @model_validator(mode="after")
    def _roles_have_a_start(self) -> Self:
        """Each role may be given once, must be adapted, and the method must have a start for it."""
        given: dict[str, str] = {}
        for name, method in self.by_role.items():
            roles = [role for role in expand_roles([name]) if role in self.trained_roles]
            covers = METHODS[method].covers
            lacking = [role for role in roles if covers and role not in covers]
            twice = [role for role in roles if role in given]
            if not roles:
                msg = (
                    f"by_role.{name}: extract.roles are {', '.join(self.extract.roles)}; add {name}"
                    " to these, or to lora.train_roles"
                )
            elif lacking:
                msg = f"by_role.{name}: {method} has a start point for {', '.join(covers)} only"
            elif twice:
                msg = f"by_role.{name}: {twice[0]} is given to {given[twice[0]]} too; name it once"
            else:
                given |= dict.fromkeys(roles, method)
                continue
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _extracted_is_trained(self) -> Self:
        trained = self.lora.train_roles
        lacking = [role for role in self.extract.roles if role not in (trained or (role,))]
        if lacking:
            msg = (
                f"lora.train_roles leaves out {', '.join(lacking)}, of extract.roles: a start "
                "point that is not trained changes nothing. Add what is lacking, or extract less"
            )
            raise ValueError(msg)
        return self

    @model_validator(mode="after")
    def _rank_within_maximum(self) -> Self:
        if self.lora.rank > self.decompose.max_rank:
            msg = (
                f"lora.rank is {self.lora.rank}, but decompose.max_rank is "
                f"{self.decompose.max_rank}; lower the rank or raise the maximum"
            )
            raise ValueError(msg)
        return self
