"""The steps of one transfer and what each takes from which; flow and plan both follow it."""

from functools import partial

from flows.config import TransferConfig
from flows.runner import Handle, Runner
from tasks.acquire_data import acquire_data
from tasks.acquire_model import ModelConfig, acquire_model
from tasks.align import align
from tasks.decompose import decompose
from tasks.evaluate import evaluate
from tasks.extract import extract
from tasks.finetune import finetune
from tasks.lora import PlainLoraConfig, lora, plain_lora
from tasks.preflight import check_pair
from tasks.pretrain import pretrain
from tasks.report import ReportConfig, report
from tasks.sensitivity import sensitivity
from tasks.word_problems import word_problems


def wire(config: TransferConfig, do: Runner) -> None:
    """Run one teacher/student pair: the untouched student, plain LoRA, and the transfer."""
    built = {who: _build(do, who, getattr(config, who)) for who in ("teacher", "student")}
    teacher = do(acquire_model, config.teacher, label="teacher", **built["teacher"])
    student = do(acquire_model, config.student, label="student", **built["student"])
    data = _data(config, do)
    do.check(
        partial(
            check_pair,
            roles=config.extract.roles,
            rank=config.lora.rank,
            max_rank=config.decompose.max_rank,
        ),
        teacher=teacher,
        student=student,
    )
    scores = do(sensitivity, config.sensitivity, label="sensitivity", teacher=teacher, data=data)
    pair = {"teacher": teacher, "student": student}
    layers = do(align, config.align, label="align", scores=scores, **pair)
    windows = do(extract, config.extract, label="extract", scores=scores, layers=layers, **pair)
    factors = do(decompose, config.decompose, label="decompose", windows=windows, **pair)
    start = do(lora, config.lora, label="lora", student=student, factors=factors)
    results = {
        "vanilla": do(
            evaluate, config.evaluate, label="evaluate vanilla", student=student, data=data
        )
    }
    if config.baseline.enabled:
        results["plain"] = _plain_arm(config, do, student, data)
    results["transfer"] = _arm(config, do, "transfer", student=student, start=start, data=data)
    do(
        report,
        ReportConfig(),
        label="report",
        scores=scores,
        layers=layers,
        factors=factors,
        **results,
    )


def _build(do: Runner, who: str, model: ModelConfig) -> dict[str, Handle]:
    """Start training a model from scratch, if that is where it comes from."""
    if model.pretrain is None:
        return {}
    return {"built": do.start(pretrain, model.pretrain, label=f"pretrain {who}")}


def _data(config: TransferConfig, do: Runner) -> Handle:
    if config.problems is not None:
        return do(word_problems, config.problems, label="word problems")
    return do(acquire_data, config.data, label="data")


def _plain_arm(config: TransferConfig, do: Runner, student: Handle, data: Handle) -> Handle:
    shape = PlainLoraConfig(
        rank=config.lora.rank,
        alpha=config.lora.alpha,
        roles=config.extract.roles,
        seed=config.finetune.seed,
    )
    start = do(plain_lora, shape, label="plain lora", student=student)
    own_rate = config.finetune.model_copy(update={"learning_rate": config.baseline.learning_rate})
    own = config.model_copy(update={"finetune": own_rate})
    return _arm(own, do, "plain", student=student, start=start, data=data)


def _arm(config: TransferConfig, do: Runner, name: str, **given: Handle) -> Handle:
    """Train a start point and measure what came of it."""
    adapter = do(finetune, config.finetune, label=f"finetune {name}", **given)
    measured = {"student": given["student"], "data": given["data"], "adapter": adapter}
    return do(evaluate, config.evaluate, label=f"evaluate {name}", **measured)
