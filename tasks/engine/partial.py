"""Partial results of a step, which only the code and libraries that began them may finish.

What differs is found as for stored results (``drift``). But a stored result is complete, and may be
used with a warning; sums that one version of the code began and another one finished are not the
result of either.
"""

from collections.abc import Callable, Mapping
from dataclasses import astuple
from pathlib import Path
from typing import Any

from artifacts.disk.files import writing
from artifacts.keys import KeyPayload
from artifacts.names import Digest
from artifacts.records import Record
from artifacts.work import aside_of
from paraknow_core.partial_results import PartialResults
from tasks.engine.code.drift import drift_of
from tasks.engine.progress import logger
from tasks.engine.provenance import code_of, environment
from tasks.engine.source_files import SourceFiles


def open_partial(
    compute: Callable[..., Any],
    payload: KeyPayload,
    work: Path,
    *,
    sources: Mapping[str, SourceFiles],
    label: str,
) -> PartialResults:
    """Take over the partial results in a step's work folder; those that do not fit are moved aside.

    Args:
        compute: the step's function.
        payload: what the step's key is made of.
        work: the step's work folder.
        sources: role → the files outside the store that the step reads. A run that was killed
            could not look at them once more: only where their stamps are still those that it began
            with, it read nothing else.
        label: how this use of the step is shown.

    Returns:
        What the step saves to and resumes from.

    Raises:
        StoreIOError: if something cannot be moved aside, or the folder cannot be made.
    """

    def differs(made_by: Mapping[str, Any]) -> str:
        if made_by.get("key") != payload.key():
            return "it belongs to another step, setting or input"
        if made_by.get("sources") != seen:
            return "the files that it read may have changed meanwhile"
        drift = drift_of(compute, _as_record(payload, made_by))
        return drift.text() if drift is not None else ""

    def tell(words: str) -> None:
        logger.warning("%s: %s", label, words)

    seen = {
        role: {name: [list(astuple(one)) for one in found] for name, found in each.stamps().items()}
        for role, each in sources.items()
    }
    libraries = environment()["libraries"]
    now = {
        "key": payload.key(),
        "code": code_of(compute),
        "libraries": libraries,
        "sources": seen,
    }
    with writing(work):
        return PartialResults(
            work / "resume", made_by=now, differs=differs, aside=aside_of(work), tell=tell
        )


def _as_record(payload: KeyPayload, made_by: Mapping[str, Any]) -> Record:
    """Return what drift compares: the record of a result that has no files yet."""
    return Record(
        key=payload.key(),
        payload=payload,
        tree=Digest("0" * 64),
        files={},
        provenance=dict(made_by),
    )
