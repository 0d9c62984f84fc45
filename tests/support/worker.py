"""One step that takes time, under a lease of three seconds, in a process that a test may disturb.

Run as ``python worker.py STORE NAME``. It says on its output what it does: ``waiting``,
``computing``, and at the end ``TREE computed`` or ``TREE found``. It computes until its input is
closed or says something.
"""

import sys
from pathlib import Path

from support import publisher
from support.patience import PATIENCE

from artifacts import work
from artifacts.store import Store

DURATION = 3.0
NEVER = 10 * PATIENCE  # gives up by itself: a test has failed long before
work.held_lease.__wrapped__.__kwdefaults__["duration"] = DURATION


def say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def main() -> None:
    """Compute the step once, or find that another process did."""
    store, name = Store.open(Path(sys.argv[1])), sys.argv[2]
    key = publisher.PAYLOAD.key()
    told: list[float] = []

    def on_wait(seconds: float) -> None:
        if not told:
            say("waiting")
        told.append(seconds)

    done = "found"
    with store.lease(key, wait=NEVER, on_wait=on_wait) as held:
        record = store.lookup(key)
        if record is None:
            done = "computed"
            folder = store.workdir(key, adopt=held)
            (folder / "result").write_text(name)
            say("computing")
            sys.stdin.readline()
            record = store.publish(publisher.PAYLOAD, {"result": folder / "result"})
    say(f"{record.tree} {done}")


if __name__ == "__main__":
    main()
