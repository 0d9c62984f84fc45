"""A token of the environment reaches neither the store nor Prefect's parameters and logs."""

from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_DATABASE_CONNECTION_URL
from support.pair import pair_settings

from flows.config.transfer import TransferConfig
from flows.transfer import transfer

pytestmark = [pytest.mark.flow, pytest.mark.usefixtures("prefect_server")]

CANARY = "hf_CanaryThatMustNeverBeWritten0123456789"


def files_with(folder: Path, text: str) -> list[Path]:
    """Every file below a folder whose name or bytes hold a text."""
    found = [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]
    assert found
    return [p for p in found if text in str(p) or text.encode() in p.read_bytes()]


def test_tokens_are_written_nowhere(
    pair: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN", "PREFECT_API_KEY"):
        monkeypatch.setenv(name, CANARY)
    config = TransferConfig.model_validate(pair_settings(pair, tmp_path / "store"))
    result = transfer(config)
    assert {step.status for step in result.steps} == {"computed"}
    assert files_with(tmp_path, CANARY) == []
    assert CANARY not in caplog.text
    database = str(PREFECT_API_DATABASE_CONNECTION_URL.value())
    folder = Path(database.partition(":///")[2]).parent
    assert files_with(folder, CANARY) == []
    assert files_with(folder, str(pair)) != []  # parameters are there, and this looks there
