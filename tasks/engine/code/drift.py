"""Whether a stored result was made by other code or libraries than the present ones.

Code counts if the step's computation reaches it (``tasks.engine.code.reached``), a library if that
code imports it or something that is built on it. Nothing is parsed while the files are as they
were: the common case costs a digest of some small files, once a process.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from artifacts.records import Record
from paraknow_core.errors import ParaknowError
from tasks.engine.code.reached import present
from tasks.engine.code.revisions import made_by, revisions
from tasks.engine.progress import logger
from tasks.engine.provenance import code_of, library_version
from tasks.engine.run import DriftMode

BUILT_ON = {
    "accelerate": ("torch",),
    "datasets": ("pyarrow",),
    "lm_eval": ("transformers", "peft"),
    "matplotlib": ("numpy",),
    "pandas": ("numpy", "pyarrow"),
    "peft": ("transformers", "accelerate"),
    "scipy": ("numpy",),
    "transformers": ("torch", "tokenizers", "safetensors"),
}
"""Library → the recorded libraries that it is built on."""


class DriftError(ParaknowError):
    """A strict run met results that other code or libraries made."""


@dataclass(frozen=True)
class Drift:
    """What is different now.

    Attributes:
        modules: module → "changed", "new" (it is used now), or "not used now".
        libraries: library → its version then and now.
    """

    modules: Mapping[str, str]
    libraries: Mapping[str, tuple[str, str]]

    def text(self) -> str:
        """Name every difference on one line."""
        code = [f"{name} {how}" for name, how in self.modules.items()]
        versions = [f"{name} {old} → {new}" for name, (old, new) in self.libraries.items()]
        return ", ".join([*code, *versions])


def drift_of(compute: Callable[..., Any], record: Record) -> Drift | None:
    """Compare what made a record with the present; None if nothing that matters differs.

    A record that does not say which code it was made by is compared by its libraries only.

    Args:
        compute: the function of the record's step.
        record: a stored result.
    """
    modules = _changed_code(compute, record.provenance.get("code"))
    libraries = _changed_libraries(compute, record.provenance.get("libraries"))
    return Drift(modules, libraries) if modules or libraries else None


def must_rebuild(
    compute: Callable[..., Any], record: Record, mode: DriftMode, *, label: str
) -> bool:
    """Return whether a hit is to be computed again; warn of drift, or refuse it, as the run asks.

    Raises:
        DriftError: if it drifted and the run is strict.
    """
    drift = drift_of(compute, record)
    if drift is None:
        return False
    if mode == "strict":
        raise refusal({label: drift})
    if mode == "warn":
        warn(label, record.key, drift)
    return mode == "rebuild"


def warn(label: str, key: str, drift: Drift) -> None:
    """Say that a stored result is used although other code or libraries made it."""
    logger.warning(
        "%s: the stored result (key %s) was made before a change: %s. It is used all the same; "
        "--strict refuses such results, --rebuild computes them again.",
        label,
        key[:12],
        drift.text(),
    )


def tell_rebuilt(label: str, old: Record, new: Record) -> None:
    """Say whether a rebuilt result has the bytes that it had."""
    same = old.tree == new.tree
    outcome = (
        "the same bytes as before"
        if same
        else "other bytes, so the steps that depend on it run again"
    )
    logger.info("%s: rebuilt, %s", label, outcome)


def refusal(found: Mapping[str, Drift]) -> DriftError:
    """Return the error of a strict run, which names every drifted step and its differences."""
    steps = "; ".join(f"{label}: {drift.text()}" for label, drift in found.items())
    return DriftError(
        f"Stored results were made by other code or libraries ({steps}). Compute them again with "
        "--rebuild, use them as they are without --strict, or go back to those versions."
    )


def _changed_code(compute: Callable[..., Any], recorded: object) -> dict[str, str]:
    match recorded:
        case {"function": str(function), "modules": dict(then), **code}:
            made = made_by({str(name): value for name, value in code.items()} | {"modules": then})
        case _:
            return {}  # an older record
    sources = present()
    here = f"{compute.__module__}:{compute.__qualname__}"
    files = {module: digests.get("file") for module, digests in then.items()}
    if function == here and all(sources.file_digest(m) == d for m, d in files.items()):
        return {}
    now = code_of(compute, sources, used=made.used)
    if revisions().are_equal(here, made, now):
        return {}
    return _changed_modules(then, now["modules"]) or {compute.__module__: "changed"}


def _changed_modules(
    then: Mapping[str, Mapping[str, str]], now: Mapping[str, Mapping[str, str]]
) -> dict[str, str]:
    """Name the modules whose code differs; one that only has another name now does not."""
    before, after = _reached(then), _reached(now)
    moved = set(before.values()) & set(after.values())
    return {
        module: _how(module in then, module in now)
        for module in sorted(then.keys() | now.keys())
        if before.get(module) != after.get(module)
        and not {before.get(module), after.get(module)} - {None} <= moved
    }


def _reached(modules: Mapping[str, Mapping[str, str]]) -> dict[str, str | None]:
    return {name: digests.get("reached") for name, digests in modules.items()}


def _how(before: bool, now: bool) -> str:
    if before and now:
        return "changed"
    return "new" if now else "not used now"


def _changed_libraries(compute: Callable[..., Any], recorded: object) -> dict[str, tuple[str, str]]:
    then = recorded if isinstance(recorded, dict) else {}
    changed = {
        str(name): (str(version), now)
        for name, version in sorted(then.items())
        if (now := library_version(name)) != version
    }
    if not changed:
        return {}
    used = with_bases(present().reached(compute.__module__, compute.__qualname__).libraries)
    return {name: versions for name, versions in changed.items() if name in used}


def with_bases(libraries: Iterable[str]) -> set[str]:
    """Return these libraries and those that they are built on."""
    found: set[str] = set()
    waiting = list(libraries)
    while waiting:
        name = waiting.pop()
        if name not in found:
            found.add(name)
            waiting += BUILT_ON.get(name, ())
    return found
