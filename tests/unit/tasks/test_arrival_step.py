"""What every method's student has of the novel directions: from the wiring to the page's data."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from support.direct import DirectRunner
from support.pair import pair_settings, write_pair
from support.tiny import tiny_model

from flows.config.compare import CompareConfig
from flows.graph.arm import ArmOutcome, SeedRun
from flows.graph.cell import Cell, CellOutcome
from flows.graph.pair import acquire_pair
from flows.graph.runner import Handle
from flows.graph.start_points import shown_of, start_point
from flows.results.report_inputs import inputs_of, report_of
from paraknow_core.lora.adapter_reader import read_adapter
from paraknow_core.report.comparison_markdown import as_markdown
from paraknow_core.report.page.data import Comparison, Pair
from paraknow_core.report.page.text import percent
from tasks.comparison_parts.looks import looks_of
from tasks.engine.json_files import read_json
from tasks.engine.ref import folder_of
from tasks.engine.stage import Stage
from tasks.teaching.arrival import ARRIVAL, ArrivalConfig, arrival

METHODS = ("plain", "novel-tokens", "novel-random", "pissa")


@dataclass
class Report:
    """A report's job, as far as what describes a cell needs it."""

    config: Any
    inputs: dict[str, Path] = field(default_factory=dict)


def config_of(folder: Path, student: str = "student", **settings: Any) -> CompareConfig:
    one = pair_settings(folder, folder / "store") | {"extract": {"roles": ["embed", "head"]}}
    return CompareConfig.model_validate(
        {
            "pairs": [
                {
                    "name": "p",
                    "teacher": one["teacher"],
                    "student": {"model": str(folder / student)},
                }
            ],
            "tasks": [{"name": "t", "data": one["data"]}],
            "methods": list(METHODS),
            "settings": {s: one[s] for s in ("lora", "decompose", "extract")} | settings,
            "run": one["run"],
        }
    )


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> tuple[CellOutcome, Report]:
    """A cell whose methods were not trained: what is delivered is the start product itself."""
    folder = write_pair(tmp_path_factory.mktemp("pair"))
    config = config_of(folder)
    pair, task = next(config.cells())
    cell = Cell(config, pair, task)
    runner = DirectRunner(config.run, Stage.REPORT)
    shared = acquire_pair(cell.arm(config.arms[0]).settings, runner, methods=(), cuts=False)
    arms = []
    for method in METHODS:
        start = start_point(method, shared, seed=0)
        looks = dict(shown_of(method, shared, seed=0))
        failed = SeedRun(0, adapter=Handle("lost"), reason="it failed")
        arms.append(
            ArmOutcome(method, method, runs=[failed, SeedRun(1, adapter=start)], looks=looks)
        )
    arms[-1].runs[1].adapter = Handle("no output")
    outcome = CellOutcome(pair, task, shared=shared, arms=arms)
    cell._follow(outcome, shared)
    store = config.run.open_store()
    folders = {
        role: folder_of(store, handle.known)
        for role, handle in inputs_of([outcome]).items()
        if handle.known is not None
    }
    return outcome, Report(report_of(config, [outcome]), folders)


def test_every_method_is_measured_against_the_same_directions_of_the_teacher(
    followed: tuple[CellOutcome, Report],
) -> None:
    outcome, report = followed
    plain, novel, random, last = outcome.arms
    assert last.look_reason  # its adapter is not there: that costs this look alone
    assert not any(arm.look_reason for arm in (plain, novel, random))
    folders = report.inputs
    u_VR = load_file(folders["c0-a1-novel"] / "factors.safetensors")["lm_head.U"].double()[:, :4]
    found = {
        arm.name: {
            m["module"]: m for m in read_json(folders[f"c0-a{n}-arrival"] / ARRIVAL)["matrices"]
        }
        for n, arm in enumerate((plain, novel, random))
    }
    assert found["plain"]["lm_head"]["change_share"] is None  # its B is zero
    assert max(found["plain"]["lm_head"]["cosines"]) < 1e-4
    assert found["novel-tokens"]["lm_head"]["change_share"] == pytest.approx(1)
    delta = read_adapter(folders["c0-a2-adapter-s1"]).delta("lm_head").double()
    share = float((u_VR.T @ delta).square().sum() / delta.square().sum())
    assert found["novel-random"]["lm_head"]["change_share"] == pytest.approx(share, abs=1e-5)
    told = read_json(folders["c0-a1-novel"] / "certificates.json")["lm_head"]
    sizes = load_file(folders["c0-a1-novel"] / "factors.safetensors")["lm_head.S"].square()
    held = told["novel_share"] * told["energy"] * float(sizes[:4].sum() / sizes.sum())
    assert found["plain"]["lm_head"]["teacher_share"] == pytest.approx(held, rel=1e-5)


def test_the_page_names_the_tokens_and_says_what_arrived(
    followed: tuple[CellOutcome, Report],
) -> None:
    _, report = followed
    looks = looks_of(report, 0)  # type: ignore[arg-type]
    assert [matrix.role for matrix in looks["novelty"]] == ["embed", "head"]
    tokens = looks["novelty"][1].tokens
    assert len(tokens) == 20
    assert tokens[0].token
    assert tokens[0].share >= tokens[1].share
    arrived = {(one.method, one.role) for one in looks["arrived"]}
    assert arrived == {(m, role) for m in METHODS[:3] for role in ("embed", "head")}
    pair = Pair(name="p", teacher="t", student="s", task="t", **looks)
    comparison = Comparison(title="x", methods=(), pairs=(pair,))
    assert Comparison.from_json(comparison.to_json()) == comparison
    text = as_markdown(comparison)
    share = percent(looks["novelty"][1].share)
    assert f"{share} of what the teacher's tokens differ by in head lies outside" in text
    assert f"| {tokens[0].token} | {percent(tokens[0].share)} |" in text
    assert f"| novel-tokens | head | {percent(1)} |" in text


def test_without_novel_tokens_nothing_is_followed(followed: tuple[CellOutcome, Report]) -> None:
    outcome, report = followed
    assert outcome.shared is not None
    arms = [ArmOutcome(m, m, runs=[SeedRun(1, adapter=Handle("x"))]) for m in METHODS]
    other = CellOutcome(outcome.pair, outcome.task, shared=outcome.shared, arms=arms)
    Cell(None, other.pair, other.task)._follow(other, outcome.shared)  # type: ignore[arg-type]
    assert not any(arm.looks or arm.look_reason for arm in arms)
    only = {role: path for role, path in report.inputs.items() if "arrival" not in role}
    bare = {role: path for role, path in only.items() if "novel" not in role}
    assert looks_of(Report(report.config, bare), 0) == {"modules": (), "arrived": ()}  # type: ignore[arg-type]


def test_a_tied_students_head_is_followed_whichever_of_the_two_has_the_adapter(
    tmp_path: Path,
) -> None:
    write_pair(tmp_path)
    tiny_model(tmp_path / "tied", layers=2, tied=True, seed=2)
    shares = {}
    for tied in ("head", "both"):
        config = config_of(tmp_path, "tied", novel={"tied": tied})
        cell = Cell(config, *next(config.cells()))
        runner = DirectRunner(config.run, Stage.REPORT)
        shared = acquire_pair(
            cell.arm(config.arms[1]).settings, runner, methods=("novel-tokens",), cuts=False
        )
        novel = shown_of("novel-tokens", shared, seed=0)["novel"]
        given = {"student": shared.student, "novel": novel}
        starts = {name: start_point(name, shared, seed=0) for name in ("novel-tokens", "pissa")}
        for name, start in starts.items():
            how = ArrivalConfig(rank=4)
            ref = shared.do(arrival, how, label=name, **given, adapter=start).known
            assert ref is not None
            folder = folder_of(config.run.open_store(), ref)
            (matrix,) = read_json(folder / ARRIVAL)["matrices"]
            shares[tied, name] = matrix["role"], matrix["change_share"]
    assert shares["head", "novel-tokens"] == ("head", pytest.approx(1))
    assert shares["both", "novel-tokens"] == ("embed", pytest.approx(1))
    assert shares["head", "pissa"] == ("head", pytest.approx(shares["both", "pissa"][1]))
