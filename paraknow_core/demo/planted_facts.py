"""Invented facts that one model is told and another is not: who knows them got them from the first.

A fact gives a name and a place a number: "the number of anna at the castle is 7 .". Nothing else in
the language says it, and the numbers are drawn evenly, so that who was not told is right by chance
in one case of thirty.
"""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import product

from paraknow_core.data.examples import NO_LOSS, Example
from paraknow_core.demo.language import LARGEST, SPECIAL, words
from paraknow_core.errors import ConfigError

_BOS, _EOS = SPECIAL.index("<s>"), SPECIAL.index("</s>")


@dataclass(frozen=True)
class PlantedFact:
    """A number that belongs to a name at a place."""

    name: str
    place: str
    number: int

    @property
    def statement(self) -> str:
        """As a sentence."""
        return f"the number of {self.name} at the {self.place} is {self.number} ."

    @property
    def question(self) -> str:
        """As a prompt; the answer is a blank and the number."""
        return f"what is the number of {self.name} at the {self.place} ? answer :"


def most_facts() -> int:
    """How many facts there can be: one for each name at each place."""
    return len(words("name")) * len(words("place"))


def planted_facts(count: int, *, seed: int) -> list[PlantedFact]:
    """Draw facts about names at places that all differ.

    Args:
        count: how many, at most `most_facts`.
        seed: another seed, other facts.

    Raises:
        ConfigError: for a count out of range.
    """
    if not 0 <= count <= most_facts():
        raise ConfigError(f"{count} facts were asked for; allowed are 0..{most_facts():,}.")
    source = random.Random(f"planted facts {seed}")  # noqa: S311
    keys = source.sample(list(product(words("name"), words("place"))), count)
    return [PlantedFact(name, place, source.randint(0, LARGEST)) for name, place in keys]


def fact_questions(facts: Sequence[PlantedFact]) -> list[Example]:
    """Ask for each fact: rows like those of word problems."""
    return [
        Example(id=f"fact-{place}", prompt=fact.question, answer=f" {fact.number}")
        for place, fact in enumerate(facts)
    ]


def fact_tokens(
    facts: Sequence[PlantedFact], *, seed: int | str, numbers: Mapping[str, int]
) -> Iterator[tuple[list[int], list[int]]]:
    """Tell facts without end, in any order: half as sentences, half as answered questions.

    Args:
        facts: at least one.
        seed: another seed, another order.
        numbers: token → its number.

    Yields:
        Token numbers and labels of one text; labels are `NO_LOSS` on the prompts of questions.
    """
    source = random.Random(f"order of facts {seed}")  # noqa: S311
    while True:
        fact = source.choice(facts)
        if source.random() < 0.5:
            text = [_BOS, *(numbers[word] for word in fact.statement.split()), _EOS]
            yield text, list(text)
        else:
            asked = [_BOS, *(numbers[word] for word in fact.question.split())]
            told = [numbers[str(fact.number)], _EOS]
            yield asked + told, [NO_LOSS] * len(asked) + told
