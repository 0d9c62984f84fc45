"""Generate one-step word problems, in the same four splits as any data set."""

from typing import Self

from pydantic import Field, model_validator

from paraknow_core.data import SplitSizes, check_overlap, write_examples
from paraknow_core.demo.planted_facts import most_facts
from paraknow_core.setting_types import CountOrNone, Seed, TrainingSeed
from paraknow_core.settings import Settings, later
from tasks.engine.stage import Stage
from tasks.engine.step import Facts, Job, Step
from tasks.rows.config import SPLIT_FILES, SizesConfig

MAX_ROWS = 200_000
"""A plan generates them too, which takes about five seconds and a quarter of a gigabyte."""


class WordProblemsConfig(Settings):
    """How many problems, and which draw of them."""

    sizes: SizesConfig = Field(SizesConfig(), title="Sizes")
    seed: Seed = Field(0, title="Seed")
    text: bool = later(
        False,
        title="Generic text",
        description="Sentences to continue in place of problems: another task, same vocabulary.",
    )

    facts: CountOrNone = later(
        0,
        title="Planted facts",
        description="As many as a model's recipe plants: the test split asks for them, in place of "
        "problems. The other splits have nothing of them.",
    )
    facts_seed: TrainingSeed = later(
        0, title="Draw of the facts", description="As in the recipe that plants them."
    )

    @model_validator(mode="after")
    def _facts_fit(self) -> Self:
        if not self.facts:
            return self
        if self.facts > most_facts():
            msg = f"facts is {self.facts}; there can be {most_facts():,}, one a name and place"
        elif self.sizes.test > self.facts:
            msg = (
                f"sizes.test is {self.sizes.test}, but there are {self.facts} facts to ask for; "
                "lower it, or plant more"
            )
        elif self.text:
            msg = "facts are asked for beside word problems; leave facts or text out"
        else:
            return self
        raise ValueError(msg)

    @model_validator(mode="after")
    def _few_enough(self) -> Self:
        rows = sum(self.sizes.model_dump().values())
        if rows > MAX_ROWS:
            msg = f"sizes add up to {rows:,} rows; so many as {MAX_ROWS:,} can be generated"
            raise ValueError(msg)
        return self


def _compute(job: Job[WordProblemsConfig]) -> Facts:
    """Generate seeds, train, validation and test; the test problems are worded afresh."""
    from paraknow_core.demo.language import problem_splits
    from paraknow_core.demo.planted_facts import fact_questions, planted_facts
    from paraknow_core.demo.sentences import text_splits

    sizes = SplitSizes(**job.config.sizes.model_dump())
    deal = text_splits if job.config.text else problem_splits
    splits = deal(sizes, seed=job.config.seed)
    if job.config.facts:
        facts = planted_facts(job.config.facts, seed=job.config.facts_seed)
        splits["test"] = fact_questions(facts[: sizes.test])
    check_overlap(splits)
    for name, file in SPLIT_FILES.items():
        write_examples(job.out / file, splits[name])
    return {name: len(rows) for name, rows in splits.items()}


word_problems = Step(
    name="word-problems", stage=Stage.ACQUIRE, version=1, compute=_compute, preview=True
)
