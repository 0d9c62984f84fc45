"""Which answers are judged against which, and what becomes of a run whose judge gives none."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from flows.graph.pair import ModelPair
from flows.graph.runner import Handle
from paraknow_core.evaluation.metrics import LOSS, METRICS
from paraknow_core.judging.client import JudgeError
from paraknow_core.methods import PLAIN, VANILLA
from tasks.engine.progress import logger
from tasks.evaluate import EvaluateConfig
from tasks.judging.win_rate import win_rate

OTHER_SIDE = {"vanilla": VANILLA, "plain": PLAIN, "references": ""}
"""What ``judge.against`` may say → the arm whose answers are the other side; "": no arm."""
JUDGED = tuple(name for name, metric in METRICS.items() if metric.is_judged)
"""Names of the metrics that a judge measures."""


@dataclass(frozen=True)
class Verdicts:
    """Evaluations with what a judge says of their items, all of them or none.

    Attributes:
        measured: name → the judged evaluation; empty if nothing was judged.
        reason: why nothing was judged; empty if something was, or nobody asked for it.
    """

    measured: Mapping[str, Handle] = field(default_factory=dict)
    reason: str = ""

    @property
    def note(self) -> str:
        """A sentence for the report, if there is something to say."""
        return f"Win rate was not measured: {self.reason}." if self.reason else ""

    def metrics(self, how: EvaluateConfig) -> tuple[str, ...]:
        """Return the names of all metrics that were measured."""
        return (*how.metrics, *JUDGED) if self.measured else how.metrics

    def primary(self, how: EvaluateConfig) -> str:
        """Return what the verdict is about: answer NLL where the judge's metric is not there."""
        return LOSS if METRICS[how.primary].is_judged and not self.measured else how.primary


def judged(
    pair: ModelPair, answers: Mapping[str, Handle], references: Mapping[str, Handle]
) -> Verdicts:
    """Have answers judged; where the judge gives none, the run goes on and says why.

    Args:
        pair: with the settings of the judge.
        answers: name, which is a part of labels → evaluation.
        references: the same names → evaluation that it is compared with; empty: the rows' answers.

    Raises:
        ConfigError: if annotators, model or key are not as they have to be.
    """
    config = pair.config.judge
    if config is None or not answers:
        return Verdicts()
    if config.lack:
        return Verdicts(reason=config.lack)
    try:
        return Verdicts(
            {
                name: pair.do(
                    win_rate,
                    config,
                    label=f"win rate {name}",
                    answers=handle,
                    data=pair.data,
                    **({"reference": references[name]} if references else {}),
                )
                for name, handle in answers.items()
            }
        )
    except JudgeError as error:
        logger.warning("win rate: not measured, as %s", error)
        return Verdicts(reason=str(error).rstrip("."))


def judged_arms(
    pair: ModelPair, results: Mapping[str, Handle], diverged: Collection[str]
) -> Verdicts:
    """Have the arms of one transfer judged, the untouched student among them.

    Args:
        pair: with the settings of the judge.
        results: arm → evaluation.
        diverged: arms whose answers mean nothing.
    """
    answers = {arm: handle for arm, handle in results.items() if arm not in diverged}
    if pair.config.judge is None:
        return Verdicts()
    other, references = OTHER_SIDE[pair.config.judge.against], dict[str, Handle]()
    if other and other not in answers:
        return Verdicts(reason=f"there are no answers of {other} to judge against")
    if other:
        references = dict.fromkeys(answers, answers[other])
    return judged(pair, answers, references)


def judged_seeds(
    pair: ModelPair, answers: Mapping[tuple[str, int], Handle], vanilla: Handle, plain: str
) -> Verdicts:
    """Have the seeds of a comparison's methods judged.

    Args:
        pair: with the settings of the judge.
        answers: method and seed → evaluation.
        vanilla: evaluation of the untouched student.
        plain: name of the method that is plain LoRA; "" if there is none.

    Returns:
        What was judged, by `seed_label`.
    """
    if pair.config.judge is None:
        return Verdicts()
    other, references = OTHER_SIDE[pair.config.judge.against], dict[str, Handle]()
    for method, seed in answers:
        if other == PLAIN and (plain, seed) not in answers:
            return Verdicts(reason=f"plain LoRA has no answers of seed {seed} to judge against")
        if other:
            references[seed_label(method, seed)] = (
                answers[plain, seed] if other == PLAIN else vanilla
            )
    named = {seed_label(*which): handle for which, handle in answers.items()}
    return judged(pair, named, references)


def seed_label(method: str, seed: int) -> str:
    """Name a seed of a method, as labels do."""
    return f"{method} seed {seed}"
