"""More matrices trained than the teacher gives a start for, and where the embedding's Σ stands."""

from pathlib import Path
from typing import Any

import pytest
import torch
from pydantic import ValidationError
from support.direct import DirectRunner
from support.pair import pair_settings, write_pair
from support.starts import token_examples
from support.tiny import tiny_model
from torch import Tensor

from flows.config.transfer import TransferConfig
from flows.graph.pair import acquire_pair
from flows.graph.start_points import start_point
from paraknow_core.data.batches import collate
from paraknow_core.errors import ConfigError
from paraknow_core.finetuning.batches import next_token_logits
from paraknow_core.lora.adapter import Adapter
from paraknow_core.lora.adapter_reader import read_adapter
from paraknow_core.lora.anchored_model import trainable_model
from paraknow_core.models.describe import MATRIX_ROLES
from paraknow_core.models.load import load_model
from tasks.engine.ref import folder_of
from tasks.engine.stage import Stage
from tasks.extract import expand_roles

EMBED, HEAD = "model.embed_tokens", "lm_head"
ATTENTION, FFN = ("q_proj", "k_proj", "v_proj", "o_proj"), ("gate_proj", "up_proj", "down_proj")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"))


@pytest.fixture(scope="module")
def settings(folder: Path) -> dict[str, Any]:
    return pair_settings(folder, folder / "store")


def start(settings: dict[str, Any], method: str, seed: int = 0) -> Adapter:
    config = TransferConfig.model_validate(settings)
    pair = acquire_pair(config, DirectRunner(config.run, Stage.LORA), methods=[method])
    return read_adapter(
        folder_of(config.run.open_store(), start_point(method, pair, seed=seed).ref)
    )


def same(one: Adapter, other: Adapter, module: str) -> bool:
    return all(map(torch.equal, one.factors[module], other.factors[module]))


def of_kind(adapter: Adapter, kinds: tuple[str, ...]) -> set[str]:
    return {module for module in adapter.factors if module.rpartition(".")[2] in kinds}


@pytest.mark.parametrize("method", ["transfer", "same-spectrum", "pissa"])
def test_what_is_not_extracted_starts_as_plain_lora_and_is_trained(
    settings: dict[str, Any], method: str
) -> None:
    cut = settings | {"extract": {"roles": ["attention"]}}
    alone = start(cut, method)
    more = start(cut | {"lora": settings["lora"] | {"train_roles": ["all"]}}, method)
    plain = start(settings | {"extract": {"roles": ["embedding", "ffn", "head"]}}, "plain")
    assert set(alone.factors) == of_kind(alone, ATTENTION)
    assert set(more.factors) == set(alone.factors) | set(plain.factors)
    assert len(more.factors) == 2 * 7 + 2
    for module in alone.factors:
        assert same(more, alone, module)
        assert more.delta(module).any()
    for module in plain.factors:
        assert same(more, plain, module)
        assert not more.delta(module).any()
        assert any(factor.any() for factor in more.factors[module])  # one of both is drawn


def test_plain_lora_trains_the_same_matrices_as_the_transfer(settings: dict[str, Any]) -> None:
    lora = settings["lora"] | {"train_roles": ["ffn", "vocabulary"]}
    some = settings | {"extract": {"roles": ["ffn"]}, "lora": lora}
    plain, moved = start(some, "plain"), start(some, "transfer")
    assert set(plain.factors) == set(moved.factors) == {EMBED, HEAD} | of_kind(moved, FFN)
    assert not any(plain.delta(module).any() for module in plain.factors)


def test_vocabulary_is_the_embedding_and_the_head_and_embedding_still_is_the_embedding() -> None:
    assert expand_roles(["vocabulary"]) == ("embed", "head")
    assert expand_roles(["embedding"]) == ("embed",)
    assert expand_roles(["vocabulary", "attention", "ffn"]) == tuple(map(str, MATRIX_ROLES))


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"train_roles": ["ffn"]}, "train_roles leaves out q, k, v, o, of extract.roles"),
        ({"train_roles": ["atention"]}, r"train_roles\n.*did you mean 'attention'"),
        ({"train_roles": []}, r"train_roles\n.*at least 1 item"),
    ],
)
def test_roles_that_cannot_be_are_refused(
    settings: dict[str, Any], change: dict[str, Any], told: str
) -> None:
    given = settings | {"extract": {"roles": ["attention"]}, "lora": settings["lora"] | change}
    with pytest.raises((ValidationError, ConfigError), match=told):
        TransferConfig.model_validate(given)


def test_a_tied_students_head_is_not_left_alone(settings: dict[str, Any], tmp_path: Path) -> None:
    tiny_model(tmp_path / "tied", hidden=32, layers=2, ffn=64, tied=True, seed=2)
    tied = settings | {"student": {"model": str(tmp_path / "tied")}}
    given = tied | {"lora": settings["lora"] | {"train_roles": ["all"]}}
    but_head = given | {"extract": {"roles": ["embedding", "attention", "ffn"]}}
    with pytest.raises(ConfigError, match=r"\(head\).*no matrix of its own.*tied.*train_roles"):
        start(but_head, "transfer")
    made = start(given | {"extract": {"roles": ["vocabulary"]}}, "transfer")
    assert made.tied_head == HEAD
    assert made.delta(EMBED).any()


def test_roles_of_one_fused_matrix_go_together(settings: dict[str, Any], tmp_path: Path) -> None:
    tiny_model(tmp_path / "fused", "gpt2", hidden=32, layers=2, ffn=64, seed=2)
    lora = settings["lora"] | {"train_roles": ["attention"]}
    given = {"student": {"model": str(tmp_path / "fused")}, "extract": {"roles": ["q"]}}
    with pytest.raises(ConfigError, match=r"c_attn is one matrix of several roles.*q by transfer"):
        start(settings | given | {"lora": lora}, "transfer")


def test_the_embeddings_spectrum_can_stand_on_the_hidden_side(
    folder: Path, settings: dict[str, Any]
) -> None:
    usual = start(settings, "transfer")
    hidden = start(
        settings | {"lora": settings["lora"] | {"embedding_split": "hidden"}}, "transfer"
    )
    for module in usual.factors:
        torch.testing.assert_close(usual.delta(module), hidden.delta(module))
        assert same(usual, hidden, module) == (module != EMBED)
    a, b = (factor.double() for factor in hidden.factors[EMBED])
    sizes = torch.linalg.svdvals(usual.delta(EMBED).double())[:4]
    torch.testing.assert_close(b.T @ b, torch.eye(4).double(), rtol=0, atol=1e-5)
    torch.testing.assert_close(a @ a.T, torch.diag(sizes**2), rtol=1e-4, atol=1e-5)

    def untrained(start: Adapter | None) -> Tensor:
        model = load_model(folder / "student")
        model = model if start is None else trainable_model(model, start, dropout=0.0).eval()
        with torch.no_grad():
            return next_token_logits(model, collate(token_examples(6)))

    for made in (usual, hidden):
        torch.testing.assert_close(untrained(made), untrained(None), rtol=0, atol=1e-5)
