"""Orders of pairs that are to show that the teacher matters: what cannot show it is refused."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Protocol

from paraknow_core.errors import ConfigError
from paraknow_core.setting_errors import place_of
from paraknow_core.setting_types import choose_setting
from paraknow_core.statistics.proofs import PROOFS
from tasks.acquire_model import ModelConfig
from tasks.comparison_parts.proof_config import OrderConfig, ProofConfig
from tasks.evaluate import EvaluateConfig
from tasks.word_problems import WordProblemsConfig


class NamedPair(Protocol):
    """The settings of a pair, which are those of ``PairConfig``."""

    @property
    def name(self) -> str:
        """How it is called."""

    @property
    def teacher(self) -> ModelConfig:
        """Where the teacher comes from."""

    @property
    def student(self) -> ModelConfig:
        """Where the student comes from."""


def check_orders(
    proof: ProofConfig, pairs: Sequence[NamedPair], problems: Sequence[WordProblemsConfig | None]
) -> None:
    """Refuse an order of pairs that says nothing of the teacher.

    Args:
        proof: the orders.
        pairs: of the comparison.
        problems: of each task, if its data are generated.

    Raises:
        ValueError: says where and what; an unknown pair is answered with the nearest name.
    """
    known = {pair.name: pair for pair in pairs}
    for number, order in enumerate(proof.orders):
        try:
            told = [choose_setting("pair", name, known) for name in order.pairs]
            _refuse_other_students(told)
            _refuse_no_facts(order, known, problems)
        except ValueError as error:
            place = place_of(("proof", "orders", number, "pairs"))
            raise ValueError(f"{place}: {error}") from None


def _refuse_other_students(pairs: Sequence[NamedPair]) -> None:
    first = pairs[0]
    for earlier, pair in pairwise(pairs):
        if pair.student != first.student:
            msg = (
                f"{first.name} and {pair.name} have different students; the pairs of an order "
                "differ in their teacher alone"
            )
            raise ValueError(msg)
        if pair.teacher == earlier.teacher:
            msg = f"{earlier.name} and {pair.name} have the same teacher; give each its own"
            raise ValueError(msg)


def _refuse_no_facts(
    order: OrderConfig,
    pairs: Mapping[str, NamedPair],
    problems: Sequence[WordProblemsConfig | None],
) -> None:
    """Of planted facts: the task must ask for those that the last teacher alone was told."""
    if not PROOFS.choose(order.kind).needs_facts:
        return
    recipes = {
        name: recipe for name in order.pairs if (recipe := pairs[name].teacher.pretrain) is not None
    }
    *others, last = order.pairs
    told = recipes.get(last)
    if told is None:
        return  # a model from elsewhere: nobody but its maker knows what it was told
    student = pairs[last].student.pretrain
    if not told.facts:
        msg = f"{last} comes last, so its teacher must be told facts: set teacher.pretrain.facts"
    elif student is not None and student.facts:
        msg = f"the student of {last} is told facts itself; leave student.pretrain.facts out"
    elif any(
        recipes[name].facts and recipes[name].facts_seed == told.facts_seed
        for name in others
        if name in recipes
    ):
        msg = (
            f"only the teacher of {last}, the last one, may be told these facts; give the others "
            "none, or those of another facts_seed"
        )
    elif any(
        asked is None or (asked.facts, asked.facts_seed) != (told.facts, told.facts_seed)
        for asked in problems
    ):
        msg = (
            f"the teacher of {last} is told {told.facts} facts of draw {told.facts_seed}; every "
            "task must ask for the same: set problems.facts and problems.facts_seed to these"
        )
    else:
        return
    raise ValueError(msg)


def check_step_zero(proof: ProofConfig, task: str, how: EvaluateConfig) -> None:
    """Refuse start points that would be measured on other items than the verdict is about.

    Raises:
        ConfigError: names the task and its metric.
    """
    if proof.step_zero and how.primary_benchmark is not None:
        raise ConfigError(
            f"task {task}: the verdict is about {how.primary}, but proof.step_zero measures start "
            "points on the test split alone; leave proof.step_zero out, or take a primary metric "
            "of the test split"
        )
