"""Whether a verdict changed: what it says, not its digits."""

from pathlib import Path
from typing import Any

import pytest

from flows.results.conclude import CompareResult, _keep_verdicts
from flows.results.dataset import new_run
from flows.results.verdict_events import VERDICT_CHANGED, tell_changed_verdicts
from flows.results.verdicts import changed, earlier_verdicts, kind_of, put_verdicts

BETTER = (
    "In answer NLL (nats a token) the transfer is better than plain LoRA (-0.329, 95 % interval "
    "-0.363 to -0.307, adjusted p = 0.016, 8 seeds); not tested against PiSSA; so the gain is "
    "shown."
)
AGAIN = BETTER.replace("-0.329", "-0.401").replace("0.016", "1.6e-05").replace("8 seeds", "9 seeds")
WORSE = BETTER.replace("better than", "worse than")


def test_other_digits_are_the_same_verdict_and_another_word_is_not() -> None:
    assert kind_of(BETTER) == kind_of(AGAIN)
    assert kind_of(BETTER) != kind_of(WORSE)
    assert kind_of("better on 5 and worse on 2 of 7 seeds") == kind_of(
        "better on 6 and worse on 1 of 7 seeds"
    )
    before = {"a on w": BETTER, "b on w": BETTER, "gone": BETTER}
    assert changed(before, {"a on w": AGAIN, "b on w": WORSE, "new": WORSE}) == {"b on w": BETTER}


def test_the_last_run_of_the_same_comparison_counts(tmp_path: Path) -> None:
    assert earlier_verdicts(tmp_path, "demo") == {}
    put_verdicts(tmp_path, "demo", "20260101T000000Z-aaaaaaaa", {"a": WORSE})
    put_verdicts(tmp_path, "demo", "20260102T000000Z-00000000", {"a": BETTER})
    put_verdicts(tmp_path, "demo-2", "20260103T000000Z-aaaaaaaa", {"a": "another"})
    assert earlier_verdicts(tmp_path, "demo") == {"a": BETTER}
    assert earlier_verdicts(tmp_path, "dem") == {}
    put_verdicts(tmp_path, "demo", new_run(), {"a": AGAIN})
    assert earlier_verdicts(tmp_path, "demo") == {"a": AGAIN}
    (tmp_path / "_pages" / f"demo-{new_run()[:-1]}f.json").write_text("{")
    assert earlier_verdicts(tmp_path, "demo-2") == {"a": "another"}


def test_a_run_keeps_its_verdicts_for_the_next_one(tmp_path: Path) -> None:
    first, second, third = "20260101T000000Z-a", "20260102T000000Z-b", "20260103T000000Z-c"
    runs = [f"{run}{'0' * 7}" for run in (first, second, third)]
    said = [_keep_verdicts(tmp_path, "demo", runs[0], {"a": BETTER})]
    said.append(_keep_verdicts(tmp_path, "demo", runs[1], {}))  # its report failed
    said.append(_keep_verdicts(tmp_path, "demo", runs[2], {"a": WORSE}))
    assert said == [{}, {}, {"a": BETTER}]


def test_a_changed_verdict_is_an_event(monkeypatch: pytest.MonkeyPatch) -> None:
    events: list[Any] = []
    monkeypatch.setattr("prefect.events.emit_event", lambda *a, **k: events.append((a, k)))
    told = {"name": "demo", "run": "r", "results": 1, "failed": 0, "computed": 0, "reused": 1}
    more = {"reasons": [], "rows": "", "page": "", "summary": ""}
    verdicts = {"a": BETTER, "b": BETTER}
    result = CompareResult(**told, **more, verdicts=verdicts, before={"a": WORSE})  # type: ignore[arg-type]
    tell_changed_verdicts(result)
    (((name,), rest),) = events
    assert name == VERDICT_CHANGED
    assert rest["resource"]["prefect.resource.id"] == "paraknow.comparison.demo"
    assert rest["payload"] | {"run": "r"} == {
        "comparison": "demo",
        "run": "r",
        "cell": "a",
        "now": BETTER,
        "before": WORSE,
    }
