"""The page of scale is what its command prints; its law is what the planner itself counts."""

from dataclasses import replace

import pytest

from benchmarks.scale.assumptions import Assumptions, parsed
from benchmarks.scale.counts import Law, Size, compared, counted, moved
from benchmarks.scale.page import FOLDER, TRIALS, WHOLE, number, page, total
from benchmarks.scale.requests import count_requests


@pytest.fixture(scope="module")
def laws() -> dict[str, Law]:
    return {"moved": moved(), "compared": compared()}


def test_the_page_is_what_the_command_prints(laws: dict[str, Law]) -> None:
    written = (FOLDER.parent / "scale.md").read_text(encoding="utf-8")
    assert page(laws, Assumptions()) == written, "run `python -m benchmarks.scale > docs/scale.md`"


@pytest.mark.parametrize(
    ("size", "law"), [(Size(3, 5, 2, 2), "moved"), (Size(1, 3, 3, 1), "compared")]
)
def test_the_law_of_a_sample_holds_for_another_size(
    laws: dict[str, Law], size: Size, law: str
) -> None:
    assert laws[law].steps(size) == counted(size, law)


def test_what_is_shared_is_what_the_readme_says(laws: dict[str, Law]) -> None:
    found = laws["moved"].distinct
    assert found["sensitivity", ("teacher", "task")] == 1
    assert found["extract", ("teacher", "shape", "task")] == 1
    assert found["finetune", ("teacher", "student", "task")] == 1
    assert found["evaluate", ("student", "task")] == 1
    assert laws["moved"].steps(Size(1, 1, 1, 1))["finetune"] == 1
    assert laws["compared"].steps(Size(1, 1, 1, 1))["finetune"] == 5 * (TRIALS + 5)


def test_totals_follow_sizes_and_prices(laws: dict[str, Law]) -> None:
    requests, usual = count_requests(), Assumptions()
    once = total(laws["moved"], WHOLE, usual, requests)
    twice = total(laws["moved"], replace(WHOLE, tasks=40), usual, requests)
    assert twice.cells == 2 * once.cells
    assert once.gpu_hours < twice.gpu_hours <= 2 * once.gpu_hours
    dear, measure = parsed(["--gpu-price", "8"])
    assert not measure
    assert total(laws["moved"], WHOLE, dear, requests).gpu_dollars == pytest.approx(
        2 * once.gpu_dollars
    )
    assert once.puts >= once.steps * (3 + 1)  # its files and its record
    with pytest.raises(SystemExit):
        parsed(["--gpu-price", "cheap"])


def test_a_number_is_written_so_that_a_person_takes_it_in() -> None:
    given = [0, 0.04123, 7.96, 42.4, 999, 1234.5, 98765432]
    assert [number(n) for n in given] == ["0", "0.041", "8", "42", "999", "1,230", "98,800,000"]
