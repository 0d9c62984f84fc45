"""Updates from a teacher's parameters against the dense formulas, their controls, and refusals."""

import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from support.starts import token_examples, transfer_start
from support.tiny import tiny_model

from paraknow_core.alignment.tokens import TokenMatch
from paraknow_core.checkpoint.reader import Checkpoint
from paraknow_core.errors import ConfigError, DataError, NumericsError, ShapeError
from paraknow_core.lora.adapter_reader import read_adapter
from paraknow_core.lora.anchored_model import quiet_peft, read_trained, trainable_model
from paraknow_core.lora.combine import combine
from paraknow_core.lora.merge import write_merged
from paraknow_core.models.describe import MATRIX_ROLES, Role, describe
from paraknow_core.models.load import load_model
from paraknow_core.progress import no_progress
from paraknow_core.sensitivity.accumulate import answer_loss
from paraknow_core.signals.request import both_read
from paraknow_core.signals.scales import SCALES
from paraknow_core.transport.correspondence import CrossMoments
from paraknow_core.transport.maps import procrustes, ridge
from paraknow_core.transport.material import TransportOptions, shuffle_weights
from paraknow_core.transport.neurons import NEURON_ROLES
from paraknow_core.transport.places import weight_of
from paraknow_core.transport.request import TransportRequest, material_of
from paraknow_core.transport.update import TRANSPORTS, transported_update

UP, HEAD, EMBED = "model.layers.1.mlp.up_proj", "lm_head", "model.embed_tokens"
UP_OF_TEACHER = "model.layers.2.mlp.up_proj"
"""The upper of 2 layers goes with that of 3."""
SAMPLES = tuple(token_examples(24, seed=3))
SAME = TokenMatch(tuple(range(64)), 64)
TEXTS = both_read(SAMPLES, SAME, answers_only=False)


def drawn(seed: int, *shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def change_weights(folder: Path, to: Path, size: float) -> Path:
    """A copy of a model whose weights are a little others: what it may have been tuned from."""
    shutil.copytree(folder, to)
    weights = load_file(to / "model.safetensors")
    changed = {n: w + size * drawn(i, *w.shape).float() for i, (n, w) in enumerate(weights.items())}
    save_file(changed, to / "model.safetensors", metadata={"format": "pt"})
    return to


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models")
    tiny_model(folder / "teacher", hidden=48, layers=3, ffn=96, seed=1)
    tiny_model(folder / "student", hidden=32, layers=2, ffn=64, seed=2)
    change_weights(folder / "teacher", folder / "base", 0.02)
    return folder


def request(models: Path, method: str = "weight-transport") -> TransportRequest:
    return TransportRequest(
        method=method,
        teacher=models / "teacher",
        base=models / "base",
        student=models / "student",
        texts=TEXTS,
        match=SAME,
        roles=MATRIX_ROLES,
        rank=4,
        alpha=8.0,
        scale=1.0,
    )


def moments(x_TP: torch.Tensor, y_TS: torch.Tensor) -> CrossMoments:
    sizes = float(x_TP.square().sum()), float(y_TS.square().sum())
    return CrossMoments(x_TP.T @ x_TP, x_TP.T @ y_TS, y_TS.T @ y_TS, sizes, len(x_TP))


def test_maps_are_the_dense_ones() -> None:
    x, y = drawn(0, 40, 9), drawn(1, 40, 5)
    u, _, vh = torch.linalg.svd(x.T @ y, full_matrices=False)
    exact = {"rtol": 0, "atol": 1e-11}
    for side in ("in", "out"):
        found = procrustes(moments(x, y), side=side, ridge=0.0)
        torch.testing.assert_close(found.map_PS, u @ vh, **exact)
    # A ridge is least squares with rows √λ·I below.
    for side, (of, to) in {"out": (x, y), "in": (y, x)}.items():
        width = of.shape[1]
        weight = 0.1 * float(of.square().sum()) / width
        below = weight**0.5 * torch.eye(width, dtype=of.dtype)
        wide = torch.cat([of, below]), torch.cat([to, torch.zeros(width, to.shape[1]).to(to)])
        dense = torch.linalg.lstsq(*wide).solution
        found = ridge(moments(x, y), side=side, ridge=0.1)
        torch.testing.assert_close(found.map_PS, dense if side == "out" else dense.T, **exact)


def test_what_positions_do_not_say_is_left_out_or_refused() -> None:
    x, y = drawn(0, 3, 9), drawn(1, 3, 5)
    found = procrustes(moments(x, y), side="out", ridge=0.0)
    assert found.is_short
    assert torch.linalg.matrix_rank(found.map_PS) == 3
    with pytest.raises(NumericsError, match=r"9 unknowns for each output, but 3 positions"):
        ridge(moments(x, y), side="out", ridge=0.0)
    assert ridge(moments(x, y), side="out", ridge=0.1).is_short


def activations(folder: Path, module: str, side: str) -> torch.Tensor:
    """Each position that counts of the half that maps are fitted on, T × D in float64."""
    model, seen = load_model(folder), []

    def look(_module, inputs, output):
        seen.append((inputs[0] if side == "in" else output)[0, :-1].detach().double())

    model.get_submodule(module).register_forward_hook(look)
    with torch.no_grad():
        for sample in SAMPLES[::2]:
            model(input_ids=torch.tensor([sample.input_ids]))
    return torch.cat(seen)


def dense_map(models: Path, module: str, side: str) -> torch.Tensor:
    theirs = UP_OF_TEACHER if module == UP else module
    cross = activations(models / "teacher", theirs, side).T
    cross = cross @ activations(models / "student", module, side)
    u, s, vh = torch.linalg.svd(cross, full_matrices=False)
    known = s > 1e-5 * s[0]  # ``up`` has more outputs than inputs, and they fill no more directions
    assert int(known.sum()) == 32
    return u[:, known] @ vh[known]


def weight(folder: Path, module: str) -> torch.Tensor:
    with Checkpoint(folder) as files:
        return files.read(f"{module}.weight").double()


def best(matrix: torch.Tensor, rank: int = 4) -> torch.Tensor:
    u, s, vh = torch.linalg.svd(matrix, full_matrices=False)
    return (u[:, :rank] * s[:rank]) @ vh[:rank]


def test_weight_transport_is_the_dense_formula(models: Path, tmp_path: Path) -> None:
    asked = replace(request(models), scale=0.5)
    made = transported_update(asked, tmp_path).adapter
    inner, outer = dense_map(models, UP, "in"), dense_map(models, UP, "out")
    theirs = weight(models / "teacher", UP_OF_TEACHER)
    wanted = {UP: outer.T @ theirs @ inner}
    for module, side in ((HEAD, "in"), (EMBED, "out")):
        wanted[module] = weight(models / "teacher", module) @ dense_map(models, module, side)
    for module, whole in wanted.items():
        dense = best(0.5 * (whole - weight(models / "student", module)))
        torch.testing.assert_close(made.delta(module).double(), dense, rtol=0, atol=2e-5)
    assert made.added == frozenset(made.factors)


def test_theseus_is_the_dense_formula_with_gradfix(models: Path, tmp_path: Path) -> None:
    theirs = UP_OF_TEACHER
    vector = weight(models / "teacher", theirs) - weight(models / "base", theirs)
    whole = dense_map(models, UP, "out").T @ vector @ dense_map(models, UP, "in")
    student = load_model(models / "student")
    torch.stack([answer_loss(student, sample) for sample in SAMPLES[1::2]]).mean().backward()
    gradient = student.get_submodule(UP).weight.grad.double()
    kept = whole * (torch.sign(whole) == -torch.sign(gradient))
    assert 0.2 < float((kept != 0).double().mean()) < 0.8
    for gradfix, dense in ((True, kept), (False, whole)):
        asked = replace(request(models, "theseus"), options=TransportOptions(gradfix=gradfix))
        made = transported_update(asked, tmp_path).adapter
        torch.testing.assert_close(made.delta(UP).double(), best(dense), rtol=0, atol=2e-5)


def test_theseus_of_an_adapter_is_that_of_the_merged_teacher(models: Path, tmp_path: Path) -> None:
    """A source LoRA on the teacher: what tuning changed is the adapter's product."""
    tuned = transfer_start(models / "teacher", tmp_path / "adapter", rank=2, seed=4)
    tuned = replace(tuned, factors={UP_OF_TEACHER: tuned.factors[UP_OF_TEACHER]})
    write_merged(models / "teacher", tuned, tmp_path / "merged")
    plain = TransportOptions(gradfix=False)
    asked = replace(request(models, "theseus"), options=plain, base=None, teacher_adapter=tuned)
    made = transported_update(asked, tmp_path / "by_adapter")
    assert made.adapter.added == {UP}  # the adapter changes nothing else
    merged = replace(
        request(models, "theseus"),
        options=plain,
        teacher=tmp_path / "merged",
        base=models / "teacher",
    )
    other = transported_update(merged, tmp_path / "by_base").adapter
    torch.testing.assert_close(made.adapter.delta(UP), other.delta(UP), rtol=0, atol=1e-5)
    assert made.adapter.delta(UP).norm() > 0.1
    other_sizes = replace(asked, teacher_adapter=transfer_start(models / "student", tmp_path / "x"))
    with pytest.raises(ShapeError, match=r"in the teacher it is of shape \(64, 48\). Give a PEFT"):
        transported_update(other_sizes, tmp_path)


def test_a_control_keeps_the_size_and_loses_what_it_says(models: Path, tmp_path: Path) -> None:
    asked = request(models, "theseus")
    made = transported_update(asked, tmp_path / "a").adapter
    down = transported_update(replace(asked, instead="scaled-down"), tmp_path / "b").adapter
    torch.testing.assert_close(down.delta(UP).norm(), made.delta(UP).norm(), rtol=1e-4, atol=0)
    own = best(weight(models / "student", UP))
    cosine = (down.delta(UP).double() * own).sum() / (down.delta(UP).norm() * own.norm())
    assert cosine < -0.999
    for control in ("shuffled", "drawn"):
        one, other = (
            transported_update(
                replace(asked, seed=seed, **{control: True}), tmp_path / f"{control} {seed}"
            ).adapter.delta(UP)
            for seed in (0, 1)
        )
        for delta in (one, other):
            assert (delta - made.delta(UP)).norm() > 0.5 * made.delta(UP).norm()
        assert not torch.equal(one, other)


def test_maps_are_fitted_anew_for_a_shuffled_teacher(models: Path, tmp_path: Path) -> None:
    asked = replace(request(models), roles=[Role.UP])
    found = []
    for shuffled in (False, True):
        material = material_of(
            replace(asked, shuffled=shuffled),
            needs_base=False,
            needs_answers=False,
            uses_maps=True,
            progress=no_progress,
        )
        (match, *_) = material.matches
        found.append(material.carried(match, weight_of(material.teacher, match.teacher)))
    model = load_model(models / "teacher")
    shuffle_weights(model, describe(models / "teacher"), seed=0)
    shutil.copytree(models / "teacher", tmp_path / "shuffled")
    model.save_pretrained(tmp_path / "shuffled")
    as_teacher = replace(asked, teacher=tmp_path / "shuffled")
    material = material_of(
        as_teacher, needs_base=False, needs_answers=False, uses_maps=True, progress=no_progress
    )
    dense = material.carried(match, weight_of(material.teacher, match.teacher))
    torch.testing.assert_close(found[1], dense, rtol=0, atol=1e-9)
    assert (found[0] - found[1]).norm() > 0.5 * found[0].norm()


def test_a_scale_is_that_of_the_least_loss_of_other_answers(models: Path, tmp_path: Path) -> None:
    base = change_weights(models / "student", tmp_path / "base", 0.02)
    # What tuned the student's own weights away from the base, as its own task vector: some of it.
    asked = replace(request(models, "theseus"), teacher=models / "student", base=base, scale=None)
    made = transported_update(asked, tmp_path / "out")
    losses = {float(size): loss for size, loss in made.facts["answer_losses"].items()}
    assert list(losses) == [0.0, *SCALES]
    assert made.facts["scale"] == min(SCALES, key=losses.__getitem__)
    once = transported_update(replace(asked, scale=1.0), tmp_path / "once").adapter
    student, scale = load_model(models / "student"), made.facts["scale"]
    with torch.no_grad():
        for module in once.added:
            student.get_submodule(module).weight += scale * once.delta(module)
        seen = [float(answer_loss(student, sample)) for sample in SAMPLES[::2]]
    assert losses[scale] == pytest.approx(sum(seen) / len(seen), abs=1e-5)
    whole = scale * once.delta(UP)
    torch.testing.assert_close(made.adapter.delta(UP), whole, rtol=1e-4, atol=1e-6)


def test_tokens_that_the_teacher_lacks_keep_their_rows(models: Path, tmp_path: Path) -> None:
    """Two tokenizers: the teacher's token 5 + t mod 59 is the student's t, and it lacks five."""
    rows = (*(5 + token % 59 for token in range(59)), -1, -1, -1, -1, -1)
    match = TokenMatch(rows, 64)
    texts = both_read(token_examples(8, vocab=59), match, answers_only=False)
    assert [text.teachers.input_ids for text in texts] == [
        tuple(rows[token] for token in text.students.input_ids) for text in texts
    ]
    asked = replace(request(models), texts=texts, match=match, roles=[Role.EMBED, Role.HEAD])
    made = transported_update(asked, tmp_path).adapter
    for module in (HEAD, EMBED):
        delta = made.delta(module)
        assert float(delta[59:].abs().max()) < 1e-5
        assert float(delta[:59].abs().amax(1).min()) > 1e-3


def test_latens_update_survives_saving_and_loading(models: Path, tmp_path: Path) -> None:
    """The public code's does not: its change of weights is lost on save."""
    from peft import PeftModel

    options = TransportOptions(neuron_rate=1e-2, neuron_steps=6, neuron_penalty=0.0)
    asked = replace(request(models, "laten"), options=options, roles=NEURON_ROLES)
    made = transported_update(asked, tmp_path / "start").adapter
    assert made.added == frozenset(made.factors)
    student = load_model(models / "student")
    ids = torch.tensor([SAMPLES[0].input_ids])
    with torch.no_grad():
        untouched = student(input_ids=ids).logits
    start = read_adapter(tmp_path / "start")
    assert start.added == made.added
    model = trainable_model(load_model(models / "student"), start, dropout=0.0)
    delivered = combine(start, read_trained(model, start))
    assert delivered.rank == start.rank
    with quiet_peft():
        loaded = PeftModel.from_pretrained(load_model(models / "student"), tmp_path / "start")
    with torch.no_grad():
        step_0, again = model(input_ids=ids).logits, loaded(input_ids=ids).logits
    assert float((step_0 - untouched).abs().max()) > 1e-2
    torch.testing.assert_close(again, step_0, rtol=0, atol=1e-5)


def test_laten_changes_the_neurons_that_it_located_and_learns(models: Path, tmp_path: Path) -> None:
    options = TransportOptions(
        neuron_share=3 / 32, neuron_rate=1e-2, neuron_steps=20, neuron_penalty=0.0
    )
    asked = replace(request(models, "laten"), options=options, roles=NEURON_ROLES)
    made = transported_update(asked, tmp_path).adapter
    for module in made.factors:
        lines = 0 if module.endswith(("v_proj", "up_proj")) else 1
        change = made.delta(module).abs().sum(1 - lines)
        assert int((change > 1e-6 * change.max()).sum()) == 3, module
    use = SAMPLES[1::2]
    losses = []
    for folder in (None, made):
        student = load_model(models / "student")
        model = student if folder is None else trainable_model(student, made, dropout=0.0)
        with torch.no_grad():
            losses.append(float(torch.stack([answer_loss(model, s) for s in use]).mean()))
    assert losses[1] < losses[0] - 0.02


@pytest.mark.parametrize("family", ["phi3", "gpt2", "gpt_neox", "gemma2"])
def test_other_families_get_updates_for_fused_and_transposed_matrices(
    family: str, tmp_path: Path
) -> None:
    tiny_model(tmp_path / "teacher", family, hidden=24, layers=1, ffn=32, seed=1)
    tiny_model(tmp_path / "student", family, hidden=16, layers=1, ffn=24, seed=2)
    change_weights(tmp_path / "teacher", tmp_path / "base", 0.02)
    student = describe(tmp_path / "student")
    options = TransportOptions(neuron_rate=1e-2, neuron_steps=2)
    for method in TRANSPORTS:
        asked = replace(request(tmp_path, method), texts=TEXTS[:6], options=options)
        changed = transported_update(asked, tmp_path / method).adapter.added
        roles = NEURON_ROLES if method == "laten" else MATRIX_ROLES
        assert changed == set(student.modules(roles)), method


def test_a_base_that_is_none_is_refused(models: Path, tmp_path: Path) -> None:
    for size, says in (
        (0.0, "have the same weights"),
        (50.0, r"lie [01]\.\d+ apart, where 0 is equal and 1 is what unrelated models have"),
    ):
        base = change_weights(models / "teacher", tmp_path / f"{size}", size)
        with pytest.raises(ConfigError, match=says):
            transported_update(replace(request(models, "theseus"), base=base), tmp_path / "out")


def test_what_cannot_be_is_refused(models: Path, tmp_path: Path) -> None:
    asked = request(models, "theseus")
    unlabelled = [replace(text, labels_T=torch.full_like(text.labels_T, -100)) for text in TEXTS]
    some = [*unlabelled[:-2], *TEXTS[-2:-1], unlabelled[-1]]
    for changes, error, says in (
        ({"base": None}, ConfigError, "set either teacher_base, to the model"),
        ({"base": models / "student"}, ConfigError, "hidden_size is 32 in it, 48 in that"),
        ({"method": "theseuss"}, ConfigError, "did you mean 'theseus'"),
        ({"texts": unlabelled}, DataError, "of 24 texts 0 and 0 have one"),
        ({"texts": some}, DataError, "of 24 texts 1 and 0 have one"),
        (
            {"options": TransportOptions(maps="ridge", ridge=0.0), "texts": TEXTS[:4]},
            NumericsError,
            r"has 96 unknowns for each output, and the seed texts have \d+ positions",
        ),
    ):
        with pytest.raises(error, match=says):
            transported_update(replace(asked, **changes), tmp_path)
    # Nobody looks at answers here.
    plain = replace(asked, texts=unlabelled, options=TransportOptions(gradfix=False))
    assert transported_update(plain, tmp_path / "plain").adapter.added
