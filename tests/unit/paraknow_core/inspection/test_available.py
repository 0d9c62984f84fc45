import resource
from pathlib import Path

from paraknow_core.inspection.available import available_bytes, cgroup_left, left_of


def test_something_is_available() -> None:
    assert 0 < available_bytes("cpu") < 2**50


def test_a_containers_limit_less_what_it_uses_but_for_cached_files(tmp_path: Path) -> None:
    (tmp_path / "memory.max").write_text("1000\n")
    (tmp_path / "memory.current").write_text("900\n")
    (tmp_path / "memory.stat").write_text("anon 300\ninactive_file 200\nactive_file 100\n")
    assert cgroup_left(tmp_path) == 400
    (tmp_path / "memory.max").write_text("max\n")
    assert cgroup_left(tmp_path) > 2**50
    assert cgroup_left(tmp_path / "absent") > 2**50


def test_a_processs_own_limit_less_what_it_uses() -> None:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    assert left_of({resource.RLIMIT_NOFILE: 10}) == limit - 10
