"""What 100 teachers × 1,000 students × 20 tasks would take, as docs/scale.md prints it.

    python -m benchmarks.scale > docs/scale.md
    python -m benchmarks.scale --gpu-price 2.5        # with a price of one's own
    python -m benchmarks.scale --measure              # the planner's seconds and bytes, here

A sample of the undertaking is planned by the project's own planner (about a minute of one core).
A test plans it again, and compares what this prints with the page.
"""

import resource
import time

from benchmarks.scale.assumptions import parsed
from benchmarks.scale.counts import Size, compared, counted, moved
from benchmarks.scale.page import page


def main() -> None:
    """Print the page, or what the planner takes here."""
    assumptions, measure = parsed()
    if measure:
        print(measured())
    else:
        print(page({"moved": moved(), "compared": compared()}, assumptions), end="")


def measured() -> str:
    """Plan two sizes of the comparison, and say what a thousand cells more take."""
    found = []
    for size in (Size(1, 2, 1, 1), Size(2, 8, 2, 4)):
        began = time.process_time()
        counted(size, "compared")
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        found.append((size.cells, time.process_time() - began, memory))
    (few, begin, low), (many, end, high) = found
    cells = (many - few) / 1000
    return (
        f"--planner-seconds {(end - begin) / cells:.3g} --planner-bytes {(high - low) / cells:.3g}"
    )


if __name__ == "__main__":
    main()
