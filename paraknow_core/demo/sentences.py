"""Generic sentences to continue: another task in the vocabulary of the word problems."""

from collections.abc import Iterator

from paraknow_core.data.examples import Example
from paraknow_core.data.splits import SPLITS, SplitSizes
from paraknow_core.demo.language import sentence_stream


def text_splits(sizes: SplitSizes, *, seed: int) -> dict[str, list[Example]]:
    """Seeds, train, validation and test without a shared prompt; no sentence states a sum.

    Args:
        sizes: rows a split, each at least 0.
        seed: another seed, other sentences.

    Returns:
        Split name to rows. A row's prompt is two sentences and the first half of a third, its
        answer the rest of that.
    """
    rows = _rows(seed)
    return {name: [next(rows) for _ in range(getattr(sizes, name))] for name in SPLITS}


def _rows(seed: int) -> Iterator[Example]:
    sentences = sentence_stream(seed=f"other task {seed}", facts=False)
    seen: set[str] = set()
    while True:
        before, words = [next(sentences), next(sentences)], next(sentences).split()
        half = len(words) // 2
        prompt = " ".join([*before, *words[:half]])
        if prompt not in seen:
            seen.add(prompt)
            yield Example(f"text-{len(seen) - 1}", prompt, f" {' '.join(words[half:])}")
