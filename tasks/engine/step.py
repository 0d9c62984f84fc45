"""What a step is: its identity, what it reads, and how it computes."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Generic, TypeVar

from artifacts.keys import KeyPayload
from artifacts.names import Digest
from paraknow_core.errors import ParaknowError
from paraknow_core.partial_results import PartialResults
from paraknow_core.settings import Settings, identity_of
from tasks.engine.estimates import Estimate, Foreseen
from tasks.engine.progress import StepProgress
from tasks.engine.ref import Ref
from tasks.engine.run import RunConfig
from tasks.engine.source_files import Source, SourceFiles
from tasks.engine.stage import Stage

C = TypeVar("C", bound=Settings)
Facts = dict[str, Any]


class NotDownloadedError(ParaknowError):
    """Something of the Hub is not here, and this run may not download it."""


@dataclass(frozen=True)
class Job(Generic[C]):
    """All that a step's computation may use."""

    config: C
    inputs: Mapping[str, Path]
    """Role → folder of the input's files (read-only)."""
    sources: Mapping[str, SourceFiles]
    """Role → files outside the store; no others may be read, as only these are watched."""
    out: Path
    """Empty folder for the output; it becomes the artifact."""
    partial: PartialResults
    """What is done so far; it survives a kill, and the next run goes on from what fits of it."""
    run: RunConfig
    progress: StepProgress
    digests: Mapping[str, Digest] = field(default_factory=dict)
    """Role → digest of what the step's own source resolved to."""

    @property
    def locations(self) -> Mapping[str, Path]:
        """Role → where the model described by that input, or the step's own data file, lies."""
        return {role: files.place for role, files in self.sources.items()}


def _no_source(_config: Any, _inputs: Mapping[str, Ref], _run: RunConfig) -> Source:
    return Source()


def _no_numerics(_config: Any, _run: RunConfig) -> Mapping[str, str | bool]:
    return {}


@dataclass(frozen=True, eq=False)
class Step(Generic[C]):
    """One step: its identity, what it reads, and how it computes."""

    name: str
    version: int
    """Raised by hand when the meaning of the output changes."""
    stage: Stage
    """Of the run: ``--until`` that stage or a later one runs it."""
    compute: Callable[[Job[C]], Facts]
    reads: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Role → the files of that input which matter; an empty tuple is all of them."""
    opens: tuple[str, ...] = ()
    """Roles of models whose own files it reads: it learns where these lie, and they are watched."""
    source: Callable[[C, Mapping[str, Ref], RunConfig], Source] = _no_source
    numerics: Callable[[C, RunConfig], Mapping[str, str | bool]] = _no_numerics
    estimate: Callable[[C, Foreseen], Estimate] | None = None
    sized_by: tuple[str, ...] = ()
    """Inputs that ``estimate`` cannot do without; it uses others where they are known."""
    threaded: bool = False
    """Computes with torch, in as many threads as the run allows."""
    own_process: bool = False
    """Goes on beside other steps, so it computes in a process of its own."""
    foresee: Callable[[C, Path], bool] | None = None
    """Writes into a folder what the settings alone say of the output, for a plan's checks and
    estimates; tells whether they say anything."""
    preview: bool = False
    """Cheap enough for a plan to compute it aside, so that the plan can see further."""
    retries: int = 0
    on_result: Callable[[Ref, Path], None] | None = None
    """Called in the task after a hit as after a computation: what the UI should show."""


def payload_of(
    step: Step[C], *, config: C, inputs: Mapping[str, Ref], source: Source, run: RunConfig
) -> KeyPayload:
    """Return what identifies the output: step, version, config, input contents, numerics."""
    digests = dict(source.digests)
    for role, ref in inputs.items():
        names = step.reads.get(role, ())
        digests |= {f"{role}.{name}": Digest(ref.files[name]) for name in names}
        if not names:
            digests[role] = Digest(ref.tree)
    identity = identity_of(config)
    return KeyPayload(
        step=step.name,
        version=step.version,
        seed=identity.pop("seed", None),
        config=identity,
        inputs=digests,
        numerics=dict(step.numerics(config, run)),
    )
