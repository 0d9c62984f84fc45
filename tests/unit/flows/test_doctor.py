import base64
import json
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from packaging.version import Version
from support.results import payload, published
from typer.testing import CliRunner

from artifacts.store import Store
from flows.cli.main import app
from flows.doctor import examine as doctor
from flows.doctor import store as doctor_store
from flows.doctor import versions as doctor_versions
from flows.doctor.finding import Finding, State
from flows.doctor.store import check_store
from flows.doctor.versions import against_lock, installed_versions, known_bad, python_finding, unmet

SECRET = "hunter2-and-more"


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk with room, whatever this machine's has."""
    monkeypatch.setattr(doctor_store, "free_bytes", lambda _path: 10**12)


def states(findings: list[Finding]) -> dict[str, State]:
    return {finding.topic: finding.state for finding in findings}


# -- versions


def test_this_environment_meets_what_the_project_requires():
    assert State.FAILED not in states(list(doctor_versions.check_versions())).values()


def test_an_older_python_is_refused():
    assert python_finding(">=3.11", "3.11.0").state is State.OK
    assert python_finding(">=3.11", "3.10.14").state is State.FAILED


def test_a_missing_and_a_wrong_library_are_named_and_extras_are_not_asked_for():
    wanted = ["torch>=2.11", "Pandas>=3", "ruff>=1; extra == 'dev'", "peft>=0.1"]
    found = list(unmet(wanted, {"pandas": Version("2.9"), "peft": Version("0.21")}))
    assert [f.state for f in found] == [State.FAILED, State.FAILED]
    assert "torch is missing" in found[0].found
    assert "Pandas 2.9" in found[1].found


@pytest.mark.parametrize(
    ("library", "version", "bad"),
    [
        ("fastapi", "0.151.0", True),
        ("fastapi", "0.150.9", False),
        ("sqlalchemy", "2.1.0b1", False),
        ("sqlalchemy", "2.1.9", True),
        ("sqlalchemy", "2.0.58", False),
    ],
)
def test_libraries_that_break_this_prefect_are_known(library, version, bad):
    found = list(known_bad({library: Version(version), "prefect": Version("3.8.8")}))
    assert [f.state for f in found] == [State.FAILED] * bad
    assert list(known_bad({library: Version(version), "prefect": Version("3.9.1")})) == []


def test_versions_are_compared_with_those_that_were_tested(tmp_path):
    lock = tmp_path / "constraints.txt"
    lock.write_text("torch==2.13.0\nblake3==1.0.0\nabsent==1\n")
    same = {"torch": Version("2.13.0+cu130"), "blake3": Version("1.0.0")}
    assert against_lock(lock, same).state is State.OK
    other = against_lock(lock, same | {"blake3": Version("1.1")})
    assert other.state is State.WARNING
    assert "blake3 1.1 (tested: 1.0.0)" in other.found
    assert "absent" not in other.found


def test_a_wheel_without_the_tested_versions_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(doctor_versions, "__file__", str(tmp_path / "flows" / "doctor" / "x.py"))
    assert doctor_versions.lock_path() is None
    assert "no constraints.txt" in against_lock(None, installed_versions()).found


# -- the store


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.open(tmp_path / "store")


def test_no_store_yet_is_fine_and_none_is_made(tmp_path):
    found = states(list(check_store(tmp_path / "not" / "yet")))
    assert found["store"] is State.OK
    assert list(tmp_path.iterdir()) == []


def test_a_sound_store_is_all_ok(store):
    published(store)
    found = {f.topic: f for f in check_store(store.root)}
    assert {f.state for f in found.values()} == {State.OK}
    assert "format 1" in found["store"].found
    assert "1 of 1" in found["store sample"].found


@pytest.mark.parametrize("damage", ["bytes", "gone", "record"])
def test_damage_is_found_and_left_in_place(store, damage):
    record = published(store)
    path = store.file_path(record, "u.bin")
    if damage == "record":
        path = store.ledger.path(record.key)
    path.chmod(0o644)
    if damage == "gone":
        path.unlink()
    else:
        path.write_bytes(b"v" * 1000)
    found = {f.topic: f for f in check_store(store.root)}
    assert found["store sample"].state is State.FAILED
    assert "verify --repair" in found["store sample"].advice
    assert list((store.root / "quarantine").iterdir()) == []
    assert damage == "gone" or path.read_bytes() == b"v" * 1000


def test_a_large_result_is_looked_at_and_not_read(store, monkeypatch):
    record = published(store)
    monkeypatch.setattr(doctor_store, "SAMPLE_BYTES", 10)
    assert doctor_store.sample(store).state is State.OK
    store.file_path(record, "u.bin").unlink()
    assert doctor_store.sample(store).state is State.FAILED


def test_a_folder_that_is_no_store_fails_with_its_message(tmp_path):
    (tmp_path / "thesis.tex").write_text("x")
    (found,) = [f for f in doctor.examine(tmp_path) if f.topic == "store"]
    assert found.state is State.FAILED
    assert "no store at" in found.found


def test_what_lies_about_is_counted(store):
    (store.root / "quarantine" / "bad").write_bytes(b"x")
    for place in ("leases/a.lease", "tmp/draft", "trash/thing"):
        path = store.root / place
        path.write_bytes(b"x")
        os.utime(path, (0, 0))
    (store.root / "tmp" / "young").write_bytes(b"x")
    found = {f.topic: f for f in doctor_store.lying_about(store)}
    assert found["quarantine"].state is State.WARNING
    assert found["leases"].found.startswith("1 ")
    assert found["drafts"].found.startswith("2 ")


@pytest.mark.parametrize(
    ("free", "state"),
    [(10**11, State.OK), (5 * 10**9, State.WARNING), (10**8, State.FAILED)],
)
def test_little_room_is_told(monkeypatch, tmp_path, free, state):
    monkeypatch.setattr(doctor_store, "free_bytes", lambda _path: free)
    assert doctor_store.disk(tmp_path).state is state


# -- the command


@pytest.fixture
def ask(monkeypatch, tmp_path) -> Callable[..., tuple[int, str]]:
    for name in [n for n in os.environ if n.startswith("PREFECT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PREFECT_HOME", str(tmp_path / "prefect"))

    def run(*arguments: str, **settings: str) -> tuple[int, str]:
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        done = CliRunner().invoke(app, ["doctor", "--store", str(tmp_path / "s"), *arguments])
        return done.exit_code, done.output

    return run


def test_the_command_works_with_no_store_and_no_server(ask, tmp_path):
    code, text = ask()
    assert code == 0, text
    assert text.splitlines()[0].startswith("ok ")
    assert "0 failed" in text
    assert not (tmp_path / "s").exists()


def test_the_command_fails_when_something_does_and_says_so_in_json(ask):
    code, text = ask("--json", PREFECT_API_URL="http://127.0.0.1:1/api")
    said = json.loads(text)
    assert (code, said["ok"]) == (1, False)
    (failed,) = [c for c in said["checks"] if c["state"] == "failed"]
    assert failed["topic"] == "prefect"
    assert "does not answer" in failed["found"]
    assert failed["advice"]


@pytest.mark.parametrize("as_json", [[], ["--json"]])
def test_no_secret_is_printed(ask, as_json):
    _code, text = ask(
        *as_json,
        PREFECT_API_URL=f"http://user:{SECRET}@127.0.0.1:1/api?token={SECRET}",
        PREFECT_API_KEY=SECRET,
        PREFECT_API_AUTH_STRING=f"user:{SECRET}",
        PREFECT_SERVER_API_AUTH_STRING=f"user:{SECRET}",
        HF_TOKEN=SECRET,
    )
    assert "127.0.0.1:1" in text
    assert SECRET not in text
    assert base64.b64encode(f"user:{SECRET}".encode()).decode() not in text


def test_a_check_that_breaks_is_a_failure_of_its_own(monkeypatch, tmp_path):
    def broken() -> list[Finding]:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(doctor, "check_torch", broken)
    (found,) = [f for f in doctor.examine(tmp_path / "s") if f.topic == "torch"]
    assert found.state is State.FAILED
    assert "RuntimeError" in found.found
    assert SECRET not in found.found


def test_only_a_sample_of_many_results_is_read(store, monkeypatch):
    monkeypatch.setattr(doctor_store, "SAMPLE", 2)
    for rank in range(5):
        store.publish(payload(rank), {"a": b"%d" % rank})
    assert "2 of 5" in doctor_store.sample(store).found
