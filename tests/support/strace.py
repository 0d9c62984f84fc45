"""Run the small publisher under strace, and lose power on a disk of its own."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import blake3
import pytest
from support import mutants, publisher
from support.patience import PATIENCE

import artifacts
from artifacts.store import Store

PATHS = [
    Path(artifacts.__file__).parents[1],
    Path(blake3.__file__).parents[1],
    Path(publisher.__file__).parents[1],
]
ENVIRONMENT = {
    "PYTHONPATH": os.pathsep.join(map(str, PATHS)),
    "PYTHONHASHSEED": "0",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PATH": os.environ["PATH"],
    "HOME": "/nonexistent",
}


def require_strace() -> None:
    """Skip where no system call can be traced, and say that nothing was tested."""
    if shutil.which("strace") is None:
        pytest.skip("strace is not installed; system call faults were NOT tested")
    done = subprocess.run(["strace", "true"], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"strace may not trace here ({done.stderr.strip()[-200:]}); NOT tested")


def run_traced(
    folder: Path, script: list[str], *trace: str, log: str = "trace"
) -> subprocess.CompletedProcess[str]:
    """Run a Python script under strace in ``folder``; the log lies there."""
    command = ["strace", "-f", "-y", "-o", log, *trace, sys.executable, "-S", *script]
    return subprocess.run(
        command,
        cwd=folder,
        env=ENVIRONMENT,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
        check=False,
    )


def lay_out(folder: Path) -> None:
    """Make the stores and the outside file that a publisher in ``folder`` works on."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "outside").write_bytes(publisher.CONTENT["sub/copied.bin"])
    for name in ("store", "warm"):
        Store.open(folder / name)


def mutant(name: str) -> list[str]:
    """The command of a publisher with one thing wrong, or ``none``."""
    return [mutants.__file__, name, "store", "outside", "warm"]
