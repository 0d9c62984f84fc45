"""``python -m benchmarks.gpu`` on its smallest case, without what it says that it does not need."""

import os
import subprocess
import sys
from pathlib import Path

from support.patience import PATIENCE

ALONE = """
import sys
sys.modules |= dict.fromkeys(("prefect", "datasets", "pyarrow", "lm_eval", "pandas"))
from benchmarks.gpu.__main__ import main
main(["--smallest", "--out", sys.argv[1], "--scratch", sys.argv[1]])
"""


def test_its_smallest_case_runs_alone_and_writes_its_report(tmp_path):
    """Everything that a GPU is asked for, on whatever is there; every step has a row of its own."""
    result = subprocess.run(
        [sys.executable, "-c", ALONE, tmp_path],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE,
    )
    assert result.returncode == 0, result.stderr[-2000:]
    (report,) = tmp_path.iterdir()  # the weights are gone
    text = report.read_text(encoding="utf-8")
    rows = [line.split(" | ") for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row[0] for row in rows] == ["| 1B"] * 10 + ["| 13B"] * 10 + ["| 7B"] * 10
    assert all(float(row[2]) > 0 for row in rows)
    assert text.count("the same bits") == 2
    assert "From weights on disk to the start point" in text or "the goal of under" in text
