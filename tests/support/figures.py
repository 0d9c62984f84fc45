"""``pytest tests/faults --figures``: what was injected, as the Markdown table of docs/faults.md.

A test says how much it injects by the mark ``figures(kills=1)``, or, where only it knows, by the
fixture: ``figures(faults=len(points))``. Only tests that pass count.
"""

from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest

_NAME = "figures"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--figures", action="store_true", help="print a table of what was injected")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "figures(kills, faults): how much one test injects")


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Callable[..., None]:
    def note(**counts: int) -> None:
        request.node.user_properties.append((_NAME, counts))

    return note


def pytest_runtest_setup(item: pytest.Item) -> None:
    marker = item.get_closest_marker(_NAME)
    if marker is not None and _NAME not in getattr(item, "fixturenames", ()):
        item.user_properties.append((_NAME, marker.kwargs))


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    if not config.getoption("--figures"):
        return
    rows: dict[str, Counter[str]] = {}
    seconds: Counter[str] = Counter()
    for report in _reports(terminalreporter):
        row = report.nodeid.partition("::")[0].rpartition("/")[2]
        counts = rows.setdefault(row, Counter())
        seconds[row] += report.duration
        counts["violations"] += report.failed
        counts["skipped"] += report.skipped
        if report.when == "call" and report.passed:
            counts["tests"] += 1
            for name, value in report.user_properties:
                counts.update(value if name == _NAME else {})
    terminalreporter.write_line("")
    for line in _table(rows, seconds):
        terminalreporter.write_line(line)


def _reports(terminalreporter: Any) -> Iterator[pytest.TestReport]:
    for reports in terminalreporter.stats.values():
        yield from (found for found in reports if isinstance(found, pytest.TestReport))


def _table(rows: dict[str, Counter[str]], seconds: Counter[str]) -> Iterator[str]:
    columns = ("tests", "kills", "faults", "violations", "skipped")
    yield f"| file | {' | '.join(columns)} | seconds |"
    yield "|---" * (len(columns) + 2) + "|"
    total: Counter[str] = Counter()
    for row, counts in sorted(rows.items()):
        total.update(counts)
        cells = " | ".join(str(counts[name]) for name in columns)
        yield f"| `{row}` | {cells} | {seconds[row]:.0f} |"
    cells = " | ".join(str(total[name]) for name in columns)
    yield f"| all | {cells} | {sum(seconds.values()):.0f} |"
