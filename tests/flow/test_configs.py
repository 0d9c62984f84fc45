"""The experiments and deployments that come with the project are valid."""

from pathlib import Path

import pytest
import yaml

from flows.config.compare import CompareConfig
from flows.config.load import load_config
from flows.config.quick import QuickConfig
from flows.config.transfer import TransferConfig

pytestmark = pytest.mark.flow

PROJECT = Path(__file__).parents[2]
DEPLOYMENTS = yaml.safe_load((PROJECT / "deployments.yaml").read_text())["deployments"]


MODELS = {
    "flows.transfer.transfer": TransferConfig,
    "flows.compare.compare": CompareConfig,
    "flows.quick.quick": QuickConfig,
}


def is_comparison(path: Path) -> bool:
    return "pairs" in yaml.safe_load(path.read_text())


@pytest.mark.parametrize("path", sorted((PROJECT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_experiment_loads(path: Path) -> None:
    if is_comparison(path):
        load_config(CompareConfig, path).check()
    else:
        assert load_config(TransferConfig, path).name


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_every_deployment_has_valid_parameters(deployment: dict) -> None:
    for place in (deployment, *deployment.get("schedules", [])):
        if "parameters" in place:
            MODELS[deployment["entrypoint"]].model_validate(place["parameters"]["config"])


@pytest.mark.parametrize(
    ("deployment", "experiment"),
    [("demo", "demo.yaml"), ("pair", "llama.yaml"), ("nightly", "compare.yaml")],
)
def test_deployment_and_experiment_are_the_same(deployment: str, experiment: str) -> None:
    (found,) = [d for d in DEPLOYMENTS if d["name"] == deployment]
    model = MODELS[found["entrypoint"]]
    deployed = model.model_validate(found["parameters"]["config"])
    assert deployed == load_config(model, PROJECT / "configs" / experiment)
