"""What is shipped to run on machines: files that this suite cannot run are held to rules."""

import importlib
import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from flows.cli.main import app

ROOT = Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "docker" / "compose.yaml").read_text())
UNITS = sorted((ROOT / "systemd").glob("*.service"))
TEMPLATE = json.loads((ROOT / "kubernetes" / "base-job-template.json").read_text())


def unit_commands() -> Iterator[list[str]]:
    for unit in UNITS:
        (line,) = re.findall(r"^ExecStart=/srv/paraknow/\.venv/bin/(.+)$", unit.read_text(), re.M)
        yield shlex.split(line)


def shipped_commands() -> list[list[str]]:
    """Every command of ours or of Prefect's that the kit starts."""
    services = COMPOSE["services"].values()
    worker = list(yaml.safe_load_all((ROOT / "kubernetes" / "worker.yaml").read_text()))[-1]
    containers = worker["spec"]["template"]["spec"]["containers"]
    given = [
        *(s["command"] for s in services if "paraknow" in s["image"]),
        *(container["args"] for container in containers),
        *unit_commands(),
    ]
    return [[str(word) for word in command] for command in given]


def check_ours(words: Sequence[str]) -> None:
    """Parse a command of paraknow, without running it."""
    root = get_command(app)
    command = root.get_command(None, words[0])  # type: ignore[attr-defined]
    assert command is not None, words
    command.make_context(words[0], list(words[1:]), resilient_parsing=False)


def check_prefect(words: Sequence[str]) -> None:
    """Parse a command of Prefect's, without running it."""
    group, *rest = words
    module = importlib.import_module(f"prefect.cli.{group}")
    getattr(module, f"{group}_app").parse_args(rest, exit_on_error=False, print_error=False)


def test_every_command_that_the_kit_starts_is_one() -> None:
    commands = shipped_commands()
    assert len(commands) == 8
    for program, *words in commands:
        {"paraknow": check_ours, "prefect": check_prefect}[program](words)


@pytest.mark.parametrize(
    ("check", "words"),
    [
        (check_ours, ["uup"]),
        (check_ours, ["up", "--prot", "1"]),
        (check_prefect, ["worker", "begin"]),
        (check_prefect, ["worker", "start", "--pool", "paraknow", "--limits", "1"]),
    ],
)
def test_a_command_that_is_none_is_seen(
    check: Callable[[Sequence[str]], None], words: list[str]
) -> None:
    with pytest.raises(Exception, match=r"uup|prot|begin|limits"):
        check(words)


def test_the_composed_site_is_whole_and_closed() -> None:
    services = COMPOSE["services"]
    assert {"database", "server", "set-up", "worker-0", "worker-1", "bucket"} <= services.keys()
    for name, service in services.items():
        for needed in service.get("depends_on", {}):
            assert needed in services, name
        for volume in service.get("volumes", []):
            assert volume.split(":")[0] in COMPOSE["volumes"], name
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), name
        if service["image"] == "paraknow":
            assert service["cap_drop"] == ["ALL"], name
    server = services["server"]["environment"]
    assert server["PREFECT_SERVER_API_AUTH_STRING"].startswith("${PREFECT_AUTH:?")
    assert server["PREFECT_SERVER_DATABASE_CONNECTION_URL"].startswith("postgresql+asyncpg://")
    stores = [services[worker]["volumes"] for worker in ("worker-0", "worker-1")]
    assert stores[0] != stores[1]
    assert services["worker-0"]["environment"] == services["worker-1"]["environment"]
    build = services["server"]["build"]
    assert (ROOT / "docker" / build["context"] / build["dockerfile"]).is_file()
    gpus = yaml.safe_load((ROOT / "docker" / "compose.gpu.yaml").read_text())["services"]
    assert gpus.keys() == {"worker-0", "worker-1"}


def test_no_secret_stands_in_the_kit_and_each_is_asked_for() -> None:
    text = (ROOT / "docker" / "compose.yaml").read_text()
    asked = set(re.findall(r"\$\{(\w+):\?", text))
    told = re.findall(r"^(\w+)=(.*)$", (ROOT / "docker" / "example.env").read_text(), re.M)
    assert dict.fromkeys(asked, "") == dict(told)
    ignored = (ROOT / ".gitignore").read_text().split()
    assert "docker/.env" in ignored


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's instructions, continued lines in one."""
    text = re.sub(r"\\\n", " ", (ROOT / "docker" / "Dockerfile").read_text())
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines)]


def test_the_image_is_locked_and_its_user_is_nobody_special() -> None:
    told = instructions()
    words = [word for word, _ in told]
    known = ["ARG", "FROM", "WORKDIR", "RUN", "ENV", "COPY", "USER", "VOLUME", "CMD"]
    assert set(words) <= set(known)  # no ADD, which fetches URLs and unpacks what it likes
    users = [rest for word, rest in told if word == "USER"]
    assert users[-1] not in ("", "root", "0")
    last_from = len(words) - 1 - words[::-1].index("FROM")
    assert words.index("USER") > last_from
    installs = [rest for word, rest in told if word == "RUN" and "pip install" in rest]
    assert installs
    for line in installs:
        assert line.count("pip install") == line.count("--constraint constraints.txt")
    assert not any("http" in rest for _, rest in told)
    assert not any("latest" in rest for word, rest in told if word in ("ARG", "FROM"))


def test_what_is_copied_is_there_and_is_sent_to_the_builder() -> None:
    ignore = (ROOT / "docker" / "Dockerfile.dockerignore").read_text().split()
    sent = {line[1:] for line in ignore if line.startswith("!")}
    copied = [rest.split() for word, rest in instructions() if word == "COPY"]
    sources = {s for words in copied if not words[0].startswith("--from") for s in words[:-1]}
    assert sources == sent
    assert all((ROOT / source).exists() for source in sources)
    assert {"artifacts", "flows", "paraknow_core", "tasks"} <= sources


def test_a_template_for_kubernetes_is_one_and_has_what_prefects_own_has() -> None:
    import prefect
    from prefect.server.schemas.actions import WorkPoolCreate

    WorkPoolCreate(name="paraknow", type="kubernetes", base_job_template=TEMPLATE)
    views = Path(prefect.__file__).parent / "server" / "api" / "collections_data" / "views"
    shipped = json.loads((views / "aggregate-worker-metadata.json").read_text())
    own = shipped["prefect-kubernetes"]["kubernetes"]["default_base_job_configuration"]
    assert TEMPLATE["job_configuration"].keys() == own["job_configuration"].keys()
    ours, theirs = (t["variables"]["properties"] for t in (TEMPLATE, own))
    assert ours.keys() - theirs.keys() == {"gpus", "secret", "store_size"}
    assert not theirs.keys() - ours.keys()
    for name, field in theirs.items():
        assert ours[name].get("type") == field.get("type"), name
    spec = TEMPLATE["job_configuration"]["job_manifest"]["spec"]
    pod = spec["template"]["spec"]
    assert (spec["backoffLimit"], pod["restartPolicy"]) == (0, "Never")
    assert pod["securityContext"]["runAsNonRoot"] is True
    used = set(re.findall(r"\{\{ (\w+) \}\}", json.dumps(TEMPLATE["job_configuration"])))
    assert used == ours.keys()
    deployed = yaml.safe_load((ROOT / "deployments.yaml").read_text())["deployments"]
    for one in deployed:
        assert one["work_pool"].get("job_variables", {}).keys() <= ours.keys()


def test_the_workers_image_is_of_the_version_that_is_locked() -> None:
    (version,) = re.findall(r"^prefect==(\S+)", (ROOT / "constraints.txt").read_text(), re.M)
    assert f"prefect:{version}-python" in (ROOT / "kubernetes" / "worker.yaml").read_text()


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not here")
def test_systemd_takes_the_units(tmp_path: Path) -> None:
    copies = []
    for unit in UNITS:
        # Our programs are not at their place here, which systemd looks at as well.
        text = re.sub(r"^(ExecStart=)\S+", r"\1/bin/true", unit.read_text(), flags=re.M)
        copies.append(tmp_path / unit.name)
        copies[-1].write_text(text)
    done = subprocess.run(
        ["systemd-analyze", "verify", "--man=no", *map(str, copies)],
        capture_output=True,
        text=True,
        check=False,
    )
    said = [
        line for line in done.stderr.splitlines() if str(tmp_path) in line or "paraknow" in line
    ]
    assert (done.returncode, said) == (0, [])


def test_units_run_as_a_user_and_hold_no_secret() -> None:
    assert len(UNITS) == 3
    for unit in UNITS:
        told: dict[str, Any] = dict(re.findall(r"^(\w+)=(.*)$", unit.read_text(), re.M))
        assert told["User"] == "paraknow"
        assert told["NoNewPrivileges"] == "yes"
        assert "AUTH_STRING=" not in unit.read_text()
