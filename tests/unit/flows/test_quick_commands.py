"""What commands import: those that a person waits for must not load what they do not use."""

import subprocess
import sys
from pathlib import Path

import pytest
from support.results import published

from artifacts.store import Store

ROOT = Path(__file__).parents[3]
LOOK = """
import sys
from flows.cli.main import run_command
sys.argv = ["paraknow", *sys.argv[1:]]
try:
    run_command()
except SystemExit as end:
    code = end.code or 0
print("LOADED", *sorted({name.partition(".")[0] for name in sys.modules}), file=sys.stderr)
sys.exit(code)
"""
HEAVY = {"torch", "transformers", "peft", "datasets", "prefect", "numpy", "scipy", "httpx"}
SETTINGS = {"pydantic", "pydantic_core", "yaml"}
"""Quicker, but still half of what ``--help`` would take."""


def loaded(home: Path, *arguments: str) -> set[str]:
    """Run a command in a process of its own; returns the packages that it loaded."""
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *arguments],
        cwd=ROOT,
        env={"PYTHONPATH": str(ROOT), "PATH": "/usr/bin:/bin", "HOME": str(home)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return set(done.stderr.rpartition("LOADED")[2].split())


def test_help_loads_neither_models_nor_settings(tmp_path: Path) -> None:
    found = loaded(tmp_path, "--help")
    assert "typer" in found  # so something was seen
    assert not found & (HEAVY | SETTINGS)


@pytest.mark.parametrize("command", ["transfer", "compare", "store", "tasks", "submit"])
def test_a_commands_help_loads_no_models(command: str, tmp_path: Path) -> None:
    # Typer itself reads a command's options by pydantic.
    assert not loaded(tmp_path, command, "--help") & (HEAVY | {"yaml"})


def test_a_listing_loads_no_models(tmp_path: Path) -> None:
    store = tmp_path / "store"
    published(Store.open(store))
    assert not loaded(tmp_path, "store", "ls", "--store", str(store)) & (HEAVY | {"yaml"})


def test_a_plan_at_given_rates_loads_neither_torch_nor_prefect(tmp_path: Path) -> None:
    rates = {"flops": "1e12", "bandwidth": "1e10"}
    settings = {"run.store": str(tmp_path / "store"), "run.device": "cpu"}
    settings |= {f"budget.{name}": value for name, value in rates.items()}
    given = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    found = loaded(tmp_path, "compare", "configs/demo_compare.yaml", "--plan", *given)
    assert "pydantic" in found
    assert not found & {"torch", "transformers", "peft", "datasets", "prefect"}
