"""What a run costs of which everything is stored: imports, and what the flow adds.

    python -m benchmarks.warm_run configs/demo_compare.yaml    # after the same was run once

The whole command ``paraknow compare``, in this process. CPU seconds, which other programs do not
lengthen: those inside of import statements, and the rest, which is what the goal is about. Imports
are told apart by a wrapper round ``__import__`` that counts the outermost one.
"""

import builtins
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

GOAL = 3.0


class ImportClock:
    """Counts the CPU seconds of import statements, each with all that it imports in turn."""

    def __init__(self) -> None:
        self.seconds, self._depth, self._import = 0.0, 0, builtins.__import__

    def __call__(
        self,
        name: str,
        globals_: Mapping[str, Any] | None = None,
        locals_: Mapping[str, Any] | None = None,
        fromlist: Sequence[str] | None = (),
        level: int = 0,
    ) -> Any:
        """Import as Python does."""
        began = time.thread_time()
        self._depth += 1
        try:
            return self._import(name, globals_, locals_, fromlist or (), level)
        finally:
            self._depth -= 1
            if not self._depth:
                self.seconds += time.thread_time() - began


def main() -> int:
    """Print the seconds; 1 if the goal is missed."""
    clock = ImportClock()
    builtins.__import__ = clock  # type: ignore[assignment]
    sys.argv = ["paraknow", "compare", *sys.argv[1:]]
    from flows.cli.main import run_command

    code: object = 0
    try:
        run_command()
    except SystemExit as end:
        code = end.code
    rest = time.process_time() - clock.seconds
    print(f"imports {clock.seconds:.1f} s of the CPU, everything else {rest:.1f} s", end=" ")
    print(f"(goal: {GOAL:g} s)")
    return 1 if code or rest > GOAL else 0


if __name__ == "__main__":
    sys.exit(main())
