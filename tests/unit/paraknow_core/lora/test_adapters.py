import json
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from support.starts import transfer_start
from support.tiny import tiny_model

from paraknow_core.errors import CheckpointError, ConfigError, ModelFolderError, RankError
from paraknow_core.lora.adapter import CONFIG, WEIGHTS, write_adapter
from paraknow_core.lora.adapter_reader import read_adapter
from paraknow_core.lora.anchored_model import quiet_peft
from paraknow_core.lora.combine import combine, combine_folders
from paraknow_core.lora.start_point import SPLITS, plain_start, start_factors, write_start
from paraknow_core.models.describe import MATRIX_ROLES, Role
from paraknow_core.models.load import load_model


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("llama"), "llama")


@pytest.fixture(scope="module")
def tied_student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("qwen2"), "qwen2", tied=True)


def plain(student: Path, folder: Path, **changes: Any) -> Any:
    given = {"roles": MATRIX_ROLES, "rank": 4, "alpha": 8.0, "seed": 1}
    return plain_start(student, folder, **{**given, **changes})


@given(
    rows=st.integers(1, 12),
    cols=st.integers(1, 12),
    alpha=st.floats(0.5, 64),
    split=st.sampled_from(sorted(SPLITS)),
    data=st.data(),
)
@settings(max_examples=60)
def test_the_scaled_product_is_the_best_fit_of_its_rank(
    rows: int, cols: int, alpha: float, split: str, data: Any
) -> None:
    rank = data.draw(st.integers(1, min(rows, cols)))
    seed = data.draw(st.integers(0, 99))
    weight = torch.randn(rows, cols, generator=torch.Generator().manual_seed(seed)).double()
    u, s, vh = torch.linalg.svd(weight, full_matrices=False)
    factors = start_factors(u, s, vh, rank=rank, alpha=alpha, split=split)

    product = alpha / rank * factors.b @ factors.a
    best = sum(s[i] * torch.outer(u[:, i], vh[i]) for i in range(rank))
    assert factors.a.shape == (rank, cols)
    assert factors.b.shape == (rows, rank)
    torch.testing.assert_close(product, best, rtol=1e-9, atol=1e-9)
    # Eckart-Young: nothing of this rank is nearer than the singular values that are left out.
    assert torch.linalg.norm(weight - product).item() == pytest.approx(
        torch.linalg.norm(s[rank:]).item(), abs=1e-9
    )


def test_output_puts_the_spectrum_on_b_and_sqrt_shares_it() -> None:
    u, s, vh = torch.linalg.svd(torch.randn(6, 5), full_matrices=False)
    output = start_factors(u, s, vh, rank=3, alpha=3.0)
    shared = start_factors(u, s, vh, rank=3, alpha=3.0, split="sqrt")
    torch.testing.assert_close(output.a @ output.a.T, torch.eye(3))
    torch.testing.assert_close(shared.a.norm(dim=1), s[:3].sqrt())
    torch.testing.assert_close(shared.b.norm(dim=0), s[:3].sqrt())


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"rank": 6}, RankError, ["6", "1..5", "7 × 5"]),
        ({"rank": 0}, RankError, ["0", "1..5"]),
        ({"alpha": 0.0}, ConfigError, ["alpha", "above 0"]),
        ({"alpha": float("nan")}, ConfigError, ["alpha"]),
        ({"split": "half"}, ConfigError, ["half", "output", "sqrt"]),
    ],
)
def test_start_factors_refuses(changes: dict[str, Any], error: Any, words: list[str]) -> None:
    u, s, vh = torch.linalg.svd(torch.randn(7, 5), full_matrices=False)
    with pytest.raises(error) as caught:
        start_factors(u, s, vh, **{"rank": 2, "alpha": 1.0, **changes})
    assert all(word in str(caught.value) for word in words)


def test_peft_adds_the_scaled_product_to_every_weight(student: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    start = transfer_start(student, tmp_path)
    before = {n: p.clone() for n, p in load_model(student).named_parameters()}
    with quiet_peft():
        model = PeftModel.from_pretrained(load_model(student), tmp_path)
    after = dict(model.merge_and_unload().named_parameters())
    for name, weight in before.items():
        module = name.removesuffix(".weight")
        change = start.delta(module) if module in start.factors else torch.zeros_like(weight)
        torch.testing.assert_close(after[name], weight + change, rtol=1e-5, atol=1e-6)
    assert set(start.factors) == {n.removesuffix(".weight") for n in before if "norm" not in n}


@pytest.mark.parametrize("tied", [False, True])
def test_a_folder_reads_back_as_it_was_written(
    tied: bool, student: Path, tied_student: Path, tmp_path: Path
) -> None:
    start = transfer_start(tied_student if tied else student, tmp_path)
    back = read_adapter(tmp_path)
    assert back.factors.keys() == start.factors.keys()
    for module, (a, b) in start.factors.items():
        assert torch.equal(back.factors[module].a, a)
        assert torch.equal(back.factors[module].b, b)
    assert (back.rank, back.alpha, back.tied_head) == (4, 8.0, "lm_head" if tied else None)
    assert back.embeddings == {"model.embed_tokens"}


def test_the_same_adapter_gives_the_same_bytes_and_no_path(student: Path, tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    start = transfer_start(student, one)
    write_adapter(two, start)
    for name in (CONFIG, WEIGHTS):
        assert (one / name).read_bytes() == (two / name).read_bytes()
    config = json.loads((one / CONFIG).read_text())
    assert "/" not in (one / CONFIG).read_text()
    assert config["target_modules"] == sorted(start.factors)
    assert sorted(p.name for p in one.iterdir()) == [CONFIG, WEIGHTS]


def test_a_factor_of_another_rank_is_refused(tmp_path: Path) -> None:
    factors = {"q": (torch.ones(3, 5), torch.ones(5, 3))}
    with pytest.raises(RankError, match=r"q: .*\(5, 3\).*rank 4"):
        write_start(tmp_path, factors=factors, embeddings=[], rank=4, alpha=4.0)


def test_a_tied_head_without_an_embedding_is_refused(tmp_path: Path) -> None:
    factors = {"q": (torch.ones(3, 5), torch.ones(5, 3))}
    with pytest.raises(ConfigError, match="lm_head"):
        write_start(
            tmp_path, factors=factors, embeddings=[], rank=3, alpha=3.0, tied_head="lm_head"
        )


def damage(folder: Path, *, config: dict[str, Any] | None = None, tensors: Any = None) -> None:
    """Change keys of a folder's config, or its tensors by a function of all of them."""
    if config is not None:
        held = json.loads((folder / CONFIG).read_text())
        (folder / CONFIG).write_text(json.dumps({**held, **config}))
    if tensors is not None:
        save_file(tensors(load_file(folder / WEIGHTS)), folder / WEIGHTS)


Q = "base_model.model.model.layers.0.self_attn.q_proj"


@pytest.mark.parametrize(
    ("damages", "words"),
    [
        ({"config": {"use_dora": True}}, ["plain LoRA", "use_dora"]),
        ({"config": {"modules_to_save": ["lm_head"]}}, ["modules_to_save"]),
        ({"config": {"rank_pattern": {"q_proj": 2}}}, ["rank_pattern"]),
        ({"config": {"unheard_of": 1}}, ["unheard_of"]),
        ({"config": {"peft_type": "IA3"}}, ["IA3"]),
        ({"config": {"bias": "all"}}, ["bias 'all'"]),
        ({"config": {"r": True}}, ["r is True"]),
        ({"config": {"r": 5}}, ["rank 5"]),
        ({"config": {"lora_alpha": -1}}, ["lora_alpha is -1"]),
        ({"config": {"lora_dropout": 1.0}}, ["lora_dropout is 1.0"]),
        ({"config": {"ensure_weight_tying": True}}, ["ensure_weight_tying"]),
        ({"tensors": lambda t: {}}, ["holds no tensors"]),
        (
            {"tensors": lambda t: {n: v for n, v in t.items() if n != f"{Q}.lora_A.weight"}},
            ["layers.0.self_attn.q_proj", "one pair"],
        ),
        ({"tensors": lambda t: {**t, f"{Q}.weight": torch.ones(2, 2)}}, [f"{Q}.weight", "no LoRA"]),
        (
            {"tensors": lambda t: {**t, f"{Q}.lora_A.weight": torch.ones(4, 32).int()}},
            ["I32", "BF16"],
        ),
        ({"tensors": lambda t: {**t, f"{Q}.lora_A.weight": torch.ones(4)}}, ["(4,)", "matrix"]),
    ],
)
def test_a_folder_that_is_no_plain_adapter_is_refused(
    damages: dict[str, Any], words: list[str], student: Path, tmp_path: Path
) -> None:
    transfer_start(student, tmp_path)
    damage(tmp_path, **damages)
    with pytest.raises(CheckpointError) as caught:
        read_adapter(tmp_path)
    assert all(word in str(caught.value) for word in words)


def test_what_peft_writes_about_itself_is_no_obstacle(student: Path, tmp_path: Path) -> None:
    start = transfer_start(student, tmp_path)
    damage(tmp_path, config={"peft_version": "0.21.2", "revision": None, "loftq_config": {}})
    assert read_adapter(tmp_path).factors.keys() == start.factors.keys()


def test_pickled_weights_are_not_read(student: Path, tmp_path: Path) -> None:
    transfer_start(student, tmp_path)
    (tmp_path / WEIGHTS).rename(tmp_path / "adapter_model.bin")
    with pytest.raises(ModelFolderError, match=r"no adapter_model\.safetensors.*\.bin"):
        read_adapter(tmp_path)


def test_a_truncated_file_is_refused(student: Path, tmp_path: Path) -> None:
    transfer_start(student, tmp_path)
    data = (tmp_path / WEIGHTS).read_bytes()
    (tmp_path / WEIGHTS).write_bytes(data[:-1])
    with pytest.raises(CheckpointError, match=WEIGHTS):
        read_adapter(tmp_path)


def test_plain_lora_starts_where_peft_starts(student: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model

    start = plain(student, tmp_path)
    kinds = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
    config = LoraConfig(r=4, lora_alpha=8, target_modules=[*kinds, "embed_tokens", "lm_head"])
    model = load_model(student)
    torch.manual_seed(1)
    with quiet_peft():
        own = get_peft_model(model, config).base_model.model
    assert len(start.factors) == 3 * 7 + 2
    for module, (a, b) in start.factors.items():
        layer = own.get_submodule(module)
        if module == "model.embed_tokens":
            assert torch.equal(a, layer.lora_embedding_B["default"].T)
            assert not b.any()
        else:
            assert torch.equal(a, layer.lora_A["default"].weight)
            assert not b.any()
            assert a.any()


def test_plain_lora_on_a_tied_student_has_one_product_for_embedding_and_head(
    tied_student: Path, tmp_path: Path
) -> None:
    start = plain(tied_student, tmp_path)
    assert start.tied_head == "lm_head"
    assert "lm_head" not in start.factors
    assert start.is_zero
    assert start.factors["model.embed_tokens"].a.any()
    tensors = load_file(tmp_path / WEIGHTS)
    embed, head = "base_model.model.model.embed_tokens", "base_model.model.lm_head"
    assert torch.equal(tensors[f"{embed}.lora_embedding_A"].T, tensors[f"{head}.lora_B.weight"])
    assert torch.equal(tensors[f"{embed}.lora_embedding_B"].T, tensors[f"{head}.lora_A.weight"])


def test_plain_lora_follows_from_its_seed_alone(student: Path, tmp_path: Path) -> None:
    torch.manual_seed(7)
    before = torch.random.get_rng_state()
    plain(student, tmp_path / "one")
    assert torch.equal(torch.random.get_rng_state(), before)
    torch.rand(3)
    plain(student, tmp_path / "two")
    plain(student, tmp_path / "other", seed=2)
    one, two, other = ((tmp_path / n / WEIGHTS).read_bytes() for n in ("one", "two", "other"))
    assert one == two
    assert one != other


def test_plain_lora_takes_the_roles_it_is_given(student: Path, tmp_path: Path) -> None:
    start = plain(student, tmp_path, roles=[Role.Q, Role.V])
    kinds = {module.rpartition(".")[2] for module in start.factors}
    assert kinds == {"q_proj", "v_proj"}
    with pytest.raises(ConfigError, match="No module"):
        plain(student, tmp_path, roles=[Role.NORM])


def test_plain_lora_refuses_a_rank_above_the_smallest_side(student: Path, tmp_path: Path) -> None:
    with pytest.raises(RankError, match=r"17.*k_proj.*\(16, 32\).*1\.\.16"):
        plain(student, tmp_path, roles=[Role.Q, Role.K], rank=17)


@pytest.mark.parametrize("tied", [False, True])
def test_combining_subtracts_the_start_product(
    tied: bool, student: Path, tied_student: Path, tmp_path: Path
) -> None:
    folder = tied_student if tied else student
    start = transfer_start(folder, tmp_path / "start", seed=1)
    trained = transfer_start(folder, tmp_path / "trained", seed=2)
    combined = combine_folders(tmp_path / "start", tmp_path / "trained", tmp_path / "out")
    assert (combined.rank, combined.alpha, combined.dropout) == (8, 16.0, 0.0)
    for module in start.factors:
        wanted = trained.delta(module) - start.delta(module)
        torch.testing.assert_close(combined.delta(module), wanted, rtol=1e-5, atol=1e-6)
    config = json.loads((tmp_path / "out" / CONFIG).read_text())
    assert (config["r"], config["lora_alpha"], config["lora_dropout"]) == (8, 16, 0.0)
    assert config["inference_mode"] is True


def test_a_zero_start_leaves_the_trained_adapter_as_it_is(student: Path, tmp_path: Path) -> None:
    start = plain(student, tmp_path / "start", dropout=0.1)
    trained = transfer_start(student, tmp_path / "trained")
    combined = combine(start, trained)
    assert (combined.rank, combined.alpha, combined.dropout) == (4, 8.0, 0.0)
    assert all(torch.equal(combined.delta(m), trained.delta(m)) for m in trained.factors)


def test_only_adapters_of_one_run_are_combined(student: Path, tmp_path: Path) -> None:
    start = transfer_start(student, tmp_path / "a", rank=4)
    other = transfer_start(student, tmp_path / "b", rank=3)
    with pytest.raises(ConfigError, match=r"rank 4.*rank 3"):
        combine(start, other)
