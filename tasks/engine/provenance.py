"""What a record says of the code and the machine that made it. It is stored, but not in the key."""

import functools
import importlib.metadata
import platform
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from tasks.engine.code.reached import Sources, Used, present

LIBRARIES = (
    "accelerate",
    "datasets",
    "lm_eval",
    "matplotlib",
    "numpy",
    "pandas",
    "peft",
    "pyarrow",
    "safetensors",
    "scipy",
    "tokenizers",
    "torch",
    "transformers",
)
"""Whose versions can change the bytes of an output."""

ABSENT = "not installed"


@functools.cache
def library_version(name: str) -> str:
    """Return an installed library's version, without importing it."""
    try:
        return importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        return ABSENT


@functools.cache
def environment() -> dict[str, Any]:
    """Return versions and platform, as plain JSON values."""
    return {
        "paraknow": library_version("paraknow"),
        "libraries": {name: library_version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }


def code_of(
    compute: Callable[..., Any], sources: Sources | None = None, *, used: Used | None = None
) -> dict[str, Any]:
    """Return which code a computation reaches, as plain JSON values.

    Args:
        compute: a step's function.
        sources: where the code is read; None: what this process runs.
        used: the entries of registries that it looked up; None: all of them.

    Returns:
        The function, digests of the code behind it and behind each entry that it looked up, and
        for each module digests of its file (which tells fast that nothing
        changed) and of what of it is reached (which tells whether a change matters).
    """
    sources = sources or present()
    module, name = compute.__module__, compute.__qualname__
    found = sources.reached(module, name, used)
    return {
        "function": f"{module}:{name}",
        "digest": found.digest,
        "entries": found.entries,
        "modules": {
            each: {"file": sources.file_digest(each), "reached": digest}
            for each, digest in found.modules.items()
        },
    }


class Clock:
    """When a computation began, from when this is made, and when it ended."""

    def __init__(self) -> None:
        self._started = datetime.now(UTC)

    def read(self, seconds: float) -> dict[str, Any]:
        """Return begin, end and the seconds that it computed, as plain JSON values."""
        return {
            "started": self._started.isoformat(timespec="seconds"),
            "finished": datetime.now(UTC).isoformat(timespec="seconds"),
            "seconds": round(seconds, 3),
        }
