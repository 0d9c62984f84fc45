"""Updates from signals through the real wiring, on a tiny pair."""

from pathlib import Path

import pytest
import torch
from support.direct import DirectRunner, run_direct
from support.pair import pair_settings, write_pair

from flows.config.transfer import TransferConfig
from flows.graph.pair import acquire_pair
from flows.graph.start_points import start_point
from paraknow_core.lora.adapter import Adapter
from paraknow_core.lora.adapter_reader import read_adapter
from paraknow_core.methods import METHODS
from tasks.engine.ref import folder_of
from tasks.engine.stage import Stage

METHODS_HERE = tuple(
    name for name, method in METHODS.items() if method.builder == "signals" and method.is_transfer
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"))


def starts(settings: dict, *methods: str, seed: int = 0) -> dict[str, Adapter]:
    config = TransferConfig.model_validate(settings)
    runner = DirectRunner(config.run, Stage.LORA)
    pair = acquire_pair(config, runner, methods=methods)
    store = config.run.open_store()
    return {
        method: read_adapter(folder_of(store, start_point(method, pair, seed=seed).ref))
        for method in methods
    }


def modules(name: str, covers: tuple[str, ...]) -> bool:
    if name == "model.embed_tokens":
        return covers == ("embed",)
    return any(role in name.replace("_proj", "") for role in covers if role != "embed")


@pytest.mark.parametrize("method", METHODS_HERE)
def test_an_update_is_written_where_the_method_has_one_and_the_controls_differ(
    folder, tmp_path, method
):
    controls = tuple(name for name, found in METHODS.items() if found.of == method)
    assert set(METHODS[method].controls) == set(controls)
    made = starts(pair_settings(folder, tmp_path / "store"), "plain", method, *controls)
    update = made[method]
    assert set(update.factors) == set(made["plain"].factors)
    written = {name for name in update.factors if update.delta(name).any()}
    assert written == update.added
    assert written == {n for n in update.factors if modules(n, METHODS[method].covers)}
    for control in controls:
        assert made[control].added == written
        for name in written:
            delta = made[control].delta(name)
            assert not torch.allclose(delta, update.delta(name), rtol=0.1)
            torch.testing.assert_close(delta.norm(), update.delta(name).norm(), rtol=1e-4, atol=0)


def test_a_control_may_have_its_own_size(folder, tmp_path):
    """Then it is made without the method's update; only its size is another."""
    settings = pair_settings(folder, tmp_path / "store") | {"extract": {"roles": ["head"]}}
    own = settings | {"signals": {"control_size": "own"}}
    control = "head-shuffled"
    large, usual, update = (
        starts(given, name)[name].delta("lm_head")
        for given, name in ((settings, control), (own, control), (settings, "head-regression"))
    )
    assert large.norm() / usual.norm() != pytest.approx(1, rel=0.05)
    torch.testing.assert_close(large / large.norm(), usual / usual.norm(), rtol=1e-3, atol=1e-6)
    torch.testing.assert_close(large.norm(), update.norm(), rtol=1e-4, atol=0)


def test_an_update_is_composed_trained_and_evaluated(folder, tmp_path):
    settings = pair_settings(folder, tmp_path / "store")
    settings |= {
        "arms": ["plain", "residual-regression"],
        "by_role": {"head": "head-regression", "attention": "milora"},
        "signals": {"ridge": 0.1},
    }
    run = run_direct(settings, Stage.EVALUATE)
    ref = next(ref for label, ref in run.items() if label.startswith("compose"))
    store = TransferConfig.model_validate(settings).run.open_store()
    made = read_adapter(folder_of(store, ref))
    assert made.added == {"lm_head", *(f"model.layers.{i}.mlp.down_proj" for i in range(2))}
    assert any(label.startswith("evaluate residual") for label in run)


def test_seeds_share_an_update_that_draws_nothing(folder, tmp_path):
    settings = pair_settings(folder, tmp_path / "store") | {"extract": {"roles": ["ffn"]}}
    one, other = (starts(settings, "residual-regression", seed=s) for s in (0, 1))
    name = "model.layers.0.mlp.down_proj"
    first, second = (x["residual-regression"].delta(name) for x in (one, other))
    assert torch.equal(first, second)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"extract": {"roles": ["attention"]}}, "residual-regression changes down, but"),
        ({"signals": {"ridge": -1}}, "greater than or equal to 0"),
        ({"by_role": {"q": "embedding-rows"}}, "has a start point for embed only"),
    ],
)
def test_settings_that_leave_nothing_to_do_are_refused(folder, tmp_path, changes, says):
    settings = pair_settings(folder, tmp_path / "store") | {"arms": ["residual-regression"]}
    with pytest.raises(ValueError, match=says):
        TransferConfig.model_validate(settings | changes)
