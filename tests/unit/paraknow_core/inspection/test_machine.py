from pathlib import Path

import torch

from paraknow_core.inspection.machine import _limit, measure


def test_a_short_measurement_gives_rates_and_memory() -> None:
    found = measure("cpu", torch.float32, seconds=0.01)
    assert 1e7 < found.flops < 1e15
    assert 1e7 < found.flops64 < 1e15
    assert 1e7 < found.bandwidth < 1e14
    assert 0 < found.free_bytes <= found.memory_bytes < 2**50
    assert (found.device, found.threads) == ("cpu", torch.get_num_threads())


def test_a_container_without_a_limit_has_none(tmp_path: Path) -> None:
    (tmp_path / "some").write_text("1048576\n")
    (tmp_path / "none").write_text("max\n")
    found = [_limit(tmp_path / name) for name in ("some", "none", "absent")]
    assert found[0] == 2**20
    assert found[1] == found[2] > 2**50
