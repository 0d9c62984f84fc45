"""What docs/architecture.md, CONTRIBUTING.md and ``make help`` say is so."""

import ast
import itertools
import re
import subprocess
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from flows.config.transfer import TransferConfig
from flows.graph.runner import Handle
from flows.graph.transfer_steps import wire
from paraknow_core.methods import METHODS
from tasks.checks.preflight import Check
from tasks.engine.step import Step
from tasks.steps import STEPS

ROOT = Path(__file__).parents[3]
PAGES = {name: (ROOT / name).read_text() for name in ("docs/architecture.md", "CONTRIBUTING.md")}
PAGE = PAGES["docs/architecture.md"]
FOLDERS = ("artifacts", "benchmarks", "configs", "docs", "flows", "paraknow_core", "tasks", "tests")
EXAMPLES = {"tasks/norms.py", "paraknow_core/initialisation/random_subspace.py"}
"""Files that a recipe makes."""
NAME_IN_FILE = re.compile(r"`([A-Za-z_][\w.]*)`\s+\(`([\w/]+\.py)`\)")
NAMES_OF_FILE = re.compile(r"((?:`\w[\w.]*`(?:,| and)\s+)*`\w[\w.]*`)\s+of\s+`([\w/]+\.py)`")


@cache
def definitions(file: str) -> frozenset[str]:
    """Functions, classes, variables, and members of classes that a file defines."""

    def names(body: list[ast.stmt], prefix: str) -> set[str]:
        found: set[str] = set()
        for node in body:
            match node:
                case ast.ClassDef(name=name, body=inner):
                    found |= {prefix + name} | names(inner, f"{prefix}{name}.")
                case ast.FunctionDef(name=name) | ast.AnnAssign(target=ast.Name(id=name)):
                    found.add(prefix + name)
                case ast.Assign(targets=targets):
                    inside = itertools.chain.from_iterable(map(ast.walk, targets))
                    found |= {prefix + n.id for n in inside if isinstance(n, ast.Name)}
        return found

    return frozenset(names(ast.parse((ROOT / file).read_text()).body, ""))


def named_in_files(page: str) -> set[tuple[str, str]]:
    found = set(NAME_IN_FILE.findall(page))
    for names, file in NAMES_OF_FILE.findall(page):
        found |= {(name, file) for name in re.findall(r"`([\w.]+)`", names)}
    return found


@pytest.mark.parametrize("page", PAGES)
def test_every_path_on_the_page_is_there(page: str) -> None:
    text = PAGES[page]
    paths = set(re.findall(rf"`((?:{'|'.join(FOLDERS)})/[\w./-]*)`", text)) - EXAMPLES
    assert len(paths) >= 5
    assert [path for path in paths if not (ROOT / path).exists()] == []
    links = {link.partition("#")[0] for link in re.findall(r"\]\(([^)]+)\)", text)} - {""}
    assert [link for link in links if not ((ROOT / page).parent / link).exists()] == []


@pytest.mark.parametrize("page", PAGES)
def test_every_name_is_defined_in_the_file_that_the_page_gives(page: str) -> None:
    found = named_in_files(PAGES[page])
    assert len(found) >= {"docs/architecture.md": 60, "CONTRIBUTING.md": 5}[page]
    assert [(n, file) for n, file in sorted(found) if n not in definitions(file)] == []


def test_every_name_that_looks_like_code_is_given_with_its_file() -> None:
    """Only what stands in one of the two forms above is checked, so nothing may stand without."""
    prose = re.sub(r"```.*?```", "", PAGE, flags=re.S)
    known = {name for name, _file in named_in_files(PAGE)} | {"Ref"}
    known |= {name.rpartition(".")[2] for name in known} | set(STEPS)
    inline = set(re.findall(r"`([A-Za-z_]+(?:\.[A-Za-z_]+)*)`", prose))
    inline = {name for name in inline if not name.endswith((".json", ".parquet", ".py"))}
    names = {n for n in inline if re.search(r"[a-z][A-Z]|^[A-Z][a-z]|^[A-Z]+_|\w_\w|^_", n)}
    assert names - known - set(FOLDERS) - {"model_type", "other_problems"} == set()


def test_the_floors_are_those_that_import_linter_holds() -> None:
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["importlinter"]
    (floors,) = (c["layers"] for c in contracts["contracts"] if c.get("containers"))
    assert "```\n" + "\n".join(floors) + "\n```" in PAGE
    folders = {path.parent.name for path in (ROOT / "paraknow_core").glob("*/__init__.py")}
    assert folders == set(re.findall(r"^\| `paraknow_core/(\w+)` \|", PAGE, flags=re.M))


def test_every_step_is_in_the_table_with_its_file() -> None:
    rows = re.findall(r"^\| ((?:`[\w-]+`(?:, )?)+) \| `(tasks/[\w/]+\.py)` \|", PAGE, flags=re.M)
    told = {name: file for names, file in rows for name in re.findall(r"[\w-]+", names)}
    assert told == {
        name: f"{step.compute.__module__.replace('.', '/')}.py" for name, step in STEPS.items()
    }


@dataclass
class Made(Handle):
    """A step's output, and which step made it."""

    step: str = ""


class Recorder:
    """A runner that only notes which step takes what from which."""

    def __init__(self) -> None:
        self.arrows: dict[tuple[str, str], str] = {}

    def __call__(self, step: Step[Any], config: Any, *, label: str, **inputs: Handle) -> Handle:
        del config
        for role, handle in inputs.items():
            assert isinstance(handle, Made)
            files = ", ".join(step.reads.get(role, ())) or "all files"
            source = role if handle.step == "acquire-model" else handle.step.replace("-", "_")
            self.arrows[source, step.name.replace("-", "_")] = files
        return Made(label, step=step.name)

    start = __call__

    def check(
        self, check: Check, inputs: Mapping[str, Handle], *, before: Step[Any] | None = None
    ) -> None:
        """Check nothing."""


def drawn() -> dict[tuple[str, str], str]:
    """The arrows of the page's picture of a transfer, with what stands on them."""
    picture = next(p for p in re.findall(r"```mermaid\n(.*?)```", PAGE, flags=re.S) if "pre" in p)
    arrow = re.compile(r'^ *([\w &]+?)(?:\[".*?"\])? -->(?:\|(.+?)\|)? ([\w &]+)$', flags=re.M)
    return {
        (source, target): files
        for sources, files, targets in arrow.findall(picture)
        for source in sources.split(" & ")
        for target in targets.split(" & ")
    }


def test_the_picture_of_a_transfer_is_the_wiring() -> None:
    # The picture leaves out the controls whose teacher is a model made like another one.
    unlike = ("untrained", "other")
    arms = [name for name, method in METHODS.items() if method.replacement not in unlike]
    arms.remove("novel-own")  # is refused
    config = TransferConfig.model_validate(
        {
            "teacher": {"pretrain": {}},
            "student": {"model": "student"},
            "teacher_base": {"model": "base"},
            "other_data": {"seed": 1},
            "arms": arms,
            "evaluate": {"tasks": ["gsm8k"]},
        }
    )
    recorder = Recorder()
    wire(config, recorder)
    wired, shown = recorder.arrows, drawn()
    models = {("acquired", "teacher"), ("acquired", "student")}
    assert wired.pop(("pretrain", "acquire_model")) == shown.pop(("pretrain", "acquired"))
    assert shown.keys() == wired.keys() | models
    for arrow, files in shown.items():
        of_model = arrow in models or arrow[0] in ("teacher", "student", "base")
        assert files == ("" if of_model else wired[arrow])


def test_make_help_lists_every_target() -> None:
    asked = ["make", "--no-print-directory", "help"]
    told = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True, check=True)
    phony = re.search(r"^\.PHONY: (.*)$", (ROOT / "Makefile").read_text(), flags=re.M)
    assert phony is not None
    targets = dict(line.split(maxsplit=1) for line in told.stdout.splitlines())
    assert targets.keys() == set(phony[1].split())
