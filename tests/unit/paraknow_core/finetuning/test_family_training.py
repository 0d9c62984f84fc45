"""Every family from its start point to its adapter, and pairs of two families."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from support.starts import token_examples, transfer_start
from support.tiny import FAMILIES, tiny_model, tiny_samples
from support.transfer import start_of, trained_and_delivered, transferred_weights

from paraknow_core.alignment.matrices import match_matrices, skipped_roles
from paraknow_core.data.batches import collate
from paraknow_core.data.examples import NO_LOSS
from paraknow_core.errors import ConfigError
from paraknow_core.finetuning.batches import next_token_logits, predictions
from paraknow_core.initialisation.student import METHODS_OF_STUDENT, student_start
from paraknow_core.lora.adapter import CONFIG
from paraknow_core.lora.adapter_reader import read_adapter
from paraknow_core.lora.anchored_model import merge_into, quiet_peft
from paraknow_core.lora.merge import write_merged
from paraknow_core.lora.start_point import plain_start
from paraknow_core.models.describe import MATRIX_ROLES, Architecture, Role, describe
from paraknow_core.models.load import load_model
from paraknow_core.models.matrices import take
from paraknow_core.models.modules import logical

FUSED = ("phi3", "gpt_neox", "gpt2")


ALL = [str(role) for role in MATRIX_ROLES]


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return next_token_logits(model.eval(), collate(token_examples(6)))


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_step_zero_is_the_student_and_the_adapter_is_what_was_trained(tmp_path, family, tied):
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    student = tiny_model(tmp_path / "student", family, layers=1, tied=tied)
    start = transfer_start(student, tmp_path / "start", rank=2)
    vanilla = logits(load_model(student))
    before, after = trained_and_delivered(student, start, tmp_path / "out")
    assert (before - vanilla).abs().max() < 1e-5
    assert (after - vanilla).abs().max() > 1e-2
    assert read_adapter(tmp_path / "out").rank == 4
    with quiet_peft():
        user = AutoModelForCausalLM.from_pretrained(student)
        user = PeftModel.from_pretrained(user, tmp_path / "out")
    assert (logits(user) - after).abs().max() < 1e-5
    batch = collate(token_examples(6))
    with torch.no_grad():
        answers_NV, tokens_N = predictions(user, batch)
    predicted_BT = batch["labels"][:, 1:] != NO_LOSS
    assert (answers_NV - after[:, :-1][predicted_BT]).abs().max() < 1e-5
    assert torch.equal(tokens_N, batch["labels"][:, 1:][predicted_BT])
    merged = load_model(student)
    merge_into(merged, read_adapter(tmp_path / "out"))
    assert (logits(merged) - after).abs().max() < 1e-5


@pytest.mark.parametrize(
    ("teacher", "student", "student_facts"),
    [
        ("llama", "gpt2", {"tied": True}),
        ("gpt_neox", "llama", {}),
        ("gemma2", "qwen3", {"tied": True, "head_dim": 4}),
        ("gpt2", "phi3", {"kv_heads": 1}),
        ("phi3", "gpt_neox", {"kv_heads": 4}),
        ("olmo2", "gemma3_text", {"tied": True, "head_dim": 4}),
    ],
)
def test_a_pair_of_two_families(tmp_path, teacher, student, student_facts):
    big = tiny_model(tmp_path / "t", teacher, hidden=48, ffn=96, layers=3, kv_heads=4, seed=1)
    small = tiny_model(tmp_path / "s", student, layers=2, seed=2, **student_facts)
    source, target = describe(big), describe(small)
    weights = transferred_weights(big, small, tmp_path)
    skipped = skipped_roles(source, target, roles=ALL)
    shared = [role for role in MATRIX_ROLES if str(role) not in skipped]
    assert set(weights) == set(target.modules(shared))
    check_weights_are_the_teachers(weights, source, target, big)
    start = start_of(weights, target, tmp_path / "start")
    before, after = trained_and_delivered(small, start, tmp_path / "out")
    assert (before - logits(load_model(small))).abs().max() < 1e-5

    from peft import PeftModel

    with quiet_peft():
        user = PeftModel.from_pretrained(load_model(small), tmp_path / "out")
    assert (logits(user) - after).abs().max() < 1e-5
    assert (after - before).abs().max() > 1e-2


def check_weights_are_the_teachers(weights, source: Architecture, target, big: Path) -> None:
    """Each role's rows are a contiguous window of the teacher's matrix of that role, or zero."""
    model = load_model(big)
    assert set(target.modules(target.roles)) - set(weights) <= {
        target.module_of(Role.GATE, layer) for layer in range(2) if Role.GATE in target.roles
    }
    for module in weights:
        for matrix in (m for m in target.matrices if m.module == module):
            stored = weights[module].T if matrix.transposed else weights[module]
            part = take(stored, matrix)
            role = Role.EMBED if matrix.role is Role.HEAD and source.tied else matrix.role
            if role not in source.roles:
                assert not part.any()
                continue
            whole = source.matrix(role, None if matrix.layer is None else matrix.layer + 1)
            layer = model.get_submodule(whole.module)
            teacher = take(layer.weight.detach(), whole)
            assert tuple(logical(layer.weight, layer).shape) == whole.whole
            first_row = (teacher[:, :, None] == part[0, 0]).nonzero()[:, :2].tolist()
            rows, cols = part.shape
            assert any(torch.equal(teacher[r : r + rows, c : c + cols], part) for r, c in first_row)


def test_roles_that_one_side_lacks_are_skipped_with_a_reason(tmp_path):
    llama = describe(tiny_model(tmp_path / "llama"))
    gpt2 = describe(tiny_model(tmp_path / "gpt2", "gpt2", layers=2, tied=True))
    assert skipped_roles(llama, gpt2, roles=ALL) == {
        "gate": "the student (gpt2) has no such matrix",
        "head": "tied to the student's embedding, which carries it",
    }
    assert skipped_roles(gpt2, llama, roles=["gate", "up"]) == {
        "gate": "the teacher (gpt2) has no such matrix"
    }
    assert {m.role for m in match_matrices(gpt2, llama, layers=[0, 1, 0], roles=ALL)} == (
        set(MATRIX_ROLES) - {Role.GATE}
    )
    with pytest.raises(ConfigError, match=r"gate: the teacher \(gpt2\) has no such matrix"):
        match_matrices(gpt2, llama, layers=[0, 1, 0], roles=["gate"])
    with pytest.raises(ConfigError, match="unknown: norm, qkv"):
        match_matrices(gpt2, llama, layers=[0, 1, 0], roles=["q", "qkv", "norm"])


@pytest.mark.parametrize("family", FUSED)
def test_plain_lora_of_one_role_adapts_the_module_it_is_in(tmp_path, family):
    student = tiny_model(tmp_path / "s", family, layers=1)
    adapter = plain_start(student, tmp_path / "p", roles=[Role.K], rank=2, alpha=2.0, seed=0)
    matrix = describe(student).matrix(Role.K, 0)
    assert list(adapter.factors) == [matrix.module]
    assert adapter.delta(matrix.module).shape == matrix.whole
    assert adapter.fan_in_fan_out == (family == "gpt2")
    assert json.loads((tmp_path / "p" / CONFIG).read_text())["fan_in_fan_out"] == (family == "gpt2")


@pytest.mark.parametrize(("roles", "expected"), [(ALL[1:-1], []), (ALL, ["torch.nn.Linear"])])
def test_peft_warns_of_conv1d_only_where_a_linear_head_is_beside_it(tmp_path, roles, expected):
    from peft import PeftModel

    student = tiny_model(tmp_path / "s", "gpt2", layers=2)
    plain_start(student, tmp_path / "p", roles=[Role(r) for r in roles], rank=2, alpha=2.0, seed=0)
    model = load_model(student)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        PeftModel.from_pretrained(model, tmp_path / "p")
    about = [str(w.message) for w in caught if "fan_in_fan_out" in str(w.message)]
    assert len(about) == len(expected)
    assert all(word in text for word, text in zip(expected, about, strict=True))


@pytest.mark.parametrize(
    ("family", "method"),
    [("gpt2", method) for method in sorted(METHODS_OF_STUDENT)] + [("gemma2", "lora-ga")],
)
def test_start_points_without_a_teacher(tmp_path, family, method):
    student = tiny_model(tmp_path / "s", family, layers=1, tied=True)
    facts = {"roles": MATRIX_ROLES, "rank": 2, "alpha": 2.0, "seed": 0, "samples": tiny_samples(8)}
    start = student_start(student, tmp_path / "start", method=method, **facts).adapter
    architecture = describe(student)
    assert set(start.factors) == set(architecture.modules(architecture.roles))
    assert start.fan_in_fan_out == (family == "gpt2")
    before, _ = trained_and_delivered(student, start, tmp_path / "out")
    assert (before - logits(load_model(student))).abs().max() < 1e-5
    if method == "pissa":
        matrix = architecture.matrix(Role.K, 0)
        u, s, vh = torch.linalg.svd(load_model(student).get_submodule(matrix.module).weight.T)
        best = u[:, :2] * s[:2] @ vh[:2]
        assert torch.allclose(start.delta(matrix.module), best, atol=1e-5)


@pytest.mark.parametrize("family", ["gpt2", "gpt_neox"])
def test_a_merged_checkpoint_of_a_family_with_names_of_its_own(tmp_path, family):
    from transformers import AutoModelForCausalLM

    student = tiny_model(tmp_path / "s", family, layers=1, tied=family == "gpt2")
    start = transfer_start(student, tmp_path / "start", rank=2)
    _, after = trained_and_delivered(student, start, tmp_path / "out")
    (tmp_path / "merged").mkdir()
    write_merged(student, read_adapter(tmp_path / "out"), tmp_path / "merged")
    merged = AutoModelForCausalLM.from_pretrained(tmp_path / "merged")
    assert (logits(merged) - after).abs().max() < 1e-5
    assert describe(tmp_path / "merged").tied == (family == "gpt2")
