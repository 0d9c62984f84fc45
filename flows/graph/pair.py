"""One teacher/student pair under way: what is acquired, checked, and shared by every arm."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from flows.config.transfer import TransferConfig
from flows.graph.runner import Handle, Runner
from flows.graph.shared_steps import Once
from paraknow_core.demo.pretrain_recipe import PretrainingRecipe
from paraknow_core.errors import ConfigError
from paraknow_core.finetuning.recipe import FineTuningRecipe
from paraknow_core.methods import METHODS
from tasks.acquire_data import acquire_data
from tasks.acquire_model import ModelConfig, acquire_model
from tasks.checks.other_teacher import check_same_shape
from tasks.checks.preflight import (
    check_answers,
    check_library,
    check_pair,
    check_parts,
    check_processes,
)
from tasks.checks.teacher_base import check_teacher_base
from tasks.evaluate import evaluate
from tasks.finetune import finetune
from tasks.pretrain import pretrain
from tasks.rows.config import DataConfig
from tasks.teachers.dense_experts import DenseExpertsConfig, dense_experts
from tasks.teachers.dequantise import DequantiseConfig, dequantise
from tasks.word_problems import WordProblemsConfig, word_problems


@dataclass(frozen=True)
class ModelPair:
    """One teacher/student pair under way: its settings, its runner, what was acquired."""

    config: TransferConfig
    do: Once
    teacher: Handle
    student: Handle
    data: Handle

    def limited_to(self, roles: Sequence[str]) -> "ModelPair":
        """The same pair with these matrices adapted, and no others."""
        extract = self.config.extract.model_copy(update={"roles": tuple(roles)})
        lora = self.config.lora.model_copy(update={"train_roles": None})
        changed = {"extract": extract, "lora": lora}
        return replace(self, config=self.config.model_copy(update=changed))


def acquire_pair(
    config: TransferConfig,
    runner: Runner,
    *,
    methods: Sequence[str] | None = None,
    cuts: bool | None = None,
) -> ModelPair:
    """Acquire both models and the data, and check that they can work together.

    Args:
        config: of the pair.
        runner: that carries the steps out.
        methods: what will be trained, if not the config's arms.
        cuts: whether anything is cut out of the teacher, if that does not follow from ``methods``.
    """
    arms = config.chosen_arms() if methods is None else methods
    if cuts is None:
        cuts = any(METHODS[name].cuts for arm in arms for name in config.methods_used(arm))
    do = Once(runner)
    seeds = None
    if config.teacher.experts:
        seeds = acquire_rows(do, config.data, config.problems, label="")
    teacher, student = _models(do, config, seeds)
    data = seeds or acquire_rows(do, config.data, config.problems, label="")
    check = partial(
        check_pair,
        align=config.align,
        extract=config.extract,
        rank=config.lora.rank,
        max_rank=config.decompose.max_rank,
        methods=arms,
        cuts=cuts,
        trained=config.trained_roles,
    )
    do.check(check, {"teacher": teacher, "student": student})
    for arm in arms:
        fitting = partial(check_parts, parts=config.methods_by_role(arm))
        do.check(fitting, {"student": student})
    fits = partial(check_answers, student=config.student, most=config.evaluate.max_new_tokens)
    do.check(fits, {"data": data}, before=evaluate)
    held = partial(check_library, quantise=config.finetune.quantise)
    do.check(held, {"student": student}, before=finetune)
    return ModelPair(config, do, teacher, student, data)


def check_devices(pair: ModelPair, how: FineTuningRecipe) -> None:
    """Refuse a training in more processes than there are devices, where steps compute here."""
    run = pair.config.run
    if run.task_runner == "threads":
        check = partial(check_processes, processes=how.processes, run=run)
        pair.do.check(check, {"student": pair.student}, before=finetune)


def _models(do: Runner, config: TransferConfig, seeds: Handle | None) -> tuple[Handle, Handle]:
    """Acquire teacher and student; both are trained at once where both come from a recipe.

    Args:
        do: carries the steps out.
        config: names the models.
        seeds: what a teacher's experts are chosen by, if it is a mixture.
    """
    made = [name for name in ("dequantise", "experts") if getattr(config.student, name)]
    if made:
        raise ConfigError(
            f"student.{made[0]} is {getattr(config.student, made[0])!r}, but no other model is "
            "made of a student's weights: what is trained must be what the adapter is used on. "
            "Give the plain model."
        )
    built = {who: _build(do, who, getattr(config, who), seeds) for who in ("teacher", "student")}
    teacher = do(acquire_model, config.teacher, label="teacher", **built["teacher"])
    recipe, texts = config.student.pretrain, config.student.texts
    if recipe is not None and texts is not None:
        built["student"] = _build_of_texts(do, recipe, texts, teacher)
    return teacher, do(acquire_model, config.student, label="student", **built["student"])


def other_teacher(pair: ModelPair) -> Handle:
    """Acquire the other teacher of a pair, and check that it can take the teacher's place.

    Raises:
        ConfigError: if the settings name none, or it is the teacher itself.
        ShapeError: if it has another shape.
        TokenizerError: if it has another tokenizer.
    """
    model = pair.config.other_teacher
    if model is None:
        raise ConfigError("Another teacher of the same shape is needed: set other_teacher.")
    built = _build(pair.do, "other teacher", model)
    found = pair.do(acquire_model, model, label="other teacher", **built)
    pair.do.check(check_same_shape, {"teacher": pair.teacher, "other": found})
    return found


def teacher_base(pair: ModelPair) -> Handle:
    """Acquire what the teacher was tuned from, and check that it can be that.

    Raises:
        ConfigError: if the settings name none, or it has other sizes than the teacher.
        TokenizerError: if it has another tokenizer.
    """
    model = pair.config.teacher_base
    if model is None:
        raise ConfigError("The model that the teacher was tuned from is needed: set teacher_base.")
    found = pair.do(acquire_model, model, label="base", **_build(pair.do, "base", model))
    pair.do.check(check_teacher_base, {"teacher": pair.teacher, "base": found})
    return found


def check_teachers(pair: ModelPair, methods: Iterable[str]) -> None:
    """Refuse another teacher or a base that does not fit the teacher, before anything expensive.

    Args:
        pair: whose other teacher and base they are.
        methods: all that start points come from; nothing is done where none needs such a model.

    Raises:
        As ``other_teacher`` and ``teacher_base``.
    """
    needs = {need for name in methods for need in METHODS[name].needs}
    if "other teacher" in needs:
        other_teacher(pair)
    if "teacher base" in needs and not pair.config.teacher_adapter:
        teacher_base(pair)


def _build(
    do: Runner, who: str, model: ModelConfig, seeds: Handle | None = None
) -> dict[str, Handle]:
    """Start making plain weights where there are none: from scratch, or of quantised ones."""
    if model.experts:
        if seeds is None:
            raise ConfigError(
                f"experts is set for the {who}; only a teacher's are made one by the seeds. Give a "
                "dense model."
            )
        config = DenseExpertsConfig.of(model)
        return {"built": do.start(dense_experts, config, label=f"experts {who}", data=seeds)}
    if model.dequantise:
        made = do.start(dequantise, DequantiseConfig.of(model), label=f"dequantise {who}")
        return {"built": made}
    if model.pretrain is None or model.texts is not None:
        return {}
    return {"built": do.start(pretrain, model.pretrain, label=f"pretrain {who}")}


def _build_of_texts(
    do: Runner, recipe: PretrainingRecipe, texts: DataConfig, tokenizer: Handle
) -> dict[str, Handle]:
    """Train a student from scratch on texts, with its teacher's tokenizer."""
    given = {"texts": do(acquire_data, texts, label="texts of student"), "tokenizer": tokenizer}
    return {"built": do(pretrain, recipe, label="pretrain student", **given)}


def acquire_rows(
    do: Runner, data: DataConfig, problems: WordProblemsConfig | None, *, label: str
) -> Handle:
    """Acquire or generate the rows of one task."""
    if problems is not None:
        return do(word_problems, problems, label=f"word problems{label}")
    return do(acquire_data, data, label=f"data{label}")
