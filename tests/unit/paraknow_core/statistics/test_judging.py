"""What is said of one pair: which comparisons carry the verdict, and what stands beside them."""

import random
import re
from dataclasses import replace

import pytest
from support.items import arm, items

from paraknow_core.evaluation.items import Item
from paraknow_core.methods import METHODS
from paraknow_core.report.comparison_markdown import as_markdown, table_of
from paraknow_core.report.page.data import Comparison, Pair, ShownMethod
from paraknow_core.statistics.arm_result import ArmResult
from paraknow_core.statistics.judge import Judgement, about, judge
from paraknow_core.statistics.whole import whole_sentence

BEATEN = [
    arm("plain", 1.5),
    arm("transfer", 1.2),
    arm("pissa", 1.4),
    arm("same-spectrum", 1.45),
    arm("shuffled-vocabulary", 1.35),
]


def test_a_transfer_that_beats_everything_may_name_the_teacher() -> None:
    found = judge(BEATEN)
    assert found.verdict is not None
    assert found.verdict.teacher
    assert "teacher" in found.sentence
    headline = {c.against: c.result for c in found.contrasts if c.headline}
    assert headline == dict.fromkeys(
        ("plain", "pissa", "same-spectrum", "shuffled-vocabulary"), "better"
    )
    assert all(c.p_holm == pytest.approx(4 * 2 / 2**8) for c in found.contrasts if c.headline)


def test_one_control_that_is_not_beaten_takes_the_word_away() -> None:
    found = judge([a if a.name != "same-spectrum" else arm("same-spectrum", 1.2) for a in BEATEN])
    assert found.verdict is not None
    assert not found.verdict.teacher
    assert "teacher" not in found.sentence.lower()


def test_variants_are_exploratory_and_do_not_enlarge_the_family() -> None:
    found = judge([*BEATEN, arm("row-column", 1.1, start="transfer")])
    variant = next(c for c in found.contrasts if c.against == "row-column")
    assert variant.p_holm is None
    assert not variant.headline
    assert variant.mean == pytest.approx(0.1, abs=0.02)
    against_plain = {c.method for c in found.contrasts if c.against == "plain"}
    assert against_plain == {
        "transfer",
        "pissa",
        "same-spectrum",
        "shuffled-vocabulary",
        "row-column",
    }
    assert all(c.p_holm == pytest.approx(4 * 2 / 2**8) for c in found.contrasts if c.headline)


def test_seeds_that_failed_are_left_out_of_their_pairs_only() -> None:
    short = arm("pissa", 1.4, seeds=6)
    found = judge([a if a.name != "pissa" else short for a in BEATEN])
    assert {c.against: c.n for c in found.contrasts if c.headline} == {
        "plain": 8,
        "pissa": 6,
        "same-spectrum": 8,
        "shuffled-vocabulary": 8,
    }
    lost = judge([a if a.name != "pissa" else arm("pissa", 1.4, seeds=0) for a in BEATEN])
    assert "pissa" not in {c.against for c in lost.contrasts}


def test_every_sentence_is_said_once_and_the_edge_of_the_grid_is_told() -> None:
    found = judge([arm("plain", 1.5, edge=True), *BEATEN[1:]])
    assert len(set(found.notes)) == len(found.notes)
    assert any("edge of the grid" in note for note in found.notes)
    assert any(note.startswith("Exact match") for note in found.notes)


def test_right_answers_are_counted_by_the_majority_of_seeds() -> None:
    arms = [ArmResult(a.name, a.start, a.items, a.at_edge) for a in BEATEN]
    arms[1] = ArmResult(
        "transfer", "transfer", {s: items(1.2, s, right=0.9) for s in range(8)}, at_edge=False
    )
    (note,) = [note for note in judge(arms).notes if "McNemar" in note]
    assert "plain 16 to 0 (p = 3.1e-05, Holm 0.00012)" in note
    assert note.count(" to 0 ") == 4


def test_what_does_better_without_any_other_model_stands_beside_the_verdict() -> None:
    found = judge([*BEATEN, arm("milora", 1.0), arm("olora", 1.4)])
    assert found.verdict is not None
    assert found.verdict.teacher
    assert found.sentence.startswith(found.verdict.sentence)
    assert "Made of the student alone and better than the transfer: MiLoRA (+0.2" in found.sentence
    assert "OLoRA" not in found.sentence
    assert "Made of the student" not in judge([*BEATEN, arm("olora", 1.4)]).sentence
    lost = judge([arm("plain", 1.1), *BEATEN[1:], arm("milora", 1.0)]).sentence
    assert "MiLoRA" in lost
    assert "teacher" not in lost


def test_the_best_start_and_distillation_are_named_whatever_they_did() -> None:
    distilled = replace(arm("taught", 1.1, start="plain"), loss="distillation")
    beaten = replace(arm("taught-less", 1.3, start="plain"), loss="distillation")
    found = judge([*BEATEN, arm("milora", 1.45), distilled, beaten])
    notes = [note for note in found.notes if note.startswith("Compared as well")]
    assert len(notes) == 2
    assert "made of the student alone: the best is PiSSA" in notes[0]
    assert (
        "trained by distillation: the best is taught, and the transfer minus it is +0." in notes[1]
    )
    assert "Trained by distillation and better than the transfer: taught (+0.1" in found.sentence
    assert "taught-less" not in found.sentence
    assert "Trained by distillation" not in judge([*BEATEN, beaten]).sentence


def test_an_arm_with_other_epochs_is_neither_plain_lora_nor_a_control() -> None:
    other = [replace(a, epochs=6) if a.name == "plain" else replace(a, epochs=3) for a in BEATEN]
    assert "not tested against plain LoRA" in judge(other).sentence.replace("tuned ", "")
    assert not any(c.headline and c.against == "plain" for c in judge(other).contrasts)


def test_arms_with_more_epochs_are_named_for_themselves_and_compared_with_distillation() -> None:
    """Equal data and equal compute are two questions: the best of one is not that of the other."""
    distilled = replace(arm("taught", 1.1, start="plain"), loss="distillation", epochs=3)
    longer = replace(arm("longer", 1.0, start="milora"), epochs=6)
    as_long = [replace(a, epochs=3) for a in (*BEATEN, arm("milora", 1.45))]
    found = judge([*as_long, distilled, longer])
    alone, taught, other = (n for n in found.notes if n.startswith("Compared as well"))
    assert "made of the student alone: the best is PiSSA, " in alone
    assert "trained by distillation: the best is taught, " in taught
    assert "for other epochs: the best is longer (epochs: 6, not 3), and the transfer" in other
    direct = [n for n in found.notes if n.startswith("Without the teacher, or by its outputs")]
    assert [re.search(r": (.*?) is ([+-]0\.\d)", note)[0] for note in direct] == [  # type: ignore[index]
        ": PiSSA minus taught is +0.3",
        ": longer (epochs: 6, not 3) minus taught is -0.1",
    ]


@pytest.mark.parametrize(
    ("start", "others", "loss", "end"),
    [
        ("same-spectrum", (), "answers", "Of the teacher it uses: parameters, labels."),
        ("novel-untrained", (), "answers", "what stands in for the teacher it uses: parameters."),
        ("transfer", ("whitened-distillation",), "answers", "parameters, outputs, labels."),
        ("plain", (), "KL at temperature 2", "4.1)). Trained on KL at temperature 2, which"),
        ("milora", (), "KL at temperature 2", "which uses the teacher's outputs."),
        ("plain", (), "answers", "(LoRA (arXiv 2106.09685, §4.1))"),
    ],
)
def test_every_arm_says_what_of_the_teacher_it_uses(
    start: str, others: tuple[str, ...], loss: str, end: str
) -> None:
    assert end in about(start, others, loss=loss)[1]


def test_an_arm_with_another_loss_is_neither_plain_lora_nor_a_control() -> None:
    """Its name may be that of a method: its numbers are of something else."""
    taught = replace(arm("plain", 1.0), loss="distillation")
    found = judge([*(a for a in BEATEN if a.name != "plain"), taught])
    assert found.verdict is not None
    assert {a.other: a.outcome for a in found.verdict.answers}["plain"] == "not tested"
    assert not [c for c in found.contrasts if c.against == "plain" and c.method != "transfer"]
    together = judge([replace(a, loss="distillation") for a in BEATEN])
    assert together.verdict is not None
    assert together.verdict.teacher


def test_a_difference_on_these_items_alone_is_said_to_be_one() -> None:
    """Every seed is better by as much, but all of it comes from one item of many."""

    def few(gain: float) -> dict[int, list[Item]]:
        draw = random.Random(7)
        return {
            seed: [
                Item(
                    str(i), "q", "a", 1.5 + draw.gauss(0, 0.001) - gain * (i == 0), 1, *"xxa", True
                )
                for i in range(40)
            ]
            for seed in range(8)
        }

    found = judge([ArmResult("plain", "plain", few(0)), ArmResult("transfer", "transfer", few(2))])
    (contrast,) = found.contrasts
    assert contrast.result == "better"
    assert contrast.items_low is not None
    assert contrast.items_high is not None
    assert contrast.items_low < 0 < contrast.items_high
    assert "nothing is shown beyond this test split" in found.sentence
    broad = judge(BEATEN)
    assert "95 % intervals leave out 0, too" in broad.sentence
    assert all(c.items_high is not None and c.items_high < 0 for c in broad.contrasts[:4])


def test_several_cells_are_corrected_together() -> None:
    many = [arm(a.name, {"plain": 1.5}.get(a.name, 1.4), seeds=10) for a in BEATEN]
    many[1] = arm("transfer", 1.2, seeds=10)
    both = whole_sentence({"a": judge(many), "b": judge(many)})
    assert both.startswith("All 2 cells together (p < 0.05 after Holm's correction for the 8")
    assert "better than tuned plain LoRA in every cell" in both
    assert both.endswith("so in every cell the gain is owed to what the teacher learnt.")
    one = judge([a if a.name != "plain" else arm("plain", 1.2, seeds=10) for a in many])
    mixed = whole_sentence({"a": judge(many), "b": one})
    assert "better than tuned plain LoRA in a only" in mixed
    assert "better than the same-spectrum control in every cell" in mixed
    assert "teacher" not in mixed
    assert "no cause is shown in every cell" in mixed
    blind = whole_sentence({"a": judge(BEATEN), "b": judge(BEATEN)})
    assert blind == (
        "All 2 cells together: with 8 seeds and 8 comparisons nothing can be shown, as p < 0.05 "
        "cannot be reached; 9 seeds can."
    )
    assert whole_sentence({"a": judge(many)}) == ""
    failed = whole_sentence({"a": judge(many), "b": judge(many), "c": Judgement()})
    assert "in every cell the gain" not in failed
    assert "in a and b only" in failed


def test_without_a_transfer_there_is_no_verdict() -> None:
    found = judge([arm("plain", 1.5), arm("pissa", 1.4)])
    assert found.verdict is None
    assert [c.label for c in found.contrasts] == ["pissa − plain"]


@pytest.mark.parametrize("start", METHODS)
def test_every_method_says_what_it_is(start: str) -> None:
    kind, text = about(start)
    assert kind in {"baseline", "method", "control"}
    assert (kind == "control") == METHODS[start].is_control
    assert METHODS[start].start in text


def test_markdown_and_table_hold_every_number_and_no_markup_of_a_name() -> None:
    found = judge(BEATEN)
    evil = "x|y <script>*a*</script> [l](javascript:1)\n# h"
    pair = Pair(
        name=evil,
        teacher="t",
        student="s",
        task="t",
        verdict=found.sentence,
        contrasts=found.contrasts,
        notes=found.notes,
    )
    comparison = Comparison(title=evil, methods=(ShownMethod(name="plain"),), pairs=(pair,))
    text = as_markdown(comparison)
    assert "<script>" not in text
    assert not re.search(r"(?<!\\)\]\(", text)
    assert "\n# h" not in text
    assert len(table_of(comparison.to_json())) == len(found.contrasts)
