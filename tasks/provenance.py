"""What a record says of the code and the machine that made it. Kept beside the key, never in it."""

import functools
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

import artifacts
import paraknow_core
import tasks
from artifacts.digests import digest_bytes

LIBRARIES = (
    "torch",
    "transformers",
    "peft",
    "accelerate",
    "safetensors",
    "lm_eval",
    "scipy",
    "numpy",
)


@functools.cache
def code_digest() -> str:
    """Return one digest over every source file of the core, the steps and the store."""
    listing = []
    for package in (paraknow_core, tasks, artifacts):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            listing.append(
                f"{root.name}/{path.relative_to(root)} {digest_bytes(path.read_bytes())}"
            )
    return digest_bytes("\n".join(listing).encode())


@functools.cache
def environment() -> dict[str, Any]:
    """Return versions, code digest and platform, as plain JSON values."""
    return {
        "paraknow": importlib.metadata.version("paraknow"),
        "code": code_digest(),
        "libraries": {name: importlib.metadata.version(name) for name in LIBRARIES},
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}",
    }
