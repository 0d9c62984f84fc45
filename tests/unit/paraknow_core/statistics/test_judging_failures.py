"""Methods and seeds that failed or diverged: every sentence of the verdict is true of them."""

import random
import re
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st
from support.fake_comparison import fake_comparison, with_losses

from paraknow_core.evaluation.items import Item
from paraknow_core.report.comparison_markdown import as_markdown
from paraknow_core.report.page.data import Pair
from paraknow_core.report.page.render import render_page
from paraknow_core.statistics.arm_result import ArmResult
from paraknow_core.statistics.judge import Judgement, judge

STARTS = ("transfer", "plain", "same-spectrum", "shuffled-vocabulary", "pissa")
LEVELS = {"transfer": 1.2, "plain": 1.5, "pissa": 1.1, "same-spectrum": 1.45}
ALL_DIVERGED = "every learning rate that was tried diverged"
SEEDS = 6


def items(nll: float, seed: int) -> list[Item]:
    """Four items about a level, with a spread over seeds that methods share."""
    draw = random.Random(f"{nll} {seed}")
    level = nll + random.Random(seed).gauss(0, 0.05)
    return [
        Item(str(i), "q", "a", level + draw.gauss(0, 0.02), 1, "x", "x", "a", correct=i < 2)
        for i in range(4)
    ]


def drawn_arm(start: str, outcomes: list[str], *, lost: bool) -> ArmResult:
    def seeds(outcome: str) -> list[int]:
        return [] if lost else [seed for seed, of in enumerate(outcomes) if of == outcome]

    found = {seed: items(LEVELS.get(start, 1.4), seed) for seed in seeds("ok")}
    return ArmResult(
        start,
        start,
        found,
        diverged=seeds("diverged"),
        failed=seeds("failed"),
        lost=ALL_DIVERGED if lost else "",
    )


OUTCOMES = st.one_of(
    st.just(["ok"] * SEEDS),
    st.lists(
        st.sampled_from(["ok", "ok", "ok", "diverged", "failed"]), min_size=SEEDS, max_size=SEEDS
    ),
)
LOST = st.sampled_from([False, False, False, True])
CASES = st.fixed_dictionaries({}, optional={start: st.tuples(OUTCOMES, LOST) for start in STARTS})


@settings(max_examples=15)
@given(CASES)
def test_every_sentence_is_true_of_what_was_given(case) -> None:
    arms = [drawn_arm(start, outcomes, lost=lost) for start, (outcomes, lost) in case.items()]
    found = judge(arms)
    by_name = {arm.name: arm for arm in arms}
    transfer = by_name.get("transfer")
    nobody = "No method here starts from the teacher" in found.sentence
    assert nobody == (transfer is None)
    if transfer is None or len(transfer.items) < 2:
        assert found.verdict is None
        if transfer is not None:
            assert transfer.shortfall() in found.sentence
    else:
        answers_are_true(found, transfer, by_name)
    for arm in arms:
        check_shortfall(found, arm)
    for contrast in found.contrasts:
        one, other = by_name[contrast.method], by_name[contrast.against]
        assert contrast.n == len(one.items.keys() & other.items.keys()) >= 2
        left = len(one.items.keys() ^ other.items.keys())
        assert (f"{left} left out" in contrast.verdict) == bool(left)


def answers_are_true(found: Judgement, transfer: ArmResult, arms: dict[str, ArmResult]) -> None:
    verdict = found.verdict
    assert verdict is not None
    for answer in verdict.answers:
        other = arms.get(answer.other)
        shared = 0 if other is None else len(transfer.items.keys() & other.items.keys())
        if other is None:
            assert answer.reason == "it was not run"
            continue
        assert answer.reason != "it was not run"
        if shared < 2:
            assert answer.outcome == "not tested"
            assert answer.reason in found.sentence
        assert answer.outcome != "better" or not set(transfer.diverged) & other.items.keys()
        assert answer.outcome != "worse" or not set(other.diverged) & transfer.items.keys()
    outcomes = {answer.other: answer.outcome for answer in verdict.answers}
    if "no gain over tuned plain LoRA" in found.sentence:
        assert outcomes["plain"] in ("worse", "no difference visible")
    if verdict.teacher:
        needed = ("plain", "same-spectrum", "shuffled-vocabulary")
        assert {outcomes[name] for name in needed} == {"better"}


def check_shortfall(found: Judgement, arm: ArmResult) -> None:
    """A method without all of its seeds is told somewhere, with the right counts."""
    told = " ".join((found.sentence, *found.notes))
    counts = {
        what: f"{len(seeds)} of {SEEDS} seeds {what} "
        for what, seeds in (("diverged", arm.diverged), ("failed", arm.failed))
        if seeds
    }
    for words in counts.values():
        assert words in told
    if arm.lost:
        assert arm.lost in told


def test_another_method_never_takes_the_place_of_a_transfer_that_failed() -> None:
    variant = ArmResult("rows", "transfer", {s: items(1.0, s) for s in range(6)})
    plain = drawn_arm("plain", ["ok"] * SEEDS, lost=False)
    found = judge([drawn_arm("transfer", [], lost=True), plain, variant])
    assert found.verdict is None
    assert found.sentence.startswith(f"Of transfer there is nothing to say: {ALL_DIVERGED}")
    assert [(c.method, c.against) for c in found.contrasts] == [("rows", "plain")]


def test_seeds_in_which_the_transfer_alone_diverged_do_not_make_it_better() -> None:
    plain = drawn_arm("plain", ["ok"] * 8, lost=False)
    sound = drawn_arm("transfer", ["ok"] * 8, lost=False)
    torn = drawn_arm("transfer", [*["ok"] * 7, "diverged"], lost=False)
    assert "better than tuned plain LoRA" in judge([sound, plain]).sentence
    sentence = judge([torn, plain]).sentence
    assert "not tested against tuned plain LoRA (the transfer alone diverged in seed 7" in sentence
    assert "nothing can be said of a gain" in sentence or "without the same-spectrum" in sentence


NAMES = [method.name for method in fake_comparison().methods]
PAIR = fake_comparison().pairs[0]
DRAWN = Pair(
    name="p", teacher="t", student="s", verdict=PAIR.verdict, scores=PAIR.scores, trials=PAIR.trials
)
SMALL = replace(fake_comparison(), pairs=(DRAWN,))


@settings(max_examples=4)
@given(
    st.dictionaries(
        st.sampled_from(NAMES),
        st.one_of(
            st.sampled_from(["all diverged", "all failed"]),
            st.tuples(st.integers(0, 3), st.integers(0, 3)),
        ),
        max_size=5,
    )
)
def test_page_and_markdown_count_the_seeds_that_are_lost(losses) -> None:
    comparison = with_losses(SMALL, losses)
    text, page = as_markdown(comparison), render_page(comparison)
    for name, loss in losses.items():
        if isinstance(loss, str):
            assert f"| 0 ({loss}) |" in row_of(text, name)
            assert f'0<span class="sub">{loss}</span>' in row_of(page, name)
            continue
        kinds = zip(loss, ("diverged", "failed"), strict=True)
        told = ", ".join(f"{count} {what}" for count, what in kinds if count)
        left = 8 - sum(loss)
        assert (f"| {left} ({told}) |" if told else f"| {left} |") in row_of(text, name)
        assert f'{left}<span class="sub">{told}</span>' in row_of(page, name) or not told
    lost = sum(1 if isinstance(loss, str) else sum(loss) for loss in losses.values())
    assert page.count("made up to be lost") == lost * len(comparison.pairs)
    assert text.count("made up to be lost") == lost * len(comparison.pairs)


def row_of(text: str, method: str) -> str:
    """The row of a method in the first table of results, on one line."""
    if text.startswith("#"):
        return next(line for line in text.splitlines() if line.startswith(f"| {method} |"))
    results = text[text.index('<table class="results stack">') :]
    row = results[results.index(f"<bdi>{method}</bdi>") :]
    return re.sub(r"\s*\n\s*", "", row[: row.index("</tr>")])
