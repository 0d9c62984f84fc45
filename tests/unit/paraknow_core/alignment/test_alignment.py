import subprocess
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from paraknow_core.alignment.layers import LAYER_STRATEGIES, check_layers, choose_layers
from paraknow_core.errors import ConfigError, NumericsError, ShapeError


def choose(strategy: str, scores: list[float], num_student: int, seed: int = 0) -> list[int]:
    return choose_layers(
        strategy, scores=scores, num_teacher=len(scores), num_student=num_student, seed=seed
    )


def test_sensitivity_keeps_the_greatest_scores_in_the_teachers_order() -> None:
    assert choose("sensitivity", [5.0, 1.0, 9.0, 7.0], 3) == [0, 2, 3]


def test_of_equal_scores_the_lower_layer_is_taken() -> None:
    assert choose("sensitivity", [1.0, 2.0, 1.0, 1.0], 3) == [0, 1, 2]


def test_first_and_last_take_the_ends() -> None:
    assert choose("first", [1.0, 2.0, 3.0, 4.0], 2) == [0, 1]
    assert choose("last", [4.0, 3.0, 2.0, 1.0], 2) == [2, 3]


@pytest.mark.parametrize(
    ("layers", "kept", "expected"),
    [(12, 3, [0, 6, 11]), (12, 6, [0, 2, 4, 7, 9, 11]), (5, 1, [0]), (4, 4, [0, 1, 2, 3])],
)
def test_uniform_spaces_layers_evenly_with_both_ends(
    layers: int, kept: int, expected: list[int]
) -> None:
    assert choose("uniform", [0.0] * layers, kept) == expected


def test_listed_layers_are_different_ones_of_the_teacher_in_any_order() -> None:
    check_layers([5, 0, 3], num_teacher=6, num_student=3)
    for layers in ([0, 3], [0, 3, 6], [0, 3, 3], [-1, 0, 3]):
        with pytest.raises(ConfigError, match=r"align\.layers is \[.*3 different.*0\.\.5"):
            check_layers(layers, num_teacher=6, num_student=3)


def test_random_depends_on_the_seed_and_on_nothing_else() -> None:
    low, high = [0.0] * 40, [float(i) for i in range(40)]
    assert choose("random", low, 20, seed=3) == choose("random", high, 20, seed=3)
    assert choose("random", low, 20, seed=3) != choose("random", low, 20, seed=4)


def test_random_draws_every_layer_about_equally_often() -> None:
    drawn = [layer for seed in range(2000) for layer in choose("random", [0.0] * 6, 2, seed=seed)]
    counts = [drawn.count(layer) for layer in range(6)]
    assert all(abs(count - 2000 / 3) < 120 for count in counts)  # 5.7 standard deviations


@given(
    scores=st.lists(st.floats(0, 1e30), min_size=1, max_size=12),
    data=st.data(),
    strategy=st.sampled_from(sorted(LAYER_STRATEGIES)),
)
def test_every_strategy_gives_different_ascending_layers(
    scores: list[float], data: st.DataObject, strategy: str
) -> None:
    size = data.draw(st.integers(1, len(scores)))
    chosen = choose(strategy, scores, size, seed=data.draw(st.integers(0, 2**32)))
    assert len(chosen) == size
    assert chosen == sorted(set(chosen))
    assert set(chosen) <= set(range(len(scores)))
    if strategy == "sensitivity":
        left = [score for layer, score in enumerate(scores) if layer not in chosen]
        assert min(scores[layer] for layer in chosen) >= max(left, default=0)


def test_an_unknown_strategy_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"'sensitivty'.*did you mean 'sensitivity'"):
        choose("sensitivty", [1.0], 1)


@pytest.mark.parametrize("num_student", [0, 4])
def test_a_student_that_is_too_deep_or_empty_is_refused(num_student: int) -> None:
    with pytest.raises(ShapeError, match=rf"{num_student} layers and the teacher 3.*1\.\.3"):
        choose("first", [1.0, 2.0, 3.0], num_student)


def test_scores_of_another_model_are_refused() -> None:
    with pytest.raises(ShapeError, match="2 layer scores for a teacher of 3"):
        choose_layers("last", scores=[1.0, 2.0], num_teacher=3, num_student=1, seed=0)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_scores_that_are_not_finite_are_refused(bad: float) -> None:
    with pytest.raises(NumericsError, match="layer 1 is"):
        choose("sensitivity", [1.0, bad, 3.0], 1)


def test_a_plan_needs_no_torch() -> None:
    code = "import sys, paraknow_core.alignment.layers; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
