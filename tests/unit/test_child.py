"""A function in a process of its own: result, progress, errors, death."""

import os

import pytest
from support.child_work import add, break_down, die, refuse

from paraknow_core.errors import DataError
from tasks.child import ChildError, run_in_child


def test_result_and_progress_come_back_from_another_process():
    seen = []
    total, pid = run_in_child(add, progress=lambda *tick: seen.append(tick), a=2, b=3)
    assert total == 5
    assert pid != os.getpid()
    assert seen == [(1, 2, "half")]


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (refuse, DataError, "row 7 is empty"),
        (break_down, ChildError, "ZeroDivisionError"),
        (die, ChildError, r"exit code -9"),
    ],
)
def test_errors_come_back_as_errors(function, error, message):
    with pytest.raises(error, match=message):
        run_in_child(function, progress=lambda *tick: None)
