"""How the cost of the core steps grows, as docs/cost.md prints it.

    python -m benchmarks.cost --measure       # new points, by ten minutes of one idle core; Linux
    python -m benchmarks.cost --draw          # docs/images/cost.png, from the points
    python -m benchmarks.cost > docs/cost.md

The points are ``docs/cost/points.csv``, the words ``docs/cost/page.md.jinja``. A test compares what
this prints with the page. Measured are the steps' own functions, as `paraknow calibrate` does.
"""

import argparse
import os
import sys

# Set before any library loads: in the process that measures.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def main() -> None:
    """Print the page, or make what it is printed from."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--measure", action="store_true", help="measure the points anew")
    parser.add_argument("--passes", type=int, default=3, help="over all shapes")
    parser.add_argument("--draw", action="store_true", help="draw the points next to their laws")
    options = parser.parse_args()
    from benchmarks.cost import figure, page, points
    from tasks.engine.freed_memory import gives_back

    if options.measure:
        start = ONE_THREAD | gives_back(os.environ)
        if not start.items() <= os.environ.items():  # as worker processes are started
            again = [sys.executable, "-m", "benchmarks.cost", *sys.argv[1:]]
            os.execve(sys.executable, again, os.environ | start)
        points.measure(options.passes)
    if options.draw:
        figure.draw(points.read())
    if not (options.measure or options.draw):
        print(page.page(points.read()), end="")


if __name__ == "__main__":
    main()
