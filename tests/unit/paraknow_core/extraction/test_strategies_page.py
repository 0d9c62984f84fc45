"""The example of docs/strategies.md works as it stands there."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from paraknow_core.alignment.layers import LAYER_STRATEGIES
from paraknow_core.extraction.score_map import ScoreMap
from paraknow_core.extraction.structures import STRUCTURES
from paraknow_core.extraction.structures.base import Request, each_matrix
from paraknow_core.settings import identity_of
from tasks.extract import ROLE_GROUPS, ExtractConfig

PAGE = (Path(__file__).parents[4] / "docs" / "strategies.md").read_text()


def test_the_example_is_a_structure_that_a_config_can_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", PAGE, flags=re.S)
    assert len(code.strip().splitlines()) <= 22
    (name, function) = re.findall(r'`"([\w-]+)": each_matrix\((\w+)\)`', PAGE)[0]
    names: dict[str, Any] = {}
    exec(code, names)
    structure = each_matrix(names[function])
    monkeypatch.setitem(STRUCTURES._entries, name, structure)
    assert ExtractConfig(structure=name).structure == name
    scores = torch.rand(9, 6)
    pair: Any = (None, None)
    asked = Request(pair[0], ScoreMap.of(scores), rows=3, cols=2, seed=0)
    (place,) = structure.find([asked], *pair)
    assert place.score == pytest.approx(float(scores[::3, ::3].sum()))


def test_the_page_names_every_strategy() -> None:
    for name in (*STRUCTURES, *LAYER_STRATEGIES, *ROLE_GROUPS):
        assert f"`{name}`" in PAGE


def test_groups_of_roles_are_the_roles_they_stand_for() -> None:
    def key(roles: Any) -> Any:
        return identity_of(ExtractConfig(roles=roles))

    assert key("attention") == key(["q", "k", "v", "o"])
    assert key(["ffn", "embedding"]) == key(["embed", "gate", "up", "down"])
    assert key(["all"]) == identity_of(ExtractConfig())
    assert key(["head"])["roles"] == ["head"]
    assert key(["o", "q"])["roles"] == ["o", "q"]  # keys of stored results stay what they are


def test_new_settings_leave_old_keys_alone() -> None:
    assert identity_of(ExtractConfig()).keys() == {"structure", "roles"}
    assert identity_of(ExtractConfig(min_vocabulary_share=0.1)) == identity_of(ExtractConfig())
    assert identity_of(ExtractConfig(seed=1))["seed"] == 1
