"""Families that differ from Llama: fused and transposed matrices, ties, names, and mixed pairs."""

import json
import warnings
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.starts import token_examples, transfer_start
from support.tiny import FAMILIES, UNGATED, tiny_model, tiny_samples
from support.transfer import start_of, trained_and_delivered, transferred_weights

from paraknow_core.adapter_files import CONFIG, read_adapter
from paraknow_core.adapters import plain_start
from paraknow_core.anchor import merge_into, quiet_peft
from paraknow_core.architecture import MATRIX_ROLES, Architecture, Role, describe
from paraknow_core.checkpoints import Checkpoint
from paraknow_core.errors import ArchitectureError, CheckpointError, ConfigError, ShapeError
from paraknow_core.layers import logical
from paraknow_core.matrices import assemble, read_matrix, take
from paraknow_core.models import load_model
from paraknow_core.pairing import match_matrices, skipped_roles
from paraknow_core.sensitivity import accumulate, score_table, write_maps
from paraknow_core.training_batches import collate, next_token_logits

FUSED = ("phi3", "gpt_neox", "gpt2")
ALL = [str(role) for role in MATRIX_ROLES]


def edit_config(folder: Path, *, without: tuple[str, ...] = (), **changes: object) -> None:
    path = folder / "config.json"
    config = json.loads(path.read_text()) | changes
    path.write_text(json.dumps({k: v for k, v in config.items() if k not in without}))


def rewrite(folder: Path, rename, **extra: torch.Tensor) -> None:
    path = folder / "model.safetensors"
    save_file({**{rename(n): t for n, t in load_file(path).items()}, **extra}, path)


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return next_token_logits(model.eval(), collate(token_examples(6)))


def split_as_the_class_does(family: str, model, x_TN: torch.Tensor) -> dict[Role, torch.Tensor]:
    """The outputs of layer 1's projections for an input, cut up as in the modelling code."""
    with torch.no_grad():
        if family == "phi3":
            layer = model.model.layers[1]
            q, k, v = layer.self_attn.qkv_proj(x_TN).split([32, 16, 16], dim=-1)
            gate, up = layer.mlp.gate_up_proj(x_TN).chunk(2, dim=-1)
            return dict(zip(MATRIX_ROLES[1:4], (q, k, v), strict=True)) | {
                Role.GATE: gate,
                Role.UP: up,
            }
        if family == "gpt2":
            fused = model.transformer.h[1].attn.c_attn
            parts = (fused(x_TN) - fused.bias).split(32, dim=-1)
        else:
            fused = model.gpt_neox.layers[1].attention.query_key_value
            by_head = (fused(x_TN) - fused.bias).view(len(x_TN), 4, 3 * 8)
            parts = [part.flatten(1) for part in by_head.chunk(3, dim=-1)]
        return dict(zip(MATRIX_ROLES[1:4], parts, strict=True))


@pytest.mark.parametrize("family", FUSED)
def test_a_role_in_a_fused_module_computes_what_the_class_computes(tmp_path, family):
    folder = tiny_model(tmp_path, family)
    architecture = describe(folder)
    x_TN = torch.randn(5, 32, generator=torch.Generator().manual_seed(0))
    expected = split_as_the_class_does(family, load_model(folder), x_TN)
    with Checkpoint(folder) as weights:
        for role, output in expected.items():
            matrix = architecture.matrix(role, 1)
            weight = read_matrix(weights, matrix, slice(None), slice(None))
            assert tuple(weight.shape) == matrix.shape
            assert matrix.is_fused
            assert torch.allclose(x_TN @ weight.T, output, atol=1e-5)


@pytest.mark.parametrize("family", FUSED)
def test_any_part_of_a_fused_matrix_and_back(tmp_path, family):
    folder = tiny_model(tmp_path, family)
    architecture = describe(folder)
    rows, cols = torch.tensor([9, 0, 15, 9]), torch.tensor([31, 2])
    with Checkpoint(folder) as weights:
        for matrices in architecture.modules(architecture.roles).values():
            stored = weights.read(matrices[0].name)
            parts = []
            for matrix in matrices:
                whole = read_matrix(weights, matrix, slice(None), slice(None))
                parts.append((matrix, whole))
                assert torch.equal(take(stored, matrix), whole)
                for r in (rows, slice(3, 14), slice(5, 5), rows[:0]):
                    for c in (cols, slice(1, 30)):
                        part = read_matrix(weights, matrix, r, c)
                        assert torch.equal(part, whole[r][:, c])
                        assert part.is_contiguous()
                if matrix.is_fused:
                    with pytest.raises(CheckpointError, match=f"{matrix.role} matrix"):
                        read_matrix(weights, matrix, slice(0, matrix.shape[0] + 1), cols)
            logical_WN = stored.T if matrices[0].transposed else stored
            assert torch.equal(assemble(parts), logical_WN)
            without = assemble(parts[1:]) if len(parts) > 1 else None
            if without is not None:
                assert not take(without.T if matrices[0].transposed else without, matrices[0]).any()
                assert torch.equal(without.abs().sum(), sum_of(parts[1:]))


def sum_of(parts) -> torch.Tensor:
    return assemble(parts).abs().sum()


def test_parts_of_two_modules_do_not_go_together(tmp_path):
    architecture = describe(tiny_model(tmp_path, "phi3"))
    q, up = architecture.matrix(Role.Q, 0), architecture.matrix(Role.UP, 0)
    with pytest.raises(ShapeError, match=r"gate_up_proj.*as part of .*qkv_proj"):
        assemble([(q, torch.zeros(q.shape)), (up, torch.zeros(up.shape))])
    with pytest.raises(ShapeError, match=r"\(2, 2\)"):
        assemble([(q, torch.zeros(2, 2))])


@pytest.mark.parametrize("family", FAMILIES)
def test_sensitivity_is_scored_by_role(tmp_path, family):
    """Maps keep the checkpoint's names; a fused map counts for each role with its rows."""
    folder = tiny_model(tmp_path / "model", family, layers=2)
    architecture = describe(folder)
    maps = accumulate(load_model(folder), tiny_samples(2))
    write_maps(maps, tmp_path / "maps", architecture)
    table = score_table(maps, architecture)
    with Checkpoint(tmp_path / "maps") as scores, Checkpoint(folder) as weights:
        assert scores.names == weights.names
        for role in set(architecture.roles) - {Role.EMBED, Role.HEAD}:
            for layer in range(2):
                part = read_matrix(
                    scores, architecture.matrix(role, layer), slice(None), slice(None)
                )
                assert table["roles"][role][layer] == pytest.approx(
                    float(part.double().sum()), rel=1e-12
                )
    in_layers = [m for n, m in maps.items() if ".layers.0." in n or ".h.0." in n]
    assert table["layers"][0] == pytest.approx(sum(float(m.double().sum()) for m in in_layers))
    assert set(table["roles"]) <= {*ALL, "norm", "bias"}


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


def test_gpt2_as_the_hub_has_it(tmp_path):
    """Names without their prefix, the causal mask as a buffer, and no word about the tie."""
    folder = tiny_model(tmp_path, "gpt2", tied=True)
    expected = logits(load_model(folder))
    before = describe(folder)
    mask = {f"h.{i}.attn.bias": torch.ones(1, 1, 8, 8).tril() for i in range(3)}
    rewrite(folder, lambda name: name.removeprefix("transformer."), **mask)
    edit_config(folder, without=("tie_word_embeddings",))
    after = describe(folder)
    assert after.tensors[0].name == "wte.weight"
    assert after.tied
    assert [t.parameter for t in after.tensors] == [t.parameter for t in before.tensors]
    assert after.matrix(Role.Q, 1).module == "transformer.h.1.attn.c_attn"
    assert after.matrix(Role.Q, 1).name == "h.1.attn.c_attn.weight"
    assert Architecture.from_json(json.loads(json.dumps(after.to_json()))) == after
    assert torch.equal(logits(load_model(folder)), expected)
    with Checkpoint(folder) as weights:
        part = read_matrix(weights, after.matrix(Role.UP, 2), slice(1, 3), slice(None))
    assert torch.equal(part, load_file(folder / "model.safetensors")["h.2.mlp.c_fc.weight"].T[1:3])
    rewrite(folder, lambda name: name, **{"transformer.wte.weight": torch.zeros(64, 32)})
    with pytest.raises(CheckpointError, match=r"'wte.weight'.*no part"):
        describe(folder)


def test_pythia_as_the_hub_has_it(tmp_path):
    folder = tiny_model(tmp_path, "gpt_neox")
    before = describe(folder)
    assert (before.matrix(Role.HEAD).name, before.matrix(Role.HEAD).module) == (
        "embed_out.weight",
        "lm_head",
    )
    expected = logits(load_model(folder))
    layer = "gpt_neox.layers.0.attention."
    rewrite(
        folder,
        lambda name: name.replace("lm_head", "embed_out"),
        **{
            layer + "bias": torch.ones(1, 1, 8, 8, dtype=torch.bool),
            layer + "masked_bias": torch.tensor(-1e9),
            layer + "rotary_emb.inv_freq": torch.ones(1),
        },
    )
    edit_config(folder, rotary_pct=0.25, rotary_emb_base=10000, without=("rope_parameters",))
    assert describe(folder) == before
    assert torch.equal(logits(load_model(folder)), expected)
    rewrite(folder, lambda name: name.replace("embed_out", "lm_head"))
    assert describe(folder).matrix(Role.HEAD).name == "lm_head.weight"


def test_what_the_config_leaves_out_is_as_in_the_familys_class(tmp_path):
    for family, tied in (("gemma2", True), ("gemma3_text", True), ("gpt2", True), ("phi3", False)):
        folder = tiny_model(tmp_path / family, family, layers=1, tied=tied, ffn=128)
        before = describe(folder)
        edit_config(folder, without=("tie_word_embeddings", "n_inner"))
        assert describe(folder) == before
        load_model(folder)
    edit_config(tmp_path / "gpt2", n_inner=None)
    assert describe(tmp_path / "gpt2").intermediate_size == 128
    edit_config(tmp_path / "gpt2", without=("n_embd",))
    with pytest.raises(ArchitectureError, match="n_embd must be given"):
        describe(tmp_path / "gpt2")


def test_options_of_a_family_reach_its_class_and_are_checked(tmp_path):
    folder = tiny_model(tmp_path, "gemma3_text", tied=True, query_pre_attn_scalar=16)
    expected = logits(load_model(folder))
    edit_config(folder, query_pre_attn_scalar=64)
    assert not torch.allclose(logits(load_model(folder)), expected, atol=1e-3)
    edit_config(folder, query_pre_attn_scalar=16, final_logit_softcapping=0.01)
    assert logits(load_model(folder)).abs().max() <= 0.01
    edit_config(folder, final_logit_softcapping="high")
    with pytest.raises(ArchitectureError, match=r'final_logit_softcapping is "high"'):
        describe(folder)
    edit_config(folder, final_logit_softcapping=None, rope_parameters={"full_attention": {"a": {}}})
    with pytest.raises(ArchitectureError, match="one such object for each of"):
        describe(folder)


@pytest.mark.parametrize("family", [f for f in FAMILIES if f in (*FUSED, *UNGATED, "gemma2")])
def test_a_description_survives_as_json(tmp_path, family):
    architecture = describe(tiny_model(tmp_path, family, layers=1))
    again = Architecture.from_json(json.loads(json.dumps(architecture.to_json())))
    assert again == architecture
    assert again.matrices == architecture.matrices


@pytest.mark.parametrize(
    ("family", "changes", "words"),
    [
        ("gpt2", {"add_cross_attention": True}, ["cross-attention", "gpt2"]),
        ("gpt2", {"n_layer": 10**7}, ["n_layer is 10000000", "1..1024"]),
        ("phi3", {"model_type": "phimoe"}, ["mixture of experts"]),
        ("phi3", {"quantization_config": {"bits": 4}}, ["quantised"]),
        ("gemma3_text", {"model_type": "gemma3"}, ["vision-language wrapper", "gemma3_text"]),
        ("gemma2", {"model_type": "t5gemma"}, ["encoder-decoder"]),
    ],
)
def test_what_is_not_supported_is_refused_by_name(tmp_path, family, changes, words):
    folder = tiny_model(tmp_path, family, layers=1)
    edit_config(folder, **changes)
    for refuse in (describe, load_model):
        with pytest.raises(ArchitectureError) as caught:
            refuse(folder)
        assert all(word in str(caught.value) for word in words)
