"""Start points from novel token directions, put together with others, on a tiny pair."""

from pathlib import Path

import pytest
import torch
from support.direct import DirectRunner
from support.pair import pair_settings, write_pair
from support.tiny import tiny_model

from flows.config.transfer import TransferConfig
from flows.graph.pair import acquire_pair
from flows.graph.runner import Handle
from flows.graph.start_points import start_point
from flows.graph.transfer_steps import wire
from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.errors import NumericsError, ShapeError
from paraknow_core.lora.adapter import Adapter
from paraknow_core.lora.adapter_reader import read_adapter
from paraknow_core.methods import METHODS
from tasks.diagnose import DIAGNOSTICS, DiagnoseConfig, diagnose
from tasks.engine.json_files import read_json
from tasks.engine.run_step import folder_of
from tasks.engine.stage import Stage

CONTROLS = tuple(
    name
    for name, method in METHODS.items()
    if method.of == "novel-tokens" and name not in ("novel-other", "novel-own")
)
EMBED, HEAD = "model.embed_tokens", "lm_head"


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"))


def starts(settings: dict, *methods: str, seed: int = 0) -> dict[str, Adapter]:
    config = TransferConfig.model_validate(settings)
    runner = DirectRunner(config.run, Stage.LORA)
    pair = acquire_pair(config, runner, methods=methods)
    store = config.run.open_store()
    found = {}
    for method in methods:
        ref = start_point(method, pair, seed=seed).ref
        found[method] = read_adapter(folder_of(store, ref))
    return found


def test_embedding_and_head_get_the_novel_directions_and_the_rest_is_plain(folder, tmp_path):
    made = starts(pair_settings(folder, tmp_path / "store"), "plain", "novel-tokens", *CONTROLS)
    plain, novel = made["plain"], made["novel-tokens"]
    assert set(novel.factors) == set(plain.factors)
    for module, (a, b) in novel.factors.items():
        assert bool(b.any() and a.any()) == (module in (EMBED, HEAD))
    with Checkpoint(folder / "student") as student, Checkpoint(folder / "teacher") as teacher:
        for module in (EMBED, HEAD):
            ours = student.read(f"{module}.weight").double()
            theirs = teacher.read(f"{module}.weight").double()
            ours, theirs = ours - ours.mean(0), theirs - theirs.mean(0)
            basis = torch.linalg.qr(ours)[0]
            u, s, _ = torch.linalg.svd(theirs - basis @ (basis.T @ theirs), full_matrices=False)
            least = torch.linalg.svd(ours)[2][-4:].flip(0)
            delta = novel.delta(module).double()
            torch.testing.assert_close(
                delta @ delta.T, (u[:, :4] * s[:4] ** 2) @ u[:, :4].T, rtol=0, atol=1e-4
            )
            torch.testing.assert_close(delta, delta @ least.T @ least, rtol=0, atol=1e-4)
    for control in CONTROLS:
        other = made[control]
        assert torch.equal(other.factors[HEAD].a, novel.factors[HEAD].a)
        assert (other.delta(HEAD) - novel.delta(HEAD)).norm() > 0.5 * novel.delta(HEAD).norm()
        same = METHODS[control].replacement in ("random", "top")
        sizes = [torch.linalg.svdvals(x.delta(HEAD))[:4] for x in (other, novel)]
        assert torch.allclose(*sizes, atol=1e-4) == same


def test_another_seed_draws_the_controls_and_the_plain_part_anew(folder, tmp_path):
    settings = pair_settings(folder, tmp_path / "store")
    once, again = (starts(settings, "novel-tokens", *CONTROLS, seed=seed) for seed in (0, 1))
    for method in ("novel-tokens", *CONTROLS):
        same = torch.equal(once[method].delta(HEAD), again[method].delta(HEAD))
        assert same == (method in ("novel-tokens", "novel-top")), method
    query = "model.layers.0.self_attn.q_proj"
    assert not torch.equal(*(x["novel-tokens"].factors[query].a for x in (once, again)))


def test_roles_start_as_the_settings_say(folder, tmp_path):
    settings = pair_settings(folder, tmp_path / "store")
    settings["by_role"] = {"attention": "milora", "embed": "plain"}
    mixed = starts(settings, "novel-tokens")["novel-tokens"]
    alone = starts(pair_settings(folder, tmp_path / "store"), "milora", "novel-tokens")
    query, up = "model.layers.1.self_attn.q_proj", "model.layers.1.mlp.up_proj"
    assert torch.equal(mixed.delta(query), alone["milora"].delta(query))
    assert torch.equal(mixed.delta(HEAD), alone["novel-tokens"].delta(HEAD))
    for module in (EMBED, up):
        assert not mixed.delta(module).any()


def test_a_tied_student_takes_what_the_teachers_head_has(folder, tmp_path):
    tiny_model(tmp_path / "tied", hidden=32, layers=2, ffn=64, tied=True, seed=2)
    settings = pair_settings(folder, tmp_path / "store")
    settings["student"] = {"model": str(tmp_path / "tied")}
    made = starts(settings, "novel-tokens")["novel-tokens"]
    assert made.tied_head == HEAD
    with Checkpoint(tmp_path / "tied") as student, Checkpoint(folder / "teacher") as teacher:
        ours, theirs = student.read(f"{EMBED}.weight"), teacher.read("lm_head.weight")
        basis = torch.linalg.qr((ours - ours.mean(0)).double())[0]
        theirs = (theirs - theirs.mean(0)).double()
        sizes = torch.linalg.svdvals(theirs - basis @ (basis.T @ theirs))[:4]
    torch.testing.assert_close(
        torch.linalg.svdvals(made.delta(EMBED))[:4].double(), sizes, rtol=1e-4, atol=0
    )


def tied_settings(folder: Path, place: Path, **more: object) -> dict:
    tiny_model(place / "tied", hidden=32, layers=2, ffn=64, tied=True, seed=2)
    settings = pair_settings(folder, place / "store")
    return settings | {"student": {"model": str(place / "tied")}, **more}


def test_a_tied_student_may_have_it_in_the_head_alone(folder, tmp_path):
    both = starts(tied_settings(folder, tmp_path), "novel-tokens")["novel-tokens"]
    settings = tied_settings(folder, tmp_path, novel={"tied": "head"})
    made = starts(settings, "novel-tokens", "novel-random")
    head = made["novel-tokens"]
    assert torch.equal(head.delta(HEAD), both.delta(EMBED))
    for method in made:
        assert EMBED not in made[method].factors
        assert (made[method].tied_head, made[method].embeddings) == (None, frozenset())
    others = {module for module in both.factors if module != EMBED}
    assert set(head.factors) == {HEAD, *others}
    for module in others:
        assert torch.equal(head.factors[module].a, both.factors[module].a)
    settings["by_role"] = {"embed": "plain"}
    apart = starts(settings, "novel-tokens")["novel-tokens"]
    assert torch.equal(apart.delta(HEAD), head.delta(HEAD))
    assert (apart.embeddings, apart.tied_head) == ({EMBED}, None)
    assert not apart.delta(EMBED).any()


def test_a_head_of_its_own_is_trained_measured_and_diagnosed(folder, tmp_path):
    settings = tied_settings(folder, tmp_path, novel={"tied": "head"})
    settings |= {"arms": ["novel-tokens"], "extract": {"roles": ["embed", "head"]}}
    config = TransferConfig.model_validate(settings)
    runner, store = DirectRunner(config.run, Stage.EVALUATE), config.run.open_store()
    wire(config, runner)
    assert set(read_adapter(folder_of(store, runner.refs["finetune novel-tokens"])).factors) == {
        HEAD
    }
    metrics = read_json(folder_of(store, runner.refs["evaluate novel-tokens"]) / "metrics.json")
    assert metrics["answer_nll"] > 0
    given = {
        role: Handle(role, known=runner.refs[label])
        for role, label in (("student", "student"), ("start", "lora novel-tokens"))
    }
    runner.until = Stage.REPORT
    ref = runner(diagnose, DiagnoseConfig(), label="diagnose", **given).ref
    (fact,) = read_json(folder_of(store, ref) / DIAGNOSTICS)["modules"]
    assert (fact["module"], fact["role"], fact["layer"]) == (HEAD, "head", None)


def test_what_has_nothing_novel_is_refused(folder, tmp_path):
    settings = pair_settings(folder, tmp_path / "store")
    settings["teacher"] = settings["student"]
    with pytest.raises(NumericsError, match="nothing but rounding"):
        starts(settings, "novel-tokens")
    settings = pair_settings(folder, tmp_path / "store")
    settings["extract"] = {"roles": ["attention"]}
    settings["arms"] = ["plain", "novel-tokens"]
    with pytest.raises(ValueError, match="embedding"):
        TransferConfig.model_validate(settings)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"by_role": {"atention": "milora"}}, "did you mean 'attention'"),
        ({"by_role": {"ffn": "milor"}}, "did you mean 'milora'"),
        ({"by_role": {"ffn": "novel-tokens"}}, "has a start point for embed, head only"),
        ({"by_role": {"attention": "milora", "q": "plain"}}, "q is given to milora too"),
        ({"by_role": {"q": "other-seeds"}}, "set other_data or other_problems"),
        (
            {"by_role": {"ffn": "milora"}, "extract": {"roles": ["head", "q"]}},
            "extract.roles are head, q; add ffn",
        ),
        (
            {"by_role": {"embedding": "plain", "head": "plain"}},
            "by_role gives every role that novel-tokens has a start point for",
        ),
    ],
)
def test_roles_that_cannot_start_so_are_refused_as_they_are_read(folder, tmp_path, changes, says):
    settings = pair_settings(folder, tmp_path / "store") | {"arms": ["plain", "novel-tokens"]}
    with pytest.raises(ValueError, match=says):
        TransferConfig.model_validate(settings | changes)


def test_a_teacher_smaller_than_the_student_will_do_unless_something_is_cut(folder, tmp_path):
    """Nothing is cut, so the teacher may have any size; one role of SeeKing's and it must fit."""
    tiny_model(tmp_path / "small", hidden=16, layers=1, heads=2, kv_heads=2, ffn=16, seed=5)
    settings = pair_settings(folder, tmp_path / "store")
    settings |= {"teacher": {"model": str(tmp_path / "small")}, "decompose": {"max_rank": 8}}
    made = starts(settings, "novel-tokens", "novel-untrained")
    assert made["novel-tokens"].delta(HEAD).any()
    with pytest.raises(ShapeError, match="Take a deeper teacher"):
        starts(settings | {"by_role": {"q": "transfer"}}, "novel-tokens")
