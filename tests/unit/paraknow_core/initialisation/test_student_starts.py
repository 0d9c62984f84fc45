"""Start points without a teacher: what each formula says, and that step 0 is the student."""

from pathlib import Path
from typing import Any

import pytest
import torch
from support.starts import token_examples
from support.tiny import tiny_model
from torch import Tensor

from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.errors import ConfigError, DataError, NumericsError, RankError
from paraknow_core.finetuning.finetune import finetune
from paraknow_core.finetuning.recipe import FineTuningRecipe
from paraknow_core.initialisation import from_samples as student_data
from paraknow_core.initialisation.start_request import StartOptions
from paraknow_core.initialisation.student import (
    METHODS_OF_STUDENT,
    StudentStart,
    student_start,
)
from paraknow_core.lora.adapter import WEIGHTS, Adapter
from paraknow_core.lora.adapter_reader import read_adapter
from paraknow_core.lora.anchored_model import trainable_model
from paraknow_core.methods import METHODS
from paraknow_core.models.describe import MATRIX_ROLES, Role, describe
from paraknow_core.models.load import load_model
from paraknow_core.partial_results import PartialResults
from paraknow_core.svd.minor import minor_components

RANK, ALPHA = 4, 12.0
EMBEDDING = "model.embed_tokens"


@pytest.fixture(scope="module")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("student"), "llama", layers=2, seed=3)


@pytest.fixture(scope="module")
def tied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_model(tmp_path_factory.mktemp("tied"), "qwen2", layers=1, tied=True, seed=3)


def start(student: Path, folder: Path, method: str, **changes: Any) -> StudentStart:
    given: dict[str, Any] = {
        "roles": MATRIX_ROLES,
        "rank": RANK,
        "alpha": ALPHA,
        "seed": 0,
        "samples": token_examples(12),
    }
    return student_start(student, folder, method=method, **{**given, **changes})


def weight_of(student: Path, module: str) -> Tensor:
    return load_model(student).get_submodule(module).weight.detach().double()


def logits(model: Any) -> Tensor:
    ids = torch.tensor([[1, 7, 9, 11, 13, 22], [1, 50, 4, 33, 7, 8]])
    with torch.no_grad():
        found: Tensor = model(input_ids=ids).logits
    return found


@pytest.mark.parametrize("which", ["student", "tied"])
@pytest.mark.parametrize("method", METHODS_OF_STUDENT)
def test_step_0_is_the_vanilla_student_and_all_roles_are_adapted(
    request: pytest.FixtureRequest, which: str, method: str, tmp_path: Path
) -> None:
    folder: Path = request.getfixturevalue(which)
    made = start(folder, tmp_path, method)
    trained = trainable_model(load_model(folder), made.adapter, dropout=0.0).eval()
    difference = logits(trained) - logits(load_model(folder))
    assert float(difference.abs().max()) < 1e-5
    architecture = describe(folder)
    wanted = {t.name.removesuffix(".weight") for t in architecture.tensors if len(t.shape) == 2}
    assert set(made.adapter.factors) == wanted
    assert made.plain == ((EMBEDDING,) if method == "eva" else ())
    assert (made.adapter.rank, made.adapter.alpha) == (RANK, ALPHA)


@pytest.mark.parametrize("method", ["olora", "eva", "corda", "lora-ga"])
@pytest.mark.parametrize("family", ["gpt2", "gpt_neox", "phi3"])
def test_fused_and_transposed_matrices_are_adapted_whole(
    family: str, method: str, tmp_path: Path
) -> None:
    folder = tiny_model(tmp_path / "student", family, layers=1)
    made = start(folder, tmp_path / "start", method)
    trained = trainable_model(load_model(folder), made.adapter, dropout=0.0).eval()
    assert float((logits(trained) - logits(load_model(folder))).abs().max()) < 1e-5
    assert set(made.adapter.factors) == set(describe(folder).modules(MATRIX_ROLES))
    assert read_adapter(tmp_path / "start").fan_in_fan_out == (family == "gpt2")


@pytest.mark.parametrize("method", METHODS_OF_STUDENT)
def test_the_delivered_adapter_is_the_trained_model(
    student: Path, method: str, tmp_path: Path
) -> None:
    start(student, tmp_path / "start", method)
    result = finetune(
        student_folder=student,
        start_folder=tmp_path / "start",
        train=token_examples(16, seed=5),
        out_folder=tmp_path / "out",
        partial=PartialResults(tmp_path / "work"),
        recipe=FineTuningRecipe(learning_rate=5e-3, batch_size=8, epochs=2),
    )
    assert result.load_back.max_difference < 1e-4
    assert result.adapter.rank == (RANK if method == "eva" else 2 * RANK)
    assert all(bool(result.adapter.delta(m).any()) for m in result.adapter.factors)


@pytest.mark.parametrize("module", [EMBEDDING, "lm_head", "model.layers.1.mlp.down_proj"])
def test_pissa_is_the_best_fit_with_the_singular_values_half_on_each_side(
    student: Path, module: str, tmp_path: Path
) -> None:
    made = start(student, tmp_path, "pissa").adapter
    u, s, vh = torch.linalg.svd(weight_of(student, module), full_matrices=False)
    best = (u[:, :RANK] * s[:RANK]) @ vh[:RANK]
    torch.testing.assert_close(made.delta(module).double(), best, rtol=1e-4, atol=1e-5)
    a_RN, b_MR = made.factors[module]
    half = (s[:RANK] * RANK / ALPHA).sqrt().float()
    torch.testing.assert_close(a_RN.norm(dim=1), half, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(b_MR.norm(dim=0), half, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("module", [EMBEDDING, "lm_head", "model.layers.0.self_attn.k_proj"])
def test_milora_is_the_minor_part(student: Path, module: str, tmp_path: Path) -> None:
    made = start(student, tmp_path, "milora").adapter
    u, s, vh = torch.linalg.svd(weight_of(student, module), full_matrices=False)
    minor = (u[:, -RANK:] * s[-RANK:]) @ vh[-RANK:]
    torch.testing.assert_close(made.delta(module).double(), minor, rtol=1e-4, atol=1e-6)


def test_minor_components_hold_where_the_gram_matrix_would_not() -> None:
    """Singular values from 1 down to 1e-6: squared, the least is beyond float32 by far."""
    generator = torch.Generator().manual_seed(0)
    u, _ = torch.linalg.qr(torch.randn(40, 20, generator=generator, dtype=torch.float64))
    v, _ = torch.linalg.qr(torch.randn(20, 20, generator=generator, dtype=torch.float64))
    s = torch.logspace(0, -6, 20, dtype=torch.float64)
    for weight in ((u * s) @ v.T, ((u * s) @ v.T).T):
        found_u, found_s, found_vh = minor_components(weight, rank=3)
        torch.testing.assert_close(found_s.double(), s[-3:], rtol=1e-6, atol=0)
        product = (found_u.double() * found_s.double()) @ found_vh.double()
        left, right = (u, v) if weight.shape[0] == 40 else (v, u)
        torch.testing.assert_close(
            product, (left[:, -3:] * s[-3:]) @ right[:, -3:].T, atol=1e-11, rtol=1e-5
        )


def test_olora_has_orthonormal_b_and_the_first_rows_of_the_triangle(
    student: Path, tmp_path: Path
) -> None:
    module = "model.layers.0.mlp.up_proj"
    a_RN, b_MR = start(student, tmp_path, "olora").adapter.factors[module]
    torch.testing.assert_close(b_MR.T @ b_MR, torch.eye(RANK), rtol=0, atol=1e-5)
    fit = b_MR.double() @ (b_MR.T.double() @ weight_of(student, module))
    torch.testing.assert_close((b_MR @ a_RN).double(), fit, rtol=1e-4, atol=1e-5)
    assert float(a_RN.tril(-1).abs().max()) == 0


def inputs_of(student: Path, module: str, samples: list[TokenisedExample], *, answers: bool) -> Any:
    """Each sample's inputs of a module: the slow reference."""
    model, seen = load_model(student), []
    hook = model.get_submodule(module).register_forward_hook(
        lambda _m, args, _out: seen.append(args[0][0])
    )
    with torch.no_grad():
        for sample in samples:
            model(input_ids=torch.tensor([sample.input_ids]))
    hook.remove()
    if not answers:
        return seen
    masks = [torch.tensor([label != NO_LOSS for label in s.labels]) for s in samples]
    return [x[mask] for x, mask in zip(seen, masks, strict=True)]


@pytest.mark.parametrize("answers", [True, False])
def test_eva_starts_where_inputs_vary_most_and_changes_nothing(
    student: Path, answers: bool, tmp_path: Path
) -> None:
    module, samples = "model.layers.1.self_attn.q_proj", token_examples(40, seed=2)
    options = StartOptions(eva_answers_only=answers)
    made = start(student, tmp_path, "eva", samples=samples, options=options).adapter
    a_RN, b_MR = made.factors[module]
    assert made.is_zero
    assert not b_MR.any()
    torch.testing.assert_close(a_RN @ a_RN.T, torch.eye(RANK), rtol=0, atol=1e-4)
    tokens = torch.cat(inputs_of(student, module, samples, answers=answers)).double()
    centred = tokens - tokens.mean(0)
    best = torch.linalg.svd(centred, full_matrices=False).S[:RANK].square().sum()
    assert float((centred @ a_RN.T.double()).square().sum() / best) > 0.9


@pytest.mark.parametrize("mode", ["ipm", "kpm"])
def test_corda_is_the_svd_of_the_weight_times_the_inputs_covariance(
    student: Path, mode: str, tmp_path: Path
) -> None:
    samples = token_examples(40, seed=2)
    options = StartOptions(corda_mode=mode)
    made = start(student, tmp_path, "corda", samples=samples, options=options).adapter
    module = "model.layers.1.mlp.down_proj"
    per_sample = [
        x.double() / x.max().abs() for x in inputs_of(student, module, samples, answers=False)
    ]
    covariance = torch.stack([x.T @ x for x in per_sample]).mean(0)
    expected = corda_reference(weight_of(student, module), covariance, mode)
    torch.testing.assert_close(made.delta(module).double(), expected, rtol=2e-2, atol=2e-3)


@pytest.mark.parametrize("mode", ["ipm", "kpm"])
def test_corda_of_an_embedding_is_the_same_formula_on_one_hot_inputs(
    student: Path, mode: str, tmp_path: Path
) -> None:
    samples = token_examples(40, seed=2)
    options = StartOptions(corda_mode=mode)
    made = start(student, tmp_path, "corda", samples=samples, options=options).adapter
    one_hot = [torch.eye(64).double()[list(s.input_ids)] for s in samples]
    covariance = torch.stack([x.T @ x for x in one_hot]).mean(0)
    expected = corda_reference(weight_of(student, EMBEDDING).T, covariance, mode).T
    torch.testing.assert_close(made.delta(EMBEDDING).double(), expected, rtol=1e-2, atol=1e-3)


def corda_reference(weight: Tensor, covariance: Tensor, mode: str) -> Tensor:
    """Arxiv 2406.05223, eq. 3 to 5, with PEFT's damping."""
    damped = covariance + 0.01 * covariance.diagonal().mean() * torch.eye(len(covariance))
    u, s, vh = torch.linalg.svd(weight @ damped, full_matrices=False)
    part = slice(0, RANK) if mode == "ipm" else slice(len(s) - RANK, len(s))
    return (u[:, part] * s[part]) @ vh[part] @ torch.linalg.inv(damped)


@pytest.mark.parametrize("module", [EMBEDDING, "lm_head", "model.layers.0.mlp.gate_proj"])
def test_lora_ga_has_the_gradients_vectors_at_the_papers_scale(
    student: Path, module: str, tmp_path: Path
) -> None:
    samples = token_examples(12, seed=4)
    made = start(student, tmp_path, "lora-ga", samples=samples).adapter
    gradient = mean_gradient(student, module, samples)
    a_RN, b_MR = made.factors[module]
    out_features = gradient.shape[0]
    if module == EMBEDDING:  # a map of one-hot rows: hidden × vocabulary
        gradient, out_features = gradient.T, gradient.shape[1]
        a_RN, b_MR = b_MR.T, a_RN.T
    u, _, vh = torch.linalg.svd(gradient, full_matrices=False)
    scale = out_features**0.25 / 16**0.5
    overlap_a = (vh[:RANK].float() @ a_RN.T / scale).abs()
    overlap_b = (u[:, RANK : 2 * RANK].T.float() @ b_MR / scale).abs()
    torch.testing.assert_close(overlap_a, torch.eye(RANK), rtol=0, atol=1e-2)
    torch.testing.assert_close(overlap_b, torch.eye(RANK), rtol=0, atol=1e-2)


def mean_gradient(student: Path, module: str, samples: list[TokenisedExample]) -> Tensor:
    model = load_model(student)
    for sample in samples:
        ids, labels = torch.tensor([sample.input_ids]), torch.tensor([sample.labels])
        model(input_ids=ids, labels=labels).loss.backward()
    grad: Tensor = model.get_submodule(module).weight.grad
    return grad.double() / len(samples)


@pytest.mark.parametrize("method", METHODS_OF_STUDENT)
def test_a_seed_gives_the_same_bytes_and_another_seed_others_where_something_is_drawn(
    student: Path, method: str, tmp_path: Path
) -> None:
    torch.manual_seed(99)
    before = torch.random.get_rng_state()
    for name, seed in (("first", 0), ("again", 0), ("other", 1)):
        start(student, tmp_path / name, method, seed=seed)
    first, again, other = (
        (tmp_path / name / WEIGHTS).read_bytes() for name in ("first", "again", "other")
    )
    assert first == again
    assert (first != other) == METHODS[method].draws
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.parametrize("method", ["pissa", "milora", "corda"])
def test_the_product_does_not_depend_on_alpha(student: Path, method: str, tmp_path: Path) -> None:
    made = [start(student, tmp_path / str(a), method, alpha=a).adapter for a in (4.0, 12.0)]
    for module in made[0].factors:
        torch.testing.assert_close(*(m.delta(module) for m in made), rtol=1e-4, atol=1e-5)


def test_only_the_wanted_roles_are_adapted(student: Path, tmp_path: Path) -> None:
    made: Adapter = start(student, tmp_path, "lora-ga", roles=[Role.Q, Role.DOWN]).adapter
    assert {module.rpartition(".")[2] for module in made.factors} == {"q_proj", "down_proj"}
    assert not made.embeddings


@pytest.mark.parametrize(
    ("method", "changes", "error", "says"),
    [
        ("pisa", {}, ConfigError, "did you mean 'pissa'"),
        ("pissa", {"rank": 0}, RankError, "Rank 0 was asked for"),
        ("pissa", {"rank": 17}, RankError, "allows 1..16"),
        ("lora-ga", {"rank": 9}, RankError, "above 8"),
        ("milora", {"alpha": 0.0}, ConfigError, "alpha is 0.0"),
        ("corda", {"samples": ()}, ConfigError, "'corda' looks at seed samples; none"),
        ("corda", {"options": StartOptions(corda_mode="x")}, ConfigError, "ipm and kpm"),
        ("eva", {"samples": token_examples(1)}, DataError, "eva_answers_only: false"),
    ],
)  # fmt: skip
def test_what_cannot_work_is_refused(
    student: Path, method: str, changes: Any, error: type[Exception], says: str, tmp_path: Path
) -> None:
    with pytest.raises(error, match=says):
        start(student, tmp_path, method, **changes)


def test_eva_that_does_not_settle_ends(
    student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(student_data, "_PASSES", 1)
    with pytest.raises(NumericsError, match="4 directions have not settled"):
        start(student, tmp_path, "eva")


def test_the_registry_of_methods_knows_exactly_these() -> None:
    kinds = {name for name, method in METHODS.items() if method.is_student_start}
    assert kinds == set(METHODS_OF_STUDENT)
