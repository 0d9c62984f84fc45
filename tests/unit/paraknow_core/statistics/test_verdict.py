"""What a pair's verdict says, and that it never says more than the controls allow."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraknow_core.errors import ConfigError
from paraknow_core.evaluation.metrics import METRICS
from paraknow_core.methods import METHODS, TRANSFER
from paraknow_core.statistics.answers import Spoilt
from paraknow_core.statistics.design import holm
from paraknow_core.statistics.paired_seeds import SeedComparison, compare_seeds
from paraknow_core.statistics.verdict import knowledge_controls, pair_verdict, questions

NLL = METRICS["answer_nll"]
LABELS = {name: method.label for name, method in METHODS.items() if not method.is_transfer}
FOUR = ("plain", "pissa", "same-spectrum", "shuffled-vocabulary")


def against(mean: float, n: int = 8) -> SeedComparison:
    """Differences around `mean` with an SD of about .01."""
    d = {seed: mean + 0.01 * math.sin(7 * seed) for seed in range(n)}
    return compare_seeds(d, dict.fromkeys(d, 0.0), resamples=400)


BETTER, WORSE, EQUAL = against(-0.06), against(0.06), against(0.0)
FIVE, THREE = against(-0.06, 5), against(-0.06, 3)


def verdict(comparisons, **settings):
    adjusted = holm({name: c.p_value for name, c in comparisons.items()})
    return pair_verdict(comparisons, adjusted=adjusted, **{"metric": NLL} | settings)


def test_all_controls_beaten() -> None:
    v = verdict(dict.fromkeys(FOUR, BETTER))
    assert v.teacher
    assert v.sentence.endswith("so the gain is owed to what the teacher learnt.")
    assert [answer.outcome for answer in v.answers] == ["better"] * 4
    assert "better than tuned plain LoRA (-0.0" in v.sentence
    assert "adjusted p = 0.031, 8 seeds" in v.sentence


def test_equal_to_the_spectrum_names_no_cause() -> None:
    v = verdict({**dict.fromkeys(FOUR, BETTER), "same-spectrum": EQUAL})
    assert not v.teacher
    assert "not visibly different from the same-spectrum control" in v.sentence
    assert v.sentence.endswith("not shown to come from more than the start point.")
    assert any("would have seen a difference of" in caveat for caveat in v.caveats)


def test_controls_that_did_not_run_are_said() -> None:
    v = verdict({"plain": BETTER})
    outcomes = {answer.other: answer.outcome for answer in v.answers}
    assert outcomes == {"plain": "better"} | dict.fromkeys(FOUR[1:], "not tested")
    assert "without the same-spectrum control and the shuffled-vocabulary control" in v.sentence
    assert not v.teacher


def test_no_gain_over_plain_has_no_cause() -> None:
    v = verdict({**dict.fromkeys(FOUR, BETTER), "plain": WORSE})
    assert not v.teacher
    assert "worse than tuned plain LoRA" in v.sentence
    assert "no gain over tuned plain LoRA" in v.sentence


@pytest.mark.parametrize(("few", "n"), [(FIVE, 5), (THREE, 3)])
def test_few_seeds_show_nothing_and_their_numbers_are_told(few: SeedComparison, n: int) -> None:
    found = verdict(dict.fromkeys(FOUR, few))
    assert {answer.outcome for answer in found.answers} == {"out of reach"}
    assert "better on every seed than tuned plain LoRA (-0.05" in found.sentence
    assert f"with {n} seeds and 4 comparisons nothing can be shown" in found.sentence
    assert "8 seeds can" in found.sentence
    assert "not visibly different" not in found.sentence


def test_a_family_too_large_for_the_seeds_is_said() -> None:
    comparisons = dict.fromkeys(FOUR, BETTER)
    adjusted = dict.fromkeys(FOUR, 7 * BETTER.p_value)
    v = pair_verdict(comparisons, adjusted=adjusted, metric=NLL, family=7)
    assert {answer.outcome for answer in v.answers} == {"out of reach"}
    assert "with 8 seeds and 7 comparisons nothing can be shown" in v.sentence
    assert "9 seeds can" in v.sentence


def test_worse_on_every_seed_is_not_called_the_same() -> None:
    d = {seed: 0.522 + 0.05 * math.sin(7 * seed) for seed in range(5)}
    worse = compare_seeds(d, dict.fromkeys(d, 0.0), resamples=400)
    v = pair_verdict({"plain": worse}, adjusted={"plain": 0.31}, family=5, metric=NLL)
    assert "worse on every seed than tuned plain LoRA" in v.sentence
    assert "with 5 seeds and 5 comparisons nothing can be shown" in v.sentence
    mixed = verdict(dict.fromkeys(FOUR, against(-0.006, 5)))
    assert "better on 2 and worse on 3 of 5 seeds than" in mixed.sentence


def test_no_gain_is_said_only_where_the_interval_excludes_one_that_matters() -> None:
    beaten = dict.fromkeys(FOUR, BETTER)
    assert verdict({**beaten, "plain": EQUAL}).sentence.endswith(
        "a gain of 0.02 or more over tuned plain LoRA is excluded, so there is no gain to explain."
    )
    wide = verdict({**beaten, "plain": EQUAL}, margin=0.002)
    assert wide.sentence.endswith(
        "so a gain over tuned plain LoRA is not shown, nor is one of 0.002, which would matter, "
        "excluded."
    )
    unset = verdict({**beaten, "plain": EQUAL}, metric=replace(NLL, margin=None))
    assert "no margin is set for answer NLL" in unset.sentence
    higher = replace(NLL, higher_is_better=True)
    assert "excluded, so" in verdict({**beaten, "plain": EQUAL}, metric=higher).sentence
    torn = {"plain": Spoilt(other=(7,))}
    assert "is excluded" not in verdict({**beaten, "plain": EQUAL}, spoilt=torn).sentence


@pytest.mark.parametrize("name", FOUR)
def test_a_rate_at_the_edge_of_a_control_or_rival_takes_the_claim_away(name) -> None:
    v = verdict(dict.fromkeys(FOUR, BETTER), lr_at_edge=[name])
    assert not v.teacher
    assert "owed to what" not in v.sentence
    assert f"learning rate of {LABELS[name]} lies at the edge" in v.sentence
    assert verdict(dict.fromkeys(FOUR, BETTER), lr_at_edge=["milora"]).teacher


def test_an_accuracy_is_better_when_higher() -> None:
    v = verdict({"plain": WORSE}, metric=METRICS["exact_match"])
    assert v.answers[0].outcome == "better"
    assert v.sentence.startswith("In exact match the transfer is better than")


def test_edge_of_the_grid_and_lost_seeds_are_caveats() -> None:
    a = {seed: -0.06 + 0.001 * seed for seed in range(8)}
    lost = compare_seeds(a, dict.fromkeys([*range(7), 11], 0.0), resamples=400)
    v = verdict({"plain": lost}, lr_at_edge=["plain"])
    assert "edge of the grid for tuned plain LoRA" in v.caveats[0]
    assert any("seeds 7, 11 have a result on one side only" in caveat for caveat in v.caveats)


def test_a_comparison_needs_its_adjusted_p() -> None:
    with pytest.raises(ConfigError, match=r"no Holm-adjusted p-value for \['pissa'\]"):
        pair_verdict({"pissa": BETTER}, adjusted={}, metric=NLL)


def test_the_questions_of_a_method_are_those_of_its_entry() -> None:
    assert questions(TRANSFER) == FOUR
    assert knowledge_controls(TRANSFER, []) == FOUR[2:]
    assert knowledge_controls(TRANSFER, LABELS) == (
        *FOUR[2:],
        "shuffled-teacher",
        "random-teacher",
        "own-teacher",
    )


@given(
    st.dictionaries(
        st.sampled_from([*LABELS, "my Teacher's start"]),
        st.sampled_from([BETTER, WORSE, EQUAL, FIVE, THREE]),
    ),
    st.booleans(),
    st.sets(st.sampled_from([*LABELS])),
    st.sampled_from([{}, LABELS]),
    st.booleans(),
)
def test_the_word_never_stands_where_a_control_is_not_beaten(
    comparisons, higher, at_edge, labels, is_tuned
) -> None:
    """Whatever the numbers, names and metric; and it does stand where all is beaten."""
    v = verdict(
        comparisons,
        lr_at_edge=at_edge,
        labels=labels,
        metric=replace(NLL, label="TEACHER-forced NLL", higher_is_better=higher),
        is_tuned=is_tuned,
    )
    won = {answer.other for answer in v.answers if answer.outcome == "better"}
    ran = {"plain", "same-spectrum", "shuffled-vocabulary"} | set(
        knowledge_controls(TRANSFER, comparisons)
    )
    fair = ran | set(questions(TRANSFER))
    assert v.teacher == (is_tuned and ran <= won and not fair & at_edge)
    assert ("no rate was tuned" in v.sentence) == (not is_tuned)
    assert is_tuned or "tuned plain LoRA" not in " ".join([v.sentence, *v.caveats])
    if not v.teacher:
        assert "teacher" not in " ".join([v.sentence, *v.caveats]).lower()
    assert {answer.other for answer in v.answers} == set(comparisons) | set(questions(TRANSFER))
