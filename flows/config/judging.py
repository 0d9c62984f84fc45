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
