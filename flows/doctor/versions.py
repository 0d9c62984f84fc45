"""Python and the libraries: against the declared bounds, the tested versions, known breakage."""

import platform
import shutil
from collections.abc import Iterator, Mapping
from importlib import metadata
from pathlib import Path
from typing import Final, NamedTuple

from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from artifacts.disk.sizes import size_text
from flows.doctor.finding import Finding, State

PROJECT: Final = "paraknow"
REINSTALL: Final = "pip install -e . -c constraints.txt"
_SHOWN: Final = 8


class Breakage(NamedTuple):
    """Two libraries that do not work together, though neither says so."""

    library: str
    versions: SpecifierSet
    beside: str
    beside_versions: SpecifierSet
    what: str
    remedy: str


KNOWN_BAD: Final = (
    Breakage(
        "fastapi",
        SpecifierSet(">=0.151"),
        "prefect",
        SpecifierSet("==3.8.*"),
        "server and embedded runs do not start",
        'pip install "fastapi<0.151"',
    ),
    Breakage(
        "sqlalchemy",
        SpecifierSet(">=2.1"),
        "prefect",
        SpecifierSet("==3.8.*"),
        "the server starts, but schedules never fire",
        'pip install "sqlalchemy<2.1"',
    ),
)


def check_versions() -> Iterator[Finding]:
    """Check Python, what the project requires, and what it was tested with."""
    installed = installed_versions()
    try:
        said = metadata.metadata(PROJECT)
    except metadata.PackageNotFoundError:
        yield Finding("libraries", State.WARNING, f"{PROJECT} is not installed", REINSTALL)
    else:
        yield python_finding(said["Requires-Python"] or "", platform.python_version())
        yield from unmet(said.get_all("Requires-Dist", []), installed)
    yield from known_bad(installed)
    yield against_lock(lock_path(), installed)


def installed_versions() -> dict[str, Version]:
    """Return canonical name -> version of every installed library."""
    found: dict[str, Version] = {}
    for distribution in metadata.distributions():
        try:
            found[canonicalize_name(distribution.name)] = Version(distribution.version)
        except (InvalidVersion, TypeError):
            continue
    return found


def python_finding(required: str, present: str) -> Finding:
    """Compare a Python version with a specifier such as ``>=3.11``."""
    if SpecifierSet(required).contains(present, prereleases=True):
        return Finding("python", State.OK, f"{present} ({required or 'any'} is needed)")
    advice = f"make a new environment with Python {required}"
    return Finding("python", State.FAILED, f"{present}, and {required} is needed", advice)


def unmet(requirements: list[str], installed: Mapping[str, Version]) -> Iterator[Finding]:
    """Report each requirement that is not met, those of extras left out; one line if all are."""
    wanted = [r for r in map(Requirement, requirements) if r.marker is None or r.marker.evaluate()]
    failed = 0
    for requirement in wanted:
        present = installed.get(canonicalize_name(requirement.name))
        if present is None or not requirement.specifier.contains(present, prereleases=True):
            failed += 1
            said = f"{requirement.name} {present or 'is missing'}; needed: {requirement.specifier}"
            yield Finding("libraries", State.FAILED, said, REINSTALL)
    if not failed:
        yield Finding("libraries", State.OK, f"all {len(wanted)} that are required are there")


def known_bad(installed: Mapping[str, Version]) -> Iterator[Finding]:
    """Report each pair of libraries that is known to break each other."""
    for bad in KNOWN_BAD:
        one, two = installed.get(bad.library), installed.get(bad.beside)
        if one is None or two is None:
            continue
        if bad.versions.contains(one, prereleases=True) and two in bad.beside_versions:
            said = f"{bad.library} {one} with {bad.beside} {two}: {bad.what}"
            yield Finding("known breakage", State.FAILED, said, bad.remedy)


def lock_path() -> Path | None:
    """Return the file of tested versions next to this code; a wheel has none."""
    folder = Path(__file__).resolve().parents[2]
    path = folder / "constraints.txt"
    return path if path.is_file() and (folder / "pyproject.toml").is_file() else None


def against_lock(lock: Path | None, installed: Mapping[str, Version]) -> Finding:
    """Compare what is installed with the versions that were tested together."""
    if lock is None:
        said = "no constraints.txt next to the installed package: only bounds were compared"
        return Finding("tested versions", State.OK, said)
    pinned = {
        canonicalize_name(name): Version(version)
        for line in lock.read_text(encoding="utf-8").splitlines()
        for name, _, version in [line.partition("==")]
        if version
    }
    other = [
        f"{name} {installed[name]} (tested: {version})"
        for name, version in sorted(pinned.items())
        # A build tag such as +cu130 names the build of the same version.
        if name in installed and installed[name].public != version.public
    ]
    if not other:
        said = f"what is installed has the versions of {lock.name}"
        return Finding("tested versions", State.OK, said)
    more = f" and {len(other) - _SHOWN} more" if len(other) > _SHOWN else ""
    said = f"not tested together: {', '.join(other[:_SHOWN])}{more}"
    return Finding("tested versions", State.WARNING, said, REINSTALL)


def check_torch() -> Iterator[Finding]:
    """Say what torch computes on, after one product on it."""
    import torch

    if not torch.cuda.is_available():
        said = f"torch {torch.__version__} on the CPU, {torch.get_num_threads()} threads"
        if Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi"):
            built = torch.version.cuda or "no CUDA"
            said = f"{said}; there is an NVIDIA driver, and torch is built for {built}"
            advice = "install the torch build for this driver, or go on with the CPU"
            yield Finding("torch", State.WARNING, said, advice)
        else:
            yield Finding("torch", State.OK, said)
        return
    for number in range(torch.cuda.device_count()):
        facts = torch.cuda.get_device_properties(number)
        said = f"torch {torch.__version__} on cuda:{number}, {facts.name}"
        try:
            ones = torch.ones(64, 64, device=f"cuda:{number}")
            total = (ones @ ones).sum().item()
        except RuntimeError as error:
            wrong = f"{said}: {str(error).partition(chr(10))[0]}"
            advice = "install the torch build for this device and driver"
            yield Finding("torch", State.FAILED, wrong, advice)
        else:
            state = State.OK if total == 64.0**3 else State.FAILED
            yield Finding("torch", state, f"{said}, {size_text(facts.total_memory)}")
