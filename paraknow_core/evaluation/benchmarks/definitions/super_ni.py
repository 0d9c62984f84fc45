"""How Super-NaturalInstructions is scored: against each reference, and the best counts.

As the public evaluation of its authors (arXiv 2204.07705, §5): for exact match both sides are
normalised in the same way, and ROUGE-L is the F-measure with Porter's stemmer.
"""

import string
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any


def references(doc: Mapping[str, Any]) -> list[str]:
    """Return the right answers of a row; one text is one of them."""
    given = doc["targets"]
    return [given] if isinstance(given, str) else [str(one) for one in given]


def scores(doc: Mapping[str, Any], results: Sequence[str]) -> dict[str, float]:
    """Return exact match (0 or 1) and ROUGE-L (0 to 1), each the best over the references."""
    answer, right = str(results[0]), references(doc)
    rouge = _scorer()
    return {
        "exact_match": max(float(normalised(answer) == normalised(one)) for one in right),
        "rougeL": max(float(rouge.score(one, answer)["rougeL"].fmeasure) for one in right),
    }


def normalised(text: str) -> str:
    """Lower case, without punctuation, runs of white space as one space."""
    kept = "".join(sign for sign in text.lower() if sign not in string.punctuation)
    return " ".join(kept.split())


@cache
def _scorer() -> Any:
    from rouge_score.rouge_scorer import RougeScorer

    return RougeScorer(["rougeL"], use_stemmer=True)
