"""Which edits change what a step reaches, and which do not."""

import gc
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import paraknow_core
import tasks
from tasks.engine.code.reached import Sources, present
from tasks.steps import STEPS

SMALL = {
    "core/used.py": '''
"""Docstring."""
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

LIMIT = 3
OTHER = 4


def helper(x: "torch.Tensor") -> int:
    """Help."""
    return LIMIT + np.int64(x)


def unused():
    return OTHER


TABLE = {"helper": helper}
''',
    "core/lazy.py": """
import scipy


def late():
    return 1


def never():
    return scipy
""",
    "core/step.py": """
from core.used import TABLE


class Base:
    def base(self):
        return 1


class Worker(Base):
    def work(self):
        from core.lazy import late

        return late()


def compute(job):
    return TABLE["helper"](job), Worker().work()
""",
}


@pytest.fixture
def small(tmp_path: Path) -> Path:
    for name, text in SMALL.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return tmp_path


def edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert text.count(old) == 1, (path, old)
    path.write_text(text.replace(old, new))


def reached(folder: Path):
    return Sources({"core": folder / "core"}).reached("core.step", "compute")


def test_libraries_are_those_that_reached_code_imports(small: Path) -> None:
    found = reached(small)
    assert set(found.modules) == {"core.used", "core.lazy", "core.step"}
    assert "numpy" in found.libraries
    assert not {"scipy", "torch"} & found.libraries  # unused, and only for a type


@pytest.mark.parametrize(
    ("file", "old", "new", "changed"),
    [
        ("used", "LIMIT = 3", "LIMIT = 5", {"core.used"}),
        ("used", "return LIMIT +", "return LIMIT -", {"core.used"}),
        ("used", "np.int64", "np.int32", {"core.used"}),
        ("used", "OTHER = 4", "OTHER = 5", set()),
        ("used", '"""Help."""', '"""Help others."""', set()),
        ("used", "def helper", "# why\n\ndef helper", set()),
        ("used", '"torch.Tensor") -> int', '"torch.Tensor", /) -> float', {"core.used"}),
        ("used", '"torch.Tensor") -> int', "object) -> float", set()),
        ("used", "import numpy as np", "import scipy as np", {"core.used"}),
        ("used", "TABLE = {", "TABLE = {'more': unused, ", {"core.used"}),
        ("lazy", "return 1", "return 2", {"core.lazy"}),
        ("lazy", "return scipy", "return scipy.linalg", set()),
        ("lazy", "import scipy", "import scipy\nprint(scipy)", {"core.lazy"}),
        ("step", "return 1", "return 2", {"core.step"}),
    ],
)
def test_an_edit_changes_the_digest_of_what_it_bears_on(
    small: Path, file: str, old: str, new: str, changed: set[str]
) -> None:
    before = reached(small).modules
    edit(small / "core" / f"{file}.py", old, new)
    after = reached(small).modules
    assert {name for name in before if before[name] != after.get(name)} == changed


def test_a_file_digest_sees_every_byte(small: Path) -> None:
    before = Sources({"core": small / "core"}).file_digest("core.used")
    edit(small / "core/used.py", '"""Help."""', '"""Helps."""')
    assert Sources({"core": small / "core"}).file_digest("core.used") != before
    assert Sources({"core": small / "core"}).file_digest("core.gone") == ""


def packages(folder: Path) -> dict[str, Path]:
    """A copy of the two packages, to edit."""
    for package in (paraknow_core, tasks):
        shutil.copytree(Path(str(package.__file__)).parent, folder / package.__name__)
    return {name: folder / name for name in ("paraknow_core", "tasks")}


OTHERS = {"lora", "plain-lora", "pretrain", "sensitivity", "word-problems", "acquire-data"}
WRITE_JSON = {"acquire-model", "align", "decompose", "evaluate", "extract", "finetune", "report"}


@pytest.mark.parametrize(
    ("file", "function", "expected"),
    [
        ("paraknow_core/alignment/layers.py", "choose_layers", {"align"}),
        ("paraknow_core/svd/truncated.py", "truncated_svd", {"decompose"}),
        ("tasks/align.py", "_compute", {"align"}),
        ("tasks/starts/lora.py", "_compute", {"lora"}),
        ("tasks/starts/lora.py", "_compute_plain", {"plain-lora"}),
        ("tasks/starts/lora.py", "_estimate", set()),
        ("tasks/engine/json_files.py", "write_json", WRITE_JSON),
        ("tasks/engine/run_step.py", "run_step", set()),
        ("tasks/engine/provenance.py", "environment", set()),
    ],
)
def test_an_edit_of_the_real_sources_concerns_the_right_steps(
    tmp_path: Path, file: str, function: str, expected: set[str]
) -> None:
    roots = packages(tmp_path)
    edit(tmp_path / file, f"def {function}(", f"@edited\ndef {function}(")
    here, edited = present(), Sources(roots)
    places = {name: (s.compute.__module__, s.compute.__qualname__) for name, s in STEPS.items()}
    drifted = {n for n, place in places.items() if here.reached(*place) != edited.reached(*place)}
    assert drifted & (OTHERS | WRITE_JSON) == expected


@pytest.mark.parametrize("file", ["paraknow_core/svd/truncated.py", "tasks/align.py"])
def test_comments_docstrings_and_layout_of_the_real_sources_concern_no_step(
    tmp_path: Path, file: str
) -> None:
    roots = packages(tmp_path)
    text = (tmp_path / file).read_text()
    (tmp_path / file).write_text('"""Other words. ' + text[3:].replace("\n\n\n", "\n\n\n\n# why\n"))
    here, edited = present(), Sources(roots)
    for step in STEPS.values():
        place = (step.compute.__module__, step.compute.__qualname__)
        assert here.reached(*place) == edited.reached(*place)


def test_threads_that_ask_at_the_same_time_get_the_same_answer() -> None:
    """Without its lock: "AST constructor recursion depth mismatch" (CPython 3.11)."""
    roots = {each.__name__: Path(str(each.__file__)).parent for each in (paraknow_core, tasks)}
    asked = [(step.compute.__module__, step.compute.__qualname__) for step in STEPS.values()]
    expected = [Sources(roots).reached(*each) for each in asked]

    def let_others_run(phase: str, _info: dict[str, int]) -> None:
        time.sleep(0)

    together, threshold = Sources(roots), gc.get_threshold()
    gc.callbacks.append(let_others_run)  # a collection in the middle of a parse changes threads
    gc.set_threshold(50)
    try:
        with ThreadPoolExecutor(4) as threads:
            found = list(threads.map(lambda each: together.reached(*each), asked))
    finally:
        gc.callbacks.remove(let_others_run)
        gc.set_threshold(*threshold)
    assert found == expected
