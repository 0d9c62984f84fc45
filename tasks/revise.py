"""``python -m tasks.revise``: which steps a change of code concerns, and whether numbers hold.

It names each step, and each entry of a registry, whose code is not the one that
``engine/code/revisions.json`` knows. With ``--same-numbers`` it writes down that they compute what
they did, so that the results which people have stay hits without a warning. Where the numbers do
change, raise the step's version instead, say so in the CHANGELOG, and run it too.
"""

import sys

from tasks.engine.code.reached import present
from tasks.engine.code.revisions import FILE, UNKNOWN, Revision, Revisions, revisions, write
from tasks.engine.provenance import code_of
from tasks.steps import STEPS


def renewed(known: Revisions) -> Revisions:
    """Return revisions whose ``now`` is the present code; what was there before is equal to it."""
    steps, entries = dict[str, Revision](), dict[str, dict[str, Revision]]()
    for step in STEPS.values():
        code = code_of(step.compute, present())
        name = code["function"]
        steps[name] = _next(known.steps.get(name), code["digest"], step.version)
        for kind, found in code["entries"].items():
            before = known.entries.get(kind, {})
            renewed_entries = {n: _next(before.get(n), digest, 1) for n, digest in found.items()}
            entries.setdefault(kind, {}).update(renewed_entries)
    return Revisions(steps, entries)


def _next(before: Revision | None, now: str, version: int) -> Revision:
    if before is None or before.version != version:
        return Revision(now, [], version)
    also = [*before.also, *([before.now] if before.now != now else [])]
    return Revision(now, [each for each in also if each != now], version)


def changes(known: Revisions) -> list[str]:
    """Name every step and entry whose present code is not the one that is written down."""
    present_code = renewed(known)
    found = [n for n, r in present_code.steps.items() if known.steps.get(n, UNKNOWN).now != r.now]
    for kind, entries in present_code.entries.items():
        before = known.entries.get(kind, {})
        found += [f"{kind} {n}" for n, r in entries.items() if before.get(n, UNKNOWN).now != r.now]
    return found


def main(arguments: list[str]) -> int:
    """Print what changed; with ``--same-numbers`` record that the numbers are the same."""
    known = revisions()
    changed = changes(known)
    for name in changed:
        sys.stdout.write(f"{name}\n")
    if arguments == ["--same-numbers"]:
        FILE.write_text(write(renewed(known)))
        return 0
    if changed:
        sys.stdout.write(
            "The code of these changed. If their numbers are as before: python -m "
            "tasks.revise --same-numbers; if not, raise the step's version, and say so "
            "in the CHANGELOG.\n"
        )
    return bool(changed)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
