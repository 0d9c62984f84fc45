"""Training that ends when validation no longer improves, and delivers its best step."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from support.starts import token_examples, transfer_start
from support.tiny import tiny_model

from paraknow_core.errors import ConfigError
from paraknow_core.finetuning.early_stopping import EarlyStopping, best_of, is_over
from paraknow_core.finetuning.finetune import TrainingResult, finetune
from paraknow_core.finetuning.recipe import FineTuningRecipe
from paraknow_core.lora.adapter import WEIGHTS
from paraknow_core.partial_results import PartialResults

Run = Callable[..., TrainingResult]


@pytest.mark.parametrize(
    ("losses", "recipe", "over", "best"),
    [
        ([3, 2, 1], {"patience": 1}, False, 2),
        ([3, 2, 2], {"patience": 1}, True, 1),
        ([3, 2, 4, 5], {"patience": 3}, False, 1),
        ([3, 2, 4, 5, 2], {"patience": 3}, True, 1),
        ([3, 2, 4, 1, 5], {"patience": 2}, False, 3),
        # Each is better by too little, but two of them together are not.
        ([3, 2.9, 2.8, 2.7], {"patience": 2, "min_delta": 0.15}, False, 3),
        ([3, 2.99, 2.98], {"patience": 2, "min_delta": 0.15}, True, 2),
    ],
)
def test_the_rule(losses: list[float], recipe: dict[str, Any], over: bool, best: int) -> None:
    assert is_over(losses, EarlyStopping(**recipe)) is over
    assert best_of(losses) == best


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stopping")
    transfer_start(tiny_model(folder / "student", layers=1), folder / "start")
    return folder


@pytest.fixture
def run(folder: Path, tmp_path: Path) -> Run:
    def with_defaults(out: str = "out", **changes: Any) -> TrainingResult:
        given = {"validation": token_examples(9, seed=6)}
        given |= {n: changes.pop(n) for n in ("progress", "checkpoint_steps") if n in changes}
        given |= {n: changes.pop(n) for n in ("validation",) if n in changes}
        # Few rows at a high rate: they are soon learned by heart, and validation gets worse.
        settings = {"learning_rate": 2e-2, "batch_size": 4, "epochs": 6, "lr_schedule": "constant"}
        return finetune(
            student_folder=folder / "student",
            start_folder=folder / "start",
            train=token_examples(8),
            out_folder=tmp_path / out,
            partial=PartialResults(tmp_path / f"{out} work"),
            recipe=FineTuningRecipe(**settings | changes),
            **given,
        )

    return with_defaults


def judged(result: TrainingResult) -> dict[int, float]:
    return {int(row["step"]): row["eval_loss"] for row in result.rows if "eval_loss" in row}


def test_the_best_step_is_delivered_and_later_ones_are_not_trained(
    run: Run, tmp_path: Path
) -> None:
    whole = run("whole")
    assert (whole.best_step, whole.epochs) == (None, 6)
    stopped = run(early_stopping={"patience": 2, "every": 1})
    losses = judged(stopped)
    assert list(losses) == list(range(1, stopped.steps + 1))
    assert 1 <= stopped.steps - 2 == stopped.best_step
    assert stopped.steps < whole.steps == 12
    assert stopped.epochs == stopped.steps / 2
    assert stopped.best_step == min(losses, key=losses.__getitem__)
    # The same steps as of the whole run, whose learning rate does not depend on the number left.
    assert [row["loss"] for row in stopped.rows] == [r["loss"] for r in whole.rows][: stopped.steps]
    never = run("never", early_stopping={"patience": 100, "every": 5})
    assert list(judged(never)) == [5, 10, 12]
    assert never.steps == 12
    assert never.best_step == min(judged(never), key=judged(never).__getitem__)


def test_the_delivered_adapter_has_the_best_validation_loss(
    run: Run, folder: Path, tmp_path: Path
) -> None:
    from peft import PeftModel

    from paraknow_core.finetuning.batches import answer_loss
    from paraknow_core.lora.anchored_model import quiet_peft
    from paraknow_core.models.load import load_model

    stopped = run(early_stopping={"patience": 2, "every": 1})
    with quiet_peft():
        model = PeftModel.from_pretrained(load_model(folder / "student"), tmp_path / "out")
    found = answer_loss(model, token_examples(9, seed=6), batch_size=4)
    assert found == pytest.approx(min(judged(stopped).values()), rel=1e-5)
    assert found < list(judged(stopped).values())[-1] - 1e-3


def test_a_run_that_was_killed_after_its_best_step_still_delivers_it(
    run: Run, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"early_stopping": {"patience": 3, "every": 1}}
    whole = run(**settings)
    assert whole.best_step is not None
    after = whole.best_step + 2

    def stop(step: int, _total: int, _message: str) -> None:
        if step == after:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run("killed", **settings, checkpoint_steps=1, progress=stop)
    again = run("killed", **settings, checkpoint_steps=1)
    assert again.resumed_from == after - 1 > whole.best_step
    assert (again.rows, again.best_step) == (whole.rows, whole.best_step)
    one, two = ((tmp_path / name / WEIGHTS).read_bytes() for name in ("out", "killed"))
    assert one == two


def test_it_needs_validation_rows(run: Run) -> None:
    with pytest.raises(ConfigError, match="no validation rows; give some"):
        run(early_stopping={}, validation=())
