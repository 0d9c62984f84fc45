"""A small invented language: one-step word problems, general text, and a tokenizer for both.

It exists so that a teacher and a student can be trained from scratch in minutes, on a task that is
hard enough to be learned only gradually: 841 sums of two numbers, written in words.
"""

import random
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

from paraknow_core.data.examples import Example
from paraknow_core.data.splits import SPLITS, SplitSizes
from paraknow_core.errors import ConfigError

SPECIAL = ("<pad>", "<s>", "</s>", "<unk>")
LARGEST = 29
"""The largest number; each number is one token."""

_WORDS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        kind: tuple(words.split())
        for kind, words in {
            "name": """
                tom anna ben clara dan ella finn grace hugo iris jack kate leo mia noah olga paul
                rosa sam tina umar vera will xena yusuf zoe adam beth carl dora emil fay gus hana
                ivan june karl lena max nora""",
            "thing": """
                eggs apples pears plums lemons melons cherries grapes nuts beans carrots onions
                tomatoes potatoes mushrooms cakes cookies pies muffins candies books pens pencils
                papers maps letters stamps cards coins keys cups plates bowls spoons forks knives
                bottles jars boxes bags hats shoes socks gloves scarves shirts buttons ribbons
                rings beads balls dolls kites blocks marbles puzzles drums bells candles lamps""",
            "quality": """
                red blue green yellow white black brown grey pink golden big small tall short long
                round flat wide thin heavy old new young fresh clean dirty warm cold dry wet soft
                hard smooth sharp bright dark quiet loud slow quick""",
            "being": """
                cat dog horse cow goat sheep pig hen duck goose fox wolf bear deer rabbit mouse owl
                crow eagle frog baker farmer teacher doctor sailor painter singer miller tailor
                gardener boy girl man woman child mother father sister brother friend""",
            "place": """
                house garden kitchen school market shop farm barn field forest river lake sea hill
                mountain valley village town city street bridge tower church castle park station
                harbour island cave mill""",
            "act": """
                sleeps runs walks jumps sings dances swims waits rests plays sits stands hides works
                reads writes cooks paints talks laughs cries smiles dreams climbs falls turns stops
                listens travels returns""",
            "manner": """
                slowly quickly quietly loudly gladly sadly often never always sometimes today
                tonight early late again""",
            "where": "near behind under over beside inside outside across through around",
            "weather": "sunny rainy windy cloudy snowy foggy stormy icy mild hot",
            "wish": "likes loves wants sees needs carries washes counts sorts shows",
            "gain": "buys finds gets makes picks wins collects borrows earns receives",
            "loss": "sells loses drops breaks gives throws lends uses trades mails",
            "grammar": """
                the is are it has have does in of at with and . ? : how many more than another them
                then later now end first morning there answer after comes when got number what
                keeps less""",
        }.items()
    }
)

_OPENINGS = (
    "{name} has {a} {thing} .",
    "{name} keeps {a} {thing} .",
    "today {name} has {a} {thing} .",
    "at first {name} has {a} {thing} .",
)
_EVENTS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "gain": (
            "{name} {verb} {b} more .",
            "then {name} {verb} {b} more .",
            "later {name} {verb} another {b} .",
        ),
        "loss": (
            "{name} {verb} {b} of them .",
            "then {name} {verb} {b} of them .",
            "later {name} {verb} {b} .",
        ),
    }
)
_QUESTIONS = (
    "how many {thing} are there now ?",
    "how many {thing} does {name} have ?",
    "how many has {name} got ?",
    "what is the number now ?",
)
_SENTENCES = (
    "the {quality} {being} {act} {where} the {place} .",
    "{name} {wish} {quality} {thing} .",
    "the {thing} in the {place} are {quality} .",
    "when it is {weather} the {being} {manner} {act} .",
    "{manner} {name} {act} at the {place} .",
    "the {being} and the {being} are in the {place} .",
    "in the morning there are {a} {thing} with the {being} .",
    "{name} {wish} {a} {quality} {thing} in the end .",
    "after {low} comes {next} .",
    "{high} is more than {low} .",
)
_FACTS: Mapping[str, str] = MappingProxyType(
    {"gain": "{b} more than {a} is {result} .", "loss": "{b} less than {a} is {result} ."}
)
_HELD_OUT = 5  # every fifth wording is kept for the test split
_FACT_SHARE = 0.5  # of the general sentences state a sum, in a third of a word problem's tokens
_DIALECT_LACKS = 16
_NEIGHBOURS = 4  # a word is followed by one of four typical ones, so that there is more to learn


def words(kind: str) -> tuple[str, ...]:
    """The language's words of one kind, such as ``name`` or ``place``."""
    return _WORDS[kind]


def vocabulary(dialect: int = 0) -> list[str]:
    """The 376 tokens: four special ones, the numbers 0..29, then words. Row i is token i.

    Args:
        dialect: 0, or the seed of another tokenizer: the same words in another order, less every
            sixteenth of those that no problem's number or frame is made of (they are ``<unk>``).
    """
    numbers = [str(number) for number in range(LARGEST + 1)]
    others = [word for kind in _WORDS.values() for word in kind]
    if not dialect:
        return [*SPECIAL, *numbers, *others]
    source = random.Random(f"dialect {dialect}")  # noqa: S311
    source.shuffle(others)
    frame = set(_WORDS["grammar"])
    kept = [word for place, word in enumerate(others) if place % _DIALECT_LACKS or word in frame]
    mixed = [*numbers, *kept]
    source.shuffle(mixed)
    return [*SPECIAL, *mixed]


def build_tokenizer(dialect: int = 0) -> Any:
    """A fast Transformers tokenizer: one token a word or number, ``<s>`` in front of every text."""
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    pad, bos, eos, unk = SPECIAL
    rows = {word: row for row, word in enumerate(vocabulary(dialect))}
    tokenizer = Tokenizer(models.WordLevel(rows, unk_token=unk))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{bos} $A", pair=f"{bos} $A $B", special_tokens=[(bos, rows[bos])]
    )
    make: Any = PreTrainedTokenizerFast  # untyped
    return make(
        tokenizer_object=tokenizer,
        pad_token=pad,
        bos_token=bos,
        eos_token=eos,
        unk_token=unk,
        clean_up_tokenization_spaces=False,
        padding_side="left",  # generation in batches; training pads by itself
    )


def write_tokenizer(folder: Path, dialect: int = 0) -> None:
    """Save `build_tokenizer` as ``tokenizer.json`` and ``tokenizer_config.json``."""
    build_tokenizer(dialect).save_pretrained(str(folder))


def sums() -> list[tuple[str, int, int]]:
    """The 841 sums: ("gain", a, b) is a + b ≤ 29, ("loss", a, b) is a − b ≥ 0; a, b ≥ 1."""
    pairs = [(a, b) for a in range(1, LARGEST + 1) for b in range(1, LARGEST + 1)]
    gains = [("gain", a, b) for a, b in pairs if a + b <= LARGEST]
    return gains + [("loss", a, b) for a, b in pairs if b <= a]


def generate_problems(count: int, *, seed: int | str, wording: str) -> list[Example]:
    """Draw problems with prompts that all differ.

    A wording is an opening, an event with its verb, and a question. Every fifth combination is
    kept for ``test``; its parts occur in other combinations of ``train``, equally often. So no
    test prompt can be among the train prompts, whatever the seeds. Both use the same sums.

    Args:
        count: number of problems, at least 0.
        seed: another seed, other problems.
        wording: ``train`` or ``test``.

    Returns:
        Rows whose prompt ends in ``answer :`` and whose answer is a blank and a number.

    Raises:
        ConfigError: for another wording, or a negative count.
    """
    if count < 0:
        raise ConfigError(f"count is {count}; allowed is at least 0.")
    found: dict[str, str] = {}
    stream = problem_stream(seed=seed, wording=wording)
    while len(found) < count:
        prompt, answer = next(stream)
        found[prompt] = answer
    return [
        Example(id=f"{wording}-{seed}-{number}", prompt=prompt, answer=answer)
        for number, (prompt, answer) in enumerate(found.items())
    ]


def problem_stream(*, seed: int | str, wording: str) -> Iterator[tuple[str, str]]:
    """Draw (prompt, answer) without end; see `generate_problems`. A prompt may come again.

    Raises:
        ConfigError: for a wording other than ``train`` and ``test``.
    """
    if wording not in ("train", "test"):
        raise ConfigError(f"wording is {wording!r}; allowed are 'train' and 'test'.")
    return _problems(random.Random(f"problems {wording} {seed}"), wording == "test")  # noqa: S311


def _problems(source: random.Random, held_out: bool) -> Iterator[tuple[str, str]]:
    pool = sums()
    while True:
        kind, a, b = source.choice(pool)
        verbs, events = _WORDS[kind], _EVENTS[kind]
        sizes = (len(_OPENINGS), len(events), len(verbs), len(_QUESTIONS))
        opening, event, verb, question = parts = [source.randrange(size) for size in sizes]
        if (sum(parts) % _HELD_OUT == 0) is not held_out:
            continue
        frame = f"{_OPENINGS[opening]} {events[event]} {_QUESTIONS[question]} answer :"
        prompt = frame.format(
            name=source.choice(_WORDS["name"]),
            thing=source.choice(_WORDS["thing"]),
            verb=verbs[verb],
            a=a,
            b=b,
        )
        yield prompt, f" {_result(kind, a, b)}"


def problem_splits(sizes: SplitSizes, *, seed: int) -> dict[str, list[Example]]:
    """Seeds, train, validation and test without a shared prompt; only test has new wordings.

    Args:
        sizes: problems a split.
        seed: another seed, other problems.

    Returns:
        Split name to rows, for all of ``splits.SPLITS``.

    Raises:
        ConfigError: for a negative size.
    """
    for name in SPLITS:
        if getattr(sizes, name) < 0:
            raise ConfigError(
                f"split {name!r} has size {getattr(sizes, name)}; allowed is 0 or more."
            )
    known = [name for name in SPLITS if name != "test"]
    rows = iter(
        generate_problems(sum(getattr(sizes, name) for name in known), seed=seed, wording="train")
    )
    splits = {name: [next(rows) for _ in range(getattr(sizes, name))] for name in known}
    return splits | {"test": generate_problems(sizes.test, seed=seed, wording="test")}


def sentence_stream(*, seed: int | str, facts: bool = True) -> Iterator[str]:
    """Draw sentences about people, things and places without end.

    Every second one states a sum, on average; without ``facts`` none does.

    Every word is followed by one of a few typical words, so that there is more to learn than the
    frequencies of words.
    """
    source = random.Random(f"sentences {seed}")  # noqa: S311
    pool = sums()
    while True:
        if facts and source.random() < _FACT_SHARE:
            kind, a, b = source.choice(pool)
            yield _FACTS[kind].format(a=a, b=b, result=_result(kind, a, b))
        else:
            yield _sentence(source)


def _sentence(source: random.Random) -> str:
    low, high = sorted(source.sample(range(LARGEST + 1), 2))
    numbers = {"a": high, "low": low, "next": low + 1, "high": high}
    place = source.randrange(len(_WORDS["name"]))
    words: list[str] = []
    for part in source.choice(_SENTENCES).split():
        kind = part.strip("{}")
        if kind == part:
            words.append(part)
        elif kind in numbers:
            words.append(str(numbers[kind]))
        else:
            place = 3 * place + source.randrange(_NEIGHBOURS)
            words.append(_WORDS[kind][place % len(_WORDS[kind])])
    return " ".join(words)


def _result(kind: str, a: int, b: int) -> int:
    return a + b if kind == "gain" else a - b
