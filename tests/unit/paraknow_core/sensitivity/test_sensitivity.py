import pytest
import torch
from support.naive_sensitivity import assert_close, naive
from support.tiny import FAMILIES, tiny_model
from support.tiny import tiny_samples as samples

from paraknow_core.data.examples import TokenisedExample
from paraknow_core.errors import ArchitectureError, DataError, NumericsError
from paraknow_core.models.load import load_model
from paraknow_core.sensitivity.accumulate import accumulate, answer_loss
from paraknow_core.sensitivity.gradient_sums import GradientSums
from paraknow_core.sensitivity.recompute import recomputed


@pytest.mark.parametrize("tied", [False, True])
@pytest.mark.parametrize("family", FAMILIES)
def test_equals_the_method_written_out(tmp_path, family, tied):
    folder = tiny_model(tmp_path, family, tied=tied, attention_bias=True)
    maps = accumulate(load_model(folder), samples())
    assert {m.dtype for m in maps.values()} == {torch.float32}
    assert_close(maps, naive(load_model(folder), samples()), 2e-5)


def test_small_tiles_change_nothing_but_rounding(tmp_path, monkeypatch):
    monkeypatch.setattr("paraknow_core.sensitivity.gradient_sums._TILE_ELEMENTS", {"cpu": 70})
    folder = tiny_model(tmp_path, "qwen2", tied=True)
    maps = accumulate(load_model(folder), samples())
    assert_close(maps, naive(load_model(folder), samples()), 2e-5)


@pytest.mark.parametrize("family", ["llama", "gemma2", "gpt2"])
def test_bf16_on_disk_in_both_compute_dtypes(tmp_path, family):
    folder = tiny_model(tmp_path, family, dtype=torch.bfloat16)
    reference = naive(load_model(folder), samples())
    assert_close(accumulate(load_model(folder), samples()), reference, 2e-5)
    maps = accumulate(load_model(folder, dtype=torch.bfloat16), samples())
    assert {m.dtype for m in maps.values()} == {torch.float32}
    assert_close(maps, reference, 0.05)


def test_a_model_in_training_mode_is_measured_without_dropout(tmp_path):
    folder = tiny_model(tmp_path)
    expected = accumulate(load_model(folder), samples())
    model = load_model(folder).train()
    model.config.attention_dropout = 0.5
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.5
    assert all(torch.equal(m, expected[n]) for n, m in accumulate(model, samples()).items())


def test_the_loss_is_that_of_transformers(tmp_path):
    model = load_model(tiny_model(tmp_path))
    gap = TokenisedExample((1, 20, 21, 22, 23, 24), (-100, 20, -100, 22, 23, -100))
    for example in [*samples(), gap]:
        ids, labels = torch.tensor([example.input_ids]), torch.tensor([example.labels])
        assert torch.allclose(
            answer_loss(model, example), model(input_ids=ids, labels=labels).loss, rtol=1e-5
        )


def test_the_loss_is_in_float32_whatever_the_model(tmp_path):
    model = load_model(tiny_model(tmp_path), dtype=torch.bfloat16)
    assert answer_loss(model, samples()[0]).dtype == torch.float32


def test_absolute_values_are_taken_per_sample(tmp_path):
    folder = tiny_model(tmp_path)
    together = accumulate(load_model(folder), samples(4))
    alone = [accumulate(load_model(folder), [s]) for s in samples(4)]
    for name, total in together.items():
        assert torch.allclose(total, sum(one[name] for one in alone), rtol=1e-4, atol=1e-9)


def test_the_model_is_handed_back_as_it_was(tmp_path):
    model = load_model(tiny_model(tmp_path, tied=True))
    model.model.norm.weight.requires_grad_(False)
    before = {n: (p.detach().clone(), p.requires_grad) for n, p in model.named_parameters()}
    accumulate(model, samples(2))
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name][0])
        assert parameter.requires_grad == before[name][1]
        assert parameter.grad is None
    assert not any(m._forward_hooks for m in model.modules())


def test_matrices_never_hold_a_gradient(tmp_path):
    model = load_model(tiny_model(tmp_path))
    with GradientSums(model):
        loss = answer_loss(model, samples()[0])
        loss.backward()
        assert all(p.grad is None for p in model.parameters())


def test_repeats_are_bit_equal_and_samples_are_reported(tmp_path):
    folder = tiny_model(tmp_path)
    seen = []
    first = accumulate(
        load_model(folder), samples(3), batch_tokens=0, progress=lambda *a: seen.append(a[:2])
    )
    second = accumulate(load_model(folder), samples(3), batch_tokens=0)
    assert all(torch.equal(first[n], second[n]) for n in first)
    assert seen == [(0, 3), (1, 3), (2, 3), (3, 3)]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_broken_weight_names_the_sample(tmp_path, value):
    model = load_model(tiny_model(tmp_path))
    with torch.no_grad():
        model.model.layers[1].mlp.up_proj.weight[0, 0] = value
    with pytest.raises(NumericsError, match=r"Sample 0\b.*loss"):
        accumulate(model, samples())


@pytest.mark.parametrize("together", [0, 1000])
def test_a_broken_gradient_names_sample_and_parameter(tmp_path, together):
    model = load_model(tiny_model(tmp_path))
    broken = samples()[2].input_ids[:-1]  # the last predicts nothing

    def poison(_module, inputs, _output):
        rows = [
            number
            for number, ids in enumerate(inputs[0].tolist())
            if tuple(ids[: len(broken)]) == broken
        ]
        if rows:
            hidden = model.model.layers[1].self_attn.q_proj

            def spoil(gradient):
                gradient = gradient.clone()
                gradient[rows] = float("inf")
                return gradient

            def once(_module, _inputs, output):
                handle.remove()
                output.register_hook(spoil)

            handle = hidden.register_forward_hook(once, prepend=True)

    model.model.embed_tokens.register_forward_hook(poison)
    with pytest.raises(NumericsError, match=r"Sample 2 .*model\.layers\.1\."):
        accumulate(model, samples(), batch_tokens=together)


def test_a_broken_weight_that_no_token_uses_is_found_at_the_end(tmp_path):
    model = load_model(tiny_model(tmp_path))
    with torch.no_grad():
        model.model.embed_tokens.weight[63] = float("nan")
    example = TokenisedExample((1, 20, 21), (-100, 20, 21))
    with pytest.raises(NumericsError, match=r"embed_tokens.*weights hold NaN"):
        accumulate(model, [example])


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (TokenisedExample((1, 2, 3), (-100, -100, -100)), "Sample 1 has no answer token"),
        (TokenisedExample((1, 2), (1, -100)), "Sample 1 has no answer token"),
        (TokenisedExample((), ()), "Sample 1 has no answer token"),
        (TokenisedExample((1, 2, 64), (-100, 2, 3)), r"Sample 1 has tokens 1..64.*0\.\.63"),
        (TokenisedExample((1, 2, 3), (-100, 2, 64)), r"tokens 1..64"),
        (TokenisedExample((1, -2, 3), (-100, 2, 3)), r"tokens -2"),
        (TokenisedExample((1, 2, 3), (-100, 2)), "3 input_ids and 2 labels"),
    ],
)
def test_bad_samples_are_refused_before_any_work(tmp_path, bad, message):
    model = load_model(tiny_model(tmp_path))
    seen = []
    with pytest.raises(DataError, match=message):
        accumulate(model, [samples()[0], bad], progress=lambda *a: seen.append(a))
    assert not seen


def test_no_samples_and_float16_are_refused(tmp_path):
    folder = tiny_model(tmp_path)
    with pytest.raises(DataError, match="at least one sample"):
        accumulate(load_model(folder), [])
    with pytest.raises(NumericsError, match=r"float16.*bfloat16"):
        accumulate(load_model(folder, dtype=torch.float16), samples())


def test_a_module_that_runs_twice_is_refused(tmp_path):
    model = load_model(tiny_model(tmp_path))
    model.model.layers[1].mlp = model.model.layers[0].mlp
    with pytest.raises(ArchitectureError, match=r"layers\.0\.mlp.*twice"):
        accumulate(model, samples(1))


@pytest.mark.parametrize("family", FAMILIES)
def test_long_samples_are_recomputed_to_the_same_bits(tmp_path, family):
    folder = tiny_model(tmp_path, family, tied=family in ("gemma2", "gpt2"))
    sizes = sorted(len(sample.input_ids) for sample in samples())
    expected, model = (
        accumulate(load_model(folder), samples(), batch_tokens=0),
        load_model(folder),
    )
    maps = accumulate(  # some of them, and some not
        model, samples(), recompute_from=sizes[2], batch_tokens=0
    )
    assert all(torch.equal(maps[name], each) for name, each in expected.items())
    assert not any("forward" in vars(module) for module in model.modules())


def test_a_recomputed_pass_keeps_the_layers_inputs_alone(tmp_path):
    model = load_model(tiny_model(tmp_path, layers=4))

    def kept(wanted):
        sizes = []

        def pack(tensor):
            sizes.append(tensor.nbytes)
            return tensor

        with (
            GradientSums(model),
            recomputed(model, wanted=wanted),
            torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        ):
            answer_loss(model, samples()[0])
        return sum(sizes)

    assert kept(wanted=True) < kept(wanted=False) / 3
