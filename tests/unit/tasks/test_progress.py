"""What the artifact of a long step shows, and how often it is written."""

from uuid import UUID

import pytest

from tasks.engine.progress import StepProgress


def test_the_artifact_is_written_seldom_and_ends_with_what_was_said_last(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now, written = [0.0], []
    monkeypatch.setattr("tasks.engine.progress.time.monotonic", lambda: now[0])
    progress = StepProgress("finetune")

    def write(percent: float, message: str) -> None:
        progress._artifact = progress._artifact or UUID(int=1)
        written.append((percent, message))

    monkeypatch.setattr(progress, "_update_artifact", write)
    for done in range(1, 61):
        now[0] += 0.5
        progress(done, 60, f"loss {done}")
    progress.finish()
    assert len(written) == 4
    assert written[-1] == (100.0, "finished: loss 60")


def test_a_server_that_is_away_costs_the_view_and_not_the_step(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked = []

    def away(*_given: object, **_more: object) -> None:
        asked.append(True)
        raise ConnectionError("connection refused")

    monkeypatch.setattr("tasks.engine.progress.in_task_run", lambda: True)
    monkeypatch.setattr("prefect.artifacts.create_progress_artifact", away)
    progress = StepProgress("finetune")
    progress(1, 2, "loss 1")
    progress.finish()
    assert asked == [True]
