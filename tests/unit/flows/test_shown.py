"""What a run shows of its result in the UI costs nothing but itself."""

import logging
from types import SimpleNamespace
from typing import Any

import pytest

from flows.config.transfer import TransferConfig
from flows.results.shown import KEY, show_transfer

CONFIG = TransferConfig.model_validate(
    {"name": "mine", "teacher": {"model": "a"}, "student": {"model": "it's b"}, "lora": {"rank": 4}}
)
STEP = SimpleNamespace(step="finetune", name="finetune transfer", key="3f" * 16, folder="/x")


def test_a_result_names_adapters_and_the_settings_that_were_given(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made: list[dict[str, Any]] = []
    monkeypatch.setattr(
        "prefect.artifacts.create_markdown_artifact",
        lambda text, **about: made.append({"text": text, **about}),
    )
    show_transfer(CONFIG, [STEP], None)
    (shown,) = made
    assert shown["key"] == KEY
    assert "paraknow deliver 3f3f3f3f3f3f3f3f DIR --student 'it'\"'\"'s b'" in shown["text"]
    settings = shown["text"].partition("## Settings")[2]
    assert "    lora:\n      rank: 4\n" in settings
    assert "decompose" not in settings


def test_a_server_that_takes_no_artifact_does_not_fail_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuses(*_: Any, **__: Any) -> None:
        raise OSError("gone")

    monkeypatch.setattr("prefect.artifacts.create_markdown_artifact", refuses)
    with caplog.at_level(logging.WARNING):
        show_transfer(CONFIG, [STEP], None)
    assert "Prefect's UI does not show the result (OSError)" in caplog.text
