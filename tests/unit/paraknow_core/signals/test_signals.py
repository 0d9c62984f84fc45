"""Each signal against the obvious dense computation, on a tiny pair."""

from pathlib import Path

import pytest
import torch
from support.pair import write_pair
from support.starts import token_examples
from support.tiny import tiny_model

from paraknow_core.alignment.layers import layer_runs
from paraknow_core.alignment.tokens import TokenMatch
from paraknow_core.errors import ArchitectureError, DataError, NumericsError, ShapeError
from paraknow_core.lora.adapter import LoraFactors
from paraknow_core.models import logit_chunks
from paraknow_core.models.describe import Role, describe
from paraknow_core.models.load import load_model
from paraknow_core.signals.embedding_rows import embedding_rows, rows_change
from paraknow_core.signals.head_regression import head_regression
from paraknow_core.signals.request import SignalOptions, SignalRequest, both_read
from paraknow_core.signals.residual_regression import residual_regression
from paraknow_core.signals.whitened_distillation import distillation_sums, whitened_distillation
from paraknow_core.signals.write import divergences, modules_with_roles, signal_start

SHARED = TokenMatch(tuple(range(60)) + (-1,) * 4, 64)
"""Of 64 tokens the teacher lacks four."""
EVERY = TokenMatch(tuple(range(64)), 64)


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    return write_pair(tmp_path_factory.mktemp("pair"))


def request(folder: Path, *, match: TokenMatch = SHARED, student: str = "student", **changes):
    samples = token_examples(12, vocab=60)
    where = folder / student
    fields = {
        "teacher_folder": folder / "teacher",
        "student_folder": where,
        "student": describe(where),
        "modules": modules_with_roles(where, [Role(r) for r in describe(where).roles]),
        "texts": both_read(samples, match, answers_only=False),
        "match": match,
        "rank": 3,
        "options": SignalOptions(),
        "shuffle": None,
        "device": "cpu",
        "progress": lambda *_: None,
    }
    return SignalRequest(**fields | changes)


def log_probs(model, text) -> torch.Tensor:
    return model(input_ids=text.student_T[None]).logits[0, :, :60].log_softmax(-1)


def test_the_gradient_of_all_matrices_is_that_of_the_divergence(folder) -> None:
    asked = request(folder)
    sums = distillation_sums(asked)
    teacher, student = (load_model(folder / who) for who in ("teacher", "student"))
    for text in asked.texts:
        ours, theirs = log_probs(student, text), log_probs(teacher, text).detach()
        (theirs.exp() * (theirs - ours))[:-1].sum().backward()
    assert set(sums) == set(asked.modules) - {"model.embed_tokens"}
    for name, found in sums.items():
        wanted = -student.get_submodule(name).weight.grad.double()
        torch.testing.assert_close(found.ex_ON, wanted, rtol=1e-4, atol=1e-5)
        assert found.positions == sum(len(text.student_T) for text in asked.texts)


def test_the_head_by_regression_is_the_gradient_of_the_head(folder) -> None:
    asked = request(folder, rank=60)
    (by_states,) = head_regression(asked).values()
    assert by_states.b.shape == (64, 60)
    assert not by_states.b[60:].any()  # the teacher does not know these tokens
    student, teacher = load_model(folder / "student"), load_model(folder / "teacher")
    x, e = [], []
    for text in asked.texts:
        with torch.no_grad():
            states = student.get_decoder()(input_ids=text.student_T[None]).last_hidden_state[0]
            lacking = log_probs(teacher, text).exp() - log_probs(student, text).exp()
        x.append(states[:-1].double())
        e.append(lacking[:-1].double())
    big_x, big_e = torch.cat(x), torch.cat(e)
    by_gradient = distillation_sums(asked)["lm_head"].ex_ON[:60]
    torch.testing.assert_close(by_gradient, big_e.T @ big_x, rtol=1e-4, atol=1e-5)
    gram = big_x.T @ big_x
    full = torch.linalg.solve(
        gram + 0.01 * gram.diagonal().mean() * torch.eye(32).double(), big_x.T @ big_e
    ).T
    torch.testing.assert_close((by_states.b @ by_states.a)[:60], full, rtol=1e-4, atol=1e-5)


def test_long_texts_give_the_same_in_parts_and_never_all_logits(folder, monkeypatch) -> None:
    def found():
        asked = request(folder)
        sums = distillation_sums(asked)
        written = head_regression(request(folder, rank=60))["lm_head"]
        return sums, written, divergences(asked, {"lm_head": written})

    sums, written, told = found()
    few = 64 * 3
    monkeypatch.setattr(logit_chunks, "CHUNK_ELEMENTS", few)
    sizes: list[int] = []
    loaded = SignalRequest.model

    def watched(self, place):
        model = loaded(self, place)
        model.get_output_embeddings().register_forward_hook(
            lambda _module, _inputs, output: sizes.append(output.numel())
        )
        return model

    monkeypatch.setattr(SignalRequest, "model", watched)
    in_parts, its_head, its_told = found()
    assert 0 < max(sizes) <= few
    assert in_parts.keys() == sums.keys()
    for name, each in sums.items():
        torch.testing.assert_close(in_parts[name].ex_ON, each.ex_ON, rtol=1e-4, atol=1e-5)
        torch.testing.assert_close(in_parts[name].xx_NN, each.xx_NN, rtol=1e-4, atol=1e-5)
        assert in_parts[name].positions == each.positions
    torch.testing.assert_close(its_head.b @ its_head.a, written.b @ written.a, rtol=1e-4, atol=1e-5)
    assert its_told == pytest.approx(told, rel=1e-4)


def test_a_student_in_its_own_teachers_place_is_taken_whole(folder, monkeypatch) -> None:
    monkeypatch.setattr(logit_chunks, "CHUNK_ELEMENTS", 64)
    itself = folder / "student"
    with pytest.raises(NumericsError, match="nothing to write"):
        distillation_sums(request(folder, teacher_folder=itself, match=EVERY))


def test_residual_contributions_are_those_of_a_map_of_the_other_half(folder) -> None:
    asked = request(folder, rank=32)
    found = residual_regression(asked)
    teacher, student = load_model(folder / "teacher"), load_model(folder / "student")
    assert set(found) == {f"model.layers.{i}.mlp.down_proj" for i in range(2)}
    kept: dict[str, list] = {}

    def keep(name, layer):
        def hook(_m, args, output):
            out = output[0] if isinstance(output, tuple) else output
            kept[name] = [args[0].flatten(0, -2).double(), out.flatten(0, -2).double()]

        layer.register_forward_hook(hook)

    for who, model in (("t", teacher), ("s", student)):
        for place, layer in enumerate(model.get_decoder().layers):
            keep(f"{who}{place}", layer)
    keep("x", student.get_submodule("model.layers.1.mlp.down_proj"))
    halves = {0: [], 1: []}
    for text in asked.texts:
        with torch.no_grad():
            teacher(input_ids=text.student_T[None])
            student(input_ids=text.student_T[None])
        # the student's second block goes with the teacher's third and fourth layer
        parts = (kept["t2"][0], kept["t3"][1], kept["s1"][0], kept["s1"][1], kept["x"][0])
        halves[text.number % 2].append([part[:-1] for part in parts])
    joined = [[torch.cat(parts) for parts in zip(*halves[h], strict=True)] for h in (0, 1)]
    xs, es = [], []
    for fitted, used in (joined, joined[::-1]):
        after_t, after_s = fitted[1], fitted[3]
        gram = after_t.T @ after_t
        lam = 0.01 * gram.diagonal().mean()
        to_student = torch.linalg.solve(gram + lam * torch.eye(48).double(), after_t.T @ after_s)
        es.append((used[1] - used[0]) @ to_student - (used[3] - used[2]))
        xs.append(used[4])
    x, e = torch.cat(xs), torch.cat(es)
    gram = x.T @ x
    full = torch.linalg.solve(
        gram + 0.01 * gram.diagonal().mean() * torch.eye(64).double(), x.T @ e
    ).T
    a, b = found["model.layers.1.mlp.down_proj"]
    torch.testing.assert_close(b @ a, full, rtol=1e-3, atol=1e-4)


def test_rows_are_those_of_a_map_of_the_other_tokens() -> None:
    source = torch.Generator().manual_seed(0)
    theirs, ours = (torch.randn(40, n, generator=source).double() for n in (6, 5))
    counts = torch.arange(40, 0, -1).double() - 10
    counts.clamp_(min=0)
    found = rows_change(theirs, ours, counts, ridge=0.05)
    half = torch.arange(40) % 2
    for fit in (0, 1):
        weight = torch.where(half == fit, counts, 0.0)
        mean_t = (weight[:, None] * theirs).sum(0) / weight.sum()
        mean_s = (weight[:, None] * ours).sum(0) / weight.sum()
        t, s, root = theirs - mean_t, ours - mean_s, weight.sqrt()[:, None]
        lam = 0.05 * ((root * t).T @ (root * t)).diagonal().mean()
        more_t = torch.cat([root * t, lam.sqrt() * torch.eye(6).double()])
        more_s = torch.cat([root * s, torch.zeros(6, 5).double()])
        wanted = t @ torch.linalg.lstsq(more_t, more_s).solution - s
        wanted /= (1 + counts).sqrt()[:, None]
        torch.testing.assert_close(found[half != fit], wanted[half != fit])
    with pytest.raises(NumericsError, match="6 unknowns for each output, but 2 positions"):
        rows_change(theirs, ours, torch.eye(40)[:4].sum(0).double(), ridge=0.0)
    with pytest.raises(NumericsError, match="0 of the tokens"):
        rows_change(theirs, ours, 0 * counts, ridge=0.1)
    with pytest.raises(NumericsError, match="the student's own"):
        rows_change(ours, ours, counts, ridge=0.0)


def test_the_chosen_scale_brings_the_student_nearest_to_its_teacher(folder, tmp_path) -> None:
    made = signal_start(
        request(folder), tmp_path / "a", method="whitened-distillation", alpha=6, scale=None
    )
    assert made.scale == min(list(made.divergences)[1:], key=made.divergences.__getitem__)
    assert made.divergences[made.scale] < made.divergences[0.0]
    assert made.plain == ("model.embed_tokens",)
    assert made.adapter.added == set(made.adapter.factors) - {"model.embed_tokens"}
    asked = request(folder)
    weights = asked.model(folder / "student").state_dict()
    before = {name: value.clone() for name, value in weights.items()}
    divergences(asked, head_regression(asked))
    assert all(torch.equal(before[name], value) for name, value in weights.items())
    far_too_large = {n: LoraFactors(a, 5000 * b) for n, (a, b) in head_regression(asked).items()}
    told = divergences(asked, far_too_large)
    assert 0 < min(told, key=told.__getitem__) < 0.1  # even so there is a scale that helps
    once, twice = (
        signal_start(
            request(folder), tmp_path / f"{s}", method="residual-regression", alpha=6, scale=s
        ).adapter.delta("model.layers.0.mlp.down_proj")
        for s in (1.0, 2.0)
    )
    torch.testing.assert_close(2 * once, twice)


def test_shuffled_signals_are_others_of_the_same_half(folder) -> None:
    asked = request(folder, shuffle=1)
    for text, read, order in asked.each():
        assert read.half == text.half
        assert read.number != text.number
        assert len(order) == len(text.student_T)
        assert set(order.tolist()) <= set(range(len(read.teacher_T)))
    for find in (whitened_distillation, residual_regression, head_regression, embedding_rows):
        one, other, again = (find(request(folder, shuffle=s)) for s in (None, 1, 2))
        for name in one:
            deltas = [f[name].b @ f[name].a for f in (one, other, again)]
            assert not torch.allclose(deltas[0], deltas[1], rtol=0.1)
            assert not torch.allclose(deltas[1], deltas[2], rtol=0.1)


def test_the_student_in_its_teachers_place_is_refused(folder) -> None:
    for find in (whitened_distillation, head_regression):
        with pytest.raises(NumericsError, match="nothing to write"):
            find(request(folder, teacher_folder=folder / "student"))


def test_what_cannot_be_is_refused(folder, tmp_path) -> None:
    few = TokenMatch((0, *(-1,) * 63), 64)
    with pytest.raises(DataError, match="Of 5 seed texts 0 have only tokens that the teacher has"):
        both_read(token_examples(5), few, answers_only=False)
    tiny_model(tmp_path / "gemma", "gemma2", layers=2)
    asked = request(tmp_path, student="gemma", teacher_folder=folder / "teacher")
    with pytest.raises(ArchitectureError, match="gemma2"):
        residual_regression(asked)
    assert layer_runs(num_teacher=5, num_student=3) == [(0, 0), (1, 2), (3, 4)]
    with pytest.raises(ShapeError, match="The student has 3 layers and the teacher 2"):
        layer_runs(num_teacher=2, num_student=3)


def test_only_positions_that_predict_an_answer_count() -> None:
    samples = token_examples(4)
    for text, sample in zip(
        both_read(samples, TokenMatch(tuple(range(64)), 64), answers_only=True),
        samples,
        strict=True,
    ):
        assert int(text.counts_T.sum()) == sample.answer_tokens
        assert text.counts_T.tolist() == [*(label >= 0 for label in sample.labels[1:]), False]
