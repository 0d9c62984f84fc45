"""What the settings of a judge have to do with those of the evaluation."""

from paraknow_core.evaluation.metrics import METRICS
from tasks.evaluate import EvaluateConfig
from tasks.judging.config import JudgeConfig


def check_judged(how: EvaluateConfig, judge: JudgeConfig | None) -> None:
    """Refuse a verdict about what nothing measures.

    Raises:
        ValueError: says what is lacking.
    """
    if METRICS[how.primary].is_judged and (judge is None or judge.lack):
        lack = judge.lack if judge else "there is no section judge"
        msg = (
            f"evaluate.primary is {how.primary}, which a judge measures, but {lack}; give "
            "judge.url and judge.model, or take another primary metric"
        )
        raise ValueError(msg)


def overlay_of(shared: JudgeConfig | None, own: JudgeConfig | None) -> JudgeConfig | None:
    """Lay what a task says of its judge over what all tasks share; None if neither says anything.

    Raises:
        ValidationError: if the two do not go together.
    """
    given = [one.model_dump(exclude_unset=True) for one in (shared, own) if one is not None]
    return (
        JudgeConfig.model_validate({k: v for one in given for k, v in one.items()})
        if given
        else None
    )
