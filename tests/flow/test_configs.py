"""The experiments and deployments that come with the project are valid."""

from pathlib import Path

import pytest
import yaml

from flows.config import TransferConfig
from flows.load import load_config

pytestmark = pytest.mark.flow

PROJECT = Path(__file__).parents[2]
DEPLOYMENTS = yaml.safe_load((PROJECT / "deployments.yaml").read_text())["deployments"]


@pytest.mark.parametrize("path", sorted((PROJECT / "configs").glob("*.yaml")), ids=lambda p: p.name)
def test_every_experiment_loads(path: Path) -> None:
    assert load_config(TransferConfig, path).name


@pytest.mark.parametrize("deployment", DEPLOYMENTS, ids=lambda d: d["name"])
def test_every_deployment_has_valid_parameters(deployment: dict) -> None:
    for place in (deployment, *deployment.get("schedules", [])):
        if "parameters" in place:
            TransferConfig.model_validate(place["parameters"]["config"])


@pytest.mark.parametrize(
    ("deployment", "experiment"), [("demo", "demo.yaml"), ("pair", "llama.yaml")]
)
def test_deployment_and_experiment_are_the_same(deployment: str, experiment: str) -> None:
    (found,) = [d for d in DEPLOYMENTS if d["name"] == deployment]
    deployed = TransferConfig.model_validate(found["parameters"]["config"])
    assert deployed == load_config(TransferConfig, PROJECT / "configs" / experiment)
