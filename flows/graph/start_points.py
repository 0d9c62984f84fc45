"""What each method's start point is made of: the steps of every arm, shared ones started once."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

from flows.config.transfer import TransferConfig
from flows.graph.runner import Handle, Runner
from flows.graph.shared_steps import Once
from paraknow_core.errors import ConfigError
from paraknow_core.methods import METHODS, Method
from tasks.acquire_data import DataConfig, acquire_data
from tasks.acquire_model import ModelConfig, acquire_model
from tasks.align import AlignConfig, align
from tasks.checks.preflight import check_answers, check_pair
from tasks.control import ControlConfig, control
from tasks.decompose import decompose
from tasks.evaluate import evaluate
from tasks.extract import extract
from tasks.lora import PlainLoraConfig, lora, plain_lora
from tasks.pretrain import pretrain
from tasks.random_model import random_model
from tasks.sensitivity import sensitivity
from tasks.student_start import StudentStartConfig, student_start
from tasks.word_problems import WordProblemsConfig, word_problems


@dataclass(frozen=True)
class Pair:
    """One teacher/student pair under way: its settings, its runner, what was acquired."""

    config: TransferConfig
    do: Once
    teacher: Handle
    student: Handle
    data: Handle


@dataclass(frozen=True)
class Cuts:
    """What of a teacher is transferred: how sensitive it is, which layers, and their factors."""

    scores: Handle
    layers: Handle
    windows: Handle
    factors: Handle


def acquire_pair(
    config: TransferConfig, runner: Runner, *, methods: Sequence[str] | None = None
) -> Pair:
    """Acquire both models and the data, and check that they can work together.

    Args:
        config: of the pair.
        runner: that carries the steps out.
        methods: what will be trained, if not the config's arms.
    """
    do = Once(runner)
    built = {who: _build(do, who, getattr(config, who)) for who in ("teacher", "student")}
    teacher = do(acquire_model, config.teacher, label="teacher", **built["teacher"])
    student = do(acquire_model, config.student, label="student", **built["student"])
    data = _data(do, config.data, config.problems, label="")
    check = partial(
        check_pair,
        align=config.align,
        extract=config.extract,
        rank=config.lora.rank,
        max_rank=config.decompose.max_rank,
        methods=config.chosen_arms() if methods is None else methods,
    )
    do.check(check, {"teacher": teacher, "student": student})
    fits = partial(check_answers, student=config.student, most=config.evaluate.max_new_tokens)
    do.check(fits, {"data": data}, before=evaluate)
    return Pair(config, do, teacher, student, data)


def _build(do: Runner, who: str, model: ModelConfig) -> dict[str, Handle]:
    """Start training a model from scratch, if that is where it comes from."""
    if model.pretrain is None:
        return {}
    return {"built": do.start(pretrain, model.pretrain, label=f"pretrain {who}")}


def _data(
    do: Runner, data: DataConfig, problems: WordProblemsConfig | None, *, label: str
) -> Handle:
    if problems is not None:
        return do(word_problems, problems, label=f"word problems{label}")
    return do(acquire_data, data, label=f"data{label}")


def start_point(method: str, pair: Pair, *, seed: int) -> Handle:
    """Run whatever a method's start point is made of, and return it.

    Args:
        method: a key of ``METHODS``.
        pair: as ``acquire_pair`` gives it; steps that an earlier call ran are not run again.
        seed: of what the method draws; a method that draws nothing has one start point for all.

    Raises:
        ConfigError: if there is no such method; names the nearest one.
    """
    known = METHODS.choose(method)
    if known.kind == "transfer":
        factors = cuts(method, pair, seed=seed).factors
        label = "lora" + _suffix(method, known)
        given = {"student": pair.student, "factors": factors}
        return pair.do(lora, pair.config.lora, label=label, **given)
    size = {"rank": pair.config.lora.rank, "alpha": pair.config.lora.alpha}
    if known.kind == "plain":
        shape = PlainLoraConfig(**size, roles=pair.config.extract.roles, seed=seed)
        return pair.do(plain_lora, shape, label="plain lora", student=pair.student)
    wanted = StudentStartConfig(
        **size,
        method=method,
        roles=pair.config.extract.roles,
        options=pair.config.starts,
        seed=seed if known.draws else 0,
    )
    samples = {"data": pair.data} if known.uses_samples else {}
    return pair.do(student_start, wanted, label=f"start {method}", student=pair.student, **samples)


def cuts(method: str, pair: Pair, *, seed: int) -> Cuts:
    """Run the steps from a teacher to its factors, for the transfer or one of its controls."""
    known, config, do = METHODS[method], pair.config, pair.do
    upstream = "" if known.changes == "factors" else _suffix(method, known)
    teacher, data = _teacher(method, pair), pair.data
    if known.changes == "seeds":
        data = _other_data(pair, label=upstream)
    again = upstream if known.changes in ("teacher", "seeds") else ""
    scores = do(
        sensitivity, config.sensitivity, label=f"sensitivity{again}", teacher=teacher, data=data
    )
    both = {"teacher": teacher, "student": pair.student}
    how = AlignConfig(strategy="random", seed=seed) if known.changes == "layers" else config.align
    if method == "own-teacher":  # listed layers are the teacher's; the student has others
        how = how.model_copy(update={"layers": None})
    layers = do(align, how, label=f"align{upstream}", scores=scores, **both)
    windows = do(
        extract, config.extract, label=f"extract{upstream}", scores=scores, layers=layers, **both
    )
    factors = do(decompose, config.decompose, label=f"decompose{upstream}", windows=windows, **both)
    if known.changes == "factors":
        taken = ControlConfig.model_validate({"name": method, "seed": seed})
        given = {"student": pair.student, "factors": factors}
        factors = do(control, taken, label=f"control {method}", **given)
    return Cuts(scores, layers, windows, factors)


def _other_data(pair: Pair, *, label: str) -> Handle:
    """The data of another task.

    Raises:
        ConfigError: if none is given; the pair's own would make the control the transfer itself.
    """
    config = pair.config
    if config.other_data is None and config.other_problems is None:
        raise ConfigError(
            "The control 'other-seeds' needs seed samples of another task: set other_data, or "
            "other_problems (with text: true for the demo's pair)."
        )
    return _data(pair.do, config.other_data or config.data, config.other_problems, label=label)


def _teacher(method: str, pair: Pair) -> Handle:
    """The pair's teacher, or what a control puts in its place."""
    if method == "own-teacher":
        return pair.student
    if method != "random-teacher":
        return pair.teacher
    drawn = pair.do(
        random_model, pair.config.random_teacher, label="random model", like=pair.teacher
    )
    return pair.do(acquire_model, pair.config.teacher, label="random teacher", built=drawn)


def _suffix(method: str, known: Method) -> str:
    return f" {method}" if known.is_control else ""
