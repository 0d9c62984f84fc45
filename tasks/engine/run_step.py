"""The one way a step runs: key, look up, compute, publish. The only caching code of the project."""

from collections.abc import Callable, Mapping
from typing import Any

from artifacts.disk.files import needing_room
from artifacts.keys import KeyPayload
from artifacts.live import keeping
from artifacts.publishing import is_newer
from artifacts.records import Record
from artifacts.store import Store
from artifacts.work import discard
from tasks.engine.code.drift import must_rebuild, tell_rebuilt
from tasks.engine.computation import Computation
from tasks.engine.progress import logger, tell_wait
from tasks.engine.provenance import Clock, environment
from tasks.engine.ref import Ref, folder_of, ref_of
from tasks.engine.run import RunConfig
from tasks.engine.step import C, Step, payload_of
from tasks.engine.workers import check_going_on


@keeping()
def run_step(
    step: Step[C], *, label: str, config: C, inputs: Mapping[str, Ref], run: RunConfig
) -> Ref:
    """Return the step's output from the store, or compute it and publish it there.

    Args:
        step: what to run.
        label: how this use of the step is shown, such as ``finetune plain``.
        config: the step's settings.
        inputs: role → output of an earlier step.
        run: store, device, threads.

    Raises:
        DriftError: in a strict run, if the stored output was made by other code or libraries.
        ParaknowError, StoreError: as the step and the store raise them.
    """
    store = run.open_store()
    source = step.source(config, inputs, run)
    payload = payload_of(step, config=config, inputs=inputs, source=source, run=run)
    key = payload.key()
    record = store.lookup(key)
    drifted = record is not None and must_rebuild(step.compute, record, run.drift, label=label)
    old = record if drifted else None
    cached = is_newer(record, old)
    if record is None or not cached:
        with store.lease(key, replaces=old, on_wait=_waiting(label)) as held:
            # Whoever held the lease before us may have published meanwhile.
            record = store.lookup(key)
            cached = is_newer(record, old)
            if record is None or not cached:
                computation = Computation(step, label, config, inputs, run, source)
                record = _compute(computation, store, payload, adopt=held, replaces=old)
    ref = ref_of(label, record, source, cached=cached)
    verb = "cached" if cached else f"computed in {ref.seconds:.1f} s"
    logger.info("%s: %s, key %s, artifact %s", label, verb, key[:12], ref.tree[:12])
    return ref


def _waiting(label: str) -> Callable[[float], None]:
    """Return what is done while another process computes this very step."""
    tell = tell_wait(label)

    def wait(seconds: float) -> None:
        check_going_on()
        tell(seconds)

    return wait


def _compute(
    computation: Computation[Any],
    store: Store,
    payload: KeyPayload,
    *,
    adopt: bool,
    replaces: Record | None,
) -> Record:
    store.check_writable()
    key = payload.key()
    logger.info("%s: computing, key %s", computation.label, key[:12])
    work = store.workdir(key, adopt=adopt)
    folders = {role: folder_of(store, ref) for role, ref in computation.inputs.items()}
    job = computation.job(folders, work)
    clock = Clock()
    with needing_room(work):
        found = computation.compute(job)
    provenance = environment() | clock.read(found.seconds) | computation.origin(found.used)
    record = store.publish(
        payload, job.out, facts=found.facts, provenance=provenance, replaces=replaces
    )
    discard(store.root / "work", work)
    if replaces is not None:
        tell_rebuilt(computation.label, replaces, record)
    return record
