"""What several pairs or tasks show together: a claim about all of them, corrected over all."""

from collections.abc import Mapping

from paraknow_core.methods import METHODS
from paraknow_core.statistics.answers import Answer
from paraknow_core.statistics.design import holm, out_of_reach
from paraknow_core.statistics.judge import Judgement
from paraknow_core.statistics.sentences import without_the_word
from paraknow_core.statistics.verdict import Verdict


def whole_sentence(judged: Mapping[str, Judgement], *, alpha: float = 0.05) -> str:
    """Say in one sentence what holds in every cell of a comparison.

    Each cell's own verdict corrects for that cell's comparisons. A reader who takes several
    verdicts together takes more comparisons together, so here Holm's correction is for all of
    all cells. "In every cell" needs a cell's own answer, and its p-value below ``alpha`` after
    this correction.

    Args:
        judged: name of a cell → what its numbers allow to be said. Those without a verdict count
            as cells in which nothing is shown.
        alpha: of all comparisons together.

    Returns:
        A sentence; "" for fewer than two cells with a verdict.
    """
    verdicts = {name: j.verdict for name, j in judged.items() if j.verdict is not None}
    if len(verdicts) < 2:
        return ""
    tested = {
        (cell, answer.other): answer
        for cell, verdict in verdicts.items()
        for answer in verdict.answers
        if answer.comparison is not None
    }
    raw = {place: a.comparison.p_value for place, a in tested.items() if a.comparison is not None}
    adjusted = holm(raw)
    seeds = min((a.comparison.n for a in tested.values() if a.comparison is not None), default=0)
    beginning = f"All {len(judged)} cells together"
    if seeds and (told := out_of_reach(seeds, family=len(raw), alpha=alpha)):
        return f"{beginning}: {told}."
    kept = {
        place: answer.outcome
        for place, answer in tested.items()
        if answer.outcome in ("better", "worse") and adjusted[place] < alpha
    }
    others = dict.fromkeys(answer.other for v in verdicts.values() for answer in v.answers)
    parts = [_of_method(other, judged, kept) for other in others]
    whole = len(verdicts) == len(judged) and all(v.teacher for v in verdicts.values())
    teacher = whole and all(_still_better(cell, v, kept) for cell, v in verdicts.items())
    cause = "so in every cell the gain is owed to what the teacher learnt." if teacher else ""
    told = "; ".join(parts)
    sentence = (
        f"{beginning} (p < {alpha:g} after Holm's correction for the {len(raw)} comparisons of "
        f"all): {told}"
    )
    if cause:
        return f"{sentence}; {cause}"
    return f"{without_the_word(sentence)}; no cause is shown in every cell."


def _of_method(
    other: str, judged: Mapping[str, Judgement], kept: Mapping[tuple[str, str], str]
) -> str:
    """Say in which cells the difference from one method is shown."""
    label = METHODS[other].label if other in METHODS else other
    found = []
    for outcome in ("better", "worse"):
        cells = [name for name in judged if kept.get((name, other)) == outcome]
        if len(cells) == len(judged):
            return f"{outcome} than {label} in every cell"
        if cells:
            found.append(f"{outcome} than {label} in {' and '.join(cells)} only")
    return ", ".join(found) or f"no difference from {label} shown in any cell"


def _still_better(cell: str, verdict: Verdict, kept: Mapping[tuple[str, str], str]) -> bool:
    """Whether what carries a cell's claim is still shown after the correction over all cells."""
    better: list[Answer] = [a for a in verdict.answers if a.outcome == "better"]
    return all(kept.get((cell, answer.other)) == "better" for answer in better)
