import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from paraknow_core.data.examples import NO_LOSS, Example
from paraknow_core.demo.language import build_tokenizer, generate_problems, vocabulary
from paraknow_core.demo.pretrain import PretrainResult, pretrain
from paraknow_core.demo.pretrain_material import Problems, Texts, answer_accuracy
from paraknow_core.demo.pretrain_recipe import PretrainingRecipe, learning_rate
from paraknow_core.demo.pretrain_rows import token_rows
from paraknow_core.errors import ConfigError, DataError, NumericsError
from paraknow_core.models.describe import Role, describe
from paraknow_core.models.load import load_model, load_tokenizer
from paraknow_core.partial_results import PartialResults
from paraknow_core.seals import MANIFEST

Pretrain = Callable[..., PretrainResult]
FILES = {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"}


@pytest.fixture
def run(tmp_path: Path) -> Pretrain:
    """Pre-train a tiny model for a few steps; the output goes to `out` below the test's folder."""

    def with_defaults(**changes: Any) -> PretrainResult:
        given: dict[str, Any] = {
            "out_folder": tmp_path / "out",
            "work_folder": tmp_path / "work",
            "hidden_size": 16,
            "layers": 2,
            "ffn": 24,
            "heads": 4,
            "kv_heads": 2,
            "general_steps": 4,
            "general_lr": 3e-3,
            "task_steps": 8,
            "task_lr": 3e-3,
            "task_share": 0.8,
            "seed": 0,
            "batch_size": 4,
            "warmup_steps": 2,
            "held_out": 20,
        }
        given |= changes
        partial = PartialResults(given.pop("work_folder"))
        settings = {n: given.pop(n) for n in PretrainingRecipe.model_fields if n in given}
        recipe = PretrainingRecipe(**settings)
        problems = Problems(recipe, given.pop("held_out"))
        material = given.pop("material", problems)
        return pretrain(partial=partial, recipe=recipe, material=material, **given)

    return with_defaults


def weights(folder: Path) -> bytes:
    return (folder / "model.safetensors").read_bytes()


class Killed(Exception):
    """Stands for a kill."""


def test_it_writes_a_model_that_loads_like_any_other(run: Pretrain, tmp_path: Path) -> None:
    result = run()
    folder = tmp_path / "out"
    assert {path.name for path in folder.iterdir()} == FILES
    architecture = describe(folder)
    assert (architecture.num_layers, architecture.vocab_size, architecture.tied) == (2, 376, False)
    assert architecture.matrix(Role.K, 0).shape == (8, 16)  # two key heads of width 4
    assert len(load_tokenizer(folder)) == 376
    problems = generate_problems(20, seed="held out 0", wording="train")
    assert answer_accuracy(load_model(folder), problems) == result.learned["accuracy"]
    assert (result.steps, result.resumed_from) == (12, None)


def test_the_seed_decides_every_byte(run: Pretrain, tmp_path: Path) -> None:
    torch.manual_seed(5)
    state, threads = torch.random.get_rng_state(), torch.get_num_threads()
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        run(out_folder=tmp_path / name, work_folder=tmp_path / f"work-{name}", seed=seed)
    for name in FILES:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    assert weights(tmp_path / "a") != weights(tmp_path / "c")
    assert torch.equal(torch.random.get_rng_state(), state)
    assert torch.get_num_threads() == threads


def test_training_learns(run: Pretrain) -> None:
    losses: list[float] = []
    result = run(
        general_steps=0,
        task_steps=120,
        task_lr=1e-2,
        batch_size=8,
        progress=lambda done, total, message: losses.append(float(message.split()[1])),
    )
    assert losses[0] > 0.9 * math.log(376)  # knows nothing yet
    assert losses[-1] < 0.6 * losses[0]
    assert result.final_loss == pytest.approx(losses[-1], abs=1e-4)


@pytest.mark.parametrize("killed_at", [3, 7])  # in either stage
def test_a_killed_run_goes_on_to_the_same_bytes(
    run: Pretrain, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, killed_at: int
) -> None:
    monkeypatch.setattr("paraknow_core.demo.pretrain_recipe.LOGGING_STEPS", 1)
    whole = run(out_folder=tmp_path / "whole", work_folder=tmp_path / "other")

    def kill(done: int, total: int, message: str) -> None:
        if done == killed_at:
            raise Killed

    with pytest.raises(Killed):
        run(checkpoint_steps=2, progress=kill)
    resumed = run(checkpoint_steps=2)
    assert resumed.resumed_from == killed_at - 1
    assert weights(tmp_path / "out") == weights(tmp_path / "whole")
    assert (resumed.final_loss, resumed.learned) == (whole.final_loss, whole.learned)


def test_no_other_run_and_no_unfinished_checkpoint_is_resumed(
    run: Pretrain, tmp_path: Path
) -> None:
    run(checkpoint_steps=4)
    newest = max((tmp_path / "work" / "saved").iterdir())
    assert int(newest.name) == 8
    (newest / MANIFEST).unlink()
    assert run(checkpoint_steps=None, checkpoint_seconds=None).resumed_from == 4
    assert run(seed=1).resumed_from is None


def test_it_can_be_sent_to_another_process(run: Pretrain) -> None:
    result = run(general_steps=0, task_steps=1)
    assert pickle.loads(pickle.dumps(result)) == result
    assert pickle.loads(pickle.dumps(pretrain)) is pretrain


def test_rows_hold_whole_problems_and_then_text() -> None:
    words = vocabulary()
    ids_PT, labels_PT = token_rows(300, length=48, task_share=0.7, seed=0)
    tasks = 0
    for ids, labels in zip(ids_PT.tolist(), labels_PT.tolist(), strict=True):
        texts = " ".join(words[i] for i in ids).split("<s>")[1:]
        tasks += "answer" in texts[0]
        assert words[ids[0]] == "<s>"
        assert "<pad>" not in " ".join(texts)
        expected: list[int] = []
        for text in texts:
            tokens = ["<s>", *text.split()]
            where = tokens.index("answer") + 2 if "answer" in tokens else 0
            if where:
                assert len(tokens) == where + 2  # never cut
                assert tokens[-1] == "</s>"
            expected += [NO_LOSS] * where + [words.index(token) for token in tokens[where:]]
        assert labels == [NO_LOSS, *expected[1:]]
    assert 0.6 < tasks / 300 < 0.8


@pytest.mark.parametrize(("share", "found"), [(0.0, False), (1.0, True)])
def test_the_share_of_the_task_holds_at_its_ends(share: float, found: bool) -> None:
    answer = vocabulary().index("answer")
    ids_PT, _ = token_rows(50, length=32, task_share=share, seed=0)
    assert bool((ids_PT == answer).any(1).all()) is found
    assert bool((ids_PT == answer).any()) is found


def test_no_test_problem_is_in_the_training_rows() -> None:
    words = vocabulary()
    ids_PT, _ = token_rows(3_000, length=48, task_share=1.0, seed="0 stage 1")
    stream = " ".join(words[i] for row in ids_PT.tolist() for i in row)
    for split_seed in (0, 1):
        test = generate_problems(300, seed=split_seed, wording="test")
        assert not [row for row in test if row.prompt in stream]
        known = generate_problems(300, seed=split_seed, wording="train")
        assert not [row for row in known if row.prompt in stream]


def test_the_learning_rate_of_both_stages() -> None:
    recipe = PretrainingRecipe(
        warmup_steps=4, general_steps=10, task_steps=20, general_lr=1.0, task_lr=2.0
    )
    rates = [learning_rate(step, recipe) for step in range(31)]
    assert rates[:5] == [0.25, 0.5, 0.75, 1.0, 1.0]
    assert rates[9:11] == [1.0, 2.0]
    assert rates[20] == pytest.approx(1.0)
    assert rates[30] == pytest.approx(0.0)
    assert learning_rate(0, recipe.model_copy(update={"general_steps": 0})) == 0.5


def test_accuracy_counts_the_most_likely_tokens(run: Pretrain, tmp_path: Path) -> None:
    run(task_steps=30, task_lr=1e-2)
    model, tokenizer = load_model(tmp_path / "out"), load_tokenizer(tmp_path / "out")
    problems = generate_problems(40, seed=4, wording="test")
    right = 0
    for problem in problems:
        ids = torch.tensor([tokenizer(problem.prompt)["input_ids"]])
        made = model.generate(ids, do_sample=False, max_new_tokens=1, pad_token_id=0)
        right += tokenizer.decode(made[0, -1:]) == problem.answer.strip()
    assert answer_accuracy(model, problems) == right / 40


def test_a_diverging_run_is_stopped(run: Pretrain) -> None:
    with pytest.raises(NumericsError, match=r"(loss|grad norm) became (nan|inf)"):
        run(task_lr=1e30, general_steps=0, task_steps=20, warmup_steps=0)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"heads": 3, "kv_heads": 3}, "hidden_size 16, heads 3"),
        ({"heads": 16, "kv_heads": 16}, "even width"),
        ({"kv_heads": 3}, "kv_heads must divide heads"),
        ({"layers": 0}, "layers: must be greater than or equal to 1 .given 0"),
        ({"task_share": 1.5}, "task_share: must be less than or equal to 1 .given 1.5"),
        ({"general_steps": 0, "task_steps": 0}, "general_steps \\+ task_steps is 0"),
        ({"sequence_length": 24}, "sequence_length: must be greater than or equal to 32"),
        ({"task_lr": math.nan}, "task_lr: must be a finite number"),
        ({"held_out": 0}, "held_out is 0"),
        ({"threads": 0}, "threads is 0"),
        ({"checkpoint_steps": 0}, "checkpoint_steps is 0"),
        ({"device": "tpu"}, "device is 'tpu'; allowed is cpu or cuda"),
    ],
)
def test_bad_settings_are_refused_before_any_work(
    run: Pretrain, tmp_path: Path, changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        run(**changes)
    assert [path.name for path in tmp_path.iterdir()] == ["work"]
    assert not list((tmp_path / "work").glob("*/*"))


def test_the_config_says_what_was_built(run: Pretrain, tmp_path: Path) -> None:
    run(general_steps=0, task_steps=1)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert (config["architectures"], config["dtype"]) == (["LlamaForCausalLM"], "float32")
    assert config["num_key_value_heads"] == 2
    assert (config["pad_token_id"], config["bos_token_id"], config["eos_token_id"]) == (0, 1, 2)


TEXTS = [
    Example(f"row-{number}", "tom likes red", f" {thing} . the red {thing} are wet")
    for number, thing in enumerate(("apples", "pears", "keys", "maps", "cups"))
]


def test_texts_are_laid_end_to_end_with_the_tokenizer_that_comes_with_them() -> None:
    recipe = PretrainingRecipe(general_steps=2, task_steps=10, batch_size=4, sequence_length=32)
    texts = Texts(recipe, TEXTS, TEXTS[:3], build_tokenizer(dialect=3))
    ids_PT, labels_PT = texts.rows()
    assert ids_PT.shape == labels_PT.shape == (48, 32)
    assert (labels_PT[:, 0] == NO_LOSS).all()
    assert torch.equal(labels_PT[:, 1:], ids_PT[:, 1:])
    each = [tuple(texts.tokenizer(t.prompt + t.answer)["input_ids"]) for t in TEXTS]
    first = tuple(ids_PT.flatten().tolist())[: len(each[0]) + 1]
    assert first[-1] == texts.tokenizer.eos_token_id
    assert first[:-1] in each


def test_a_model_learns_given_texts_and_says_what_it_knows_of_held_out_ones(
    run: Pretrain, tmp_path: Path
) -> None:
    sizes = {"hidden_size": 16, "layers": 1, "ffn": 24, "heads": 2, "kv_heads": 2}
    recipe = PretrainingRecipe(
        **sizes, general_steps=0, task_steps=60, task_lr=2e-2, batch_size=4, tied=True, positions=64
    )
    texts = Texts(recipe, TEXTS, TEXTS[:3], build_tokenizer(dialect=3))
    result = run(**recipe.model_dump(), material=texts)
    assert set(result.learned) == {"held_out_nll"}
    model, tokenizer = load_model(tmp_path / "out"), load_tokenizer(tmp_path / "out")
    assert tokenizer.get_vocab() == texts.tokenizer.get_vocab()
    assert model.config.max_position_embeddings == 64
    assert describe(tmp_path / "out").tied
    nats, counted = 0.0, 0
    for text in TEXTS[:3]:
        ids = torch.tensor(tokenizer(text.prompt + text.answer)["input_ids"] + [2])[None]
        nats += float(model(input_ids=ids, labels=ids).loss.detach()) * (ids.shape[1] - 1)
        counted += ids.shape[1] - 1
    assert result.learned["held_out_nll"] == pytest.approx(nats / counted, rel=1e-5)
    assert result.learned["held_out_nll"] < math.log(len(tokenizer)) / 3


def test_no_texts_are_refused() -> None:
    with pytest.raises(DataError, match="no text to pre-train on"):
        Texts(PretrainingRecipe(), [], [], build_tokenizer()).rows()


def test_another_dialect_has_the_same_words_in_other_rows_and_lacks_a_few() -> None:
    usual, other = vocabulary(), vocabulary(5)
    assert usual[:4] == other[:4]
    assert set(other) < set(usual)
    assert 0.9 < len(other) / len(usual) < 1
    numbers = {str(number) for number in range(30)}
    assert numbers | {"how", "many", "answer", ":"} <= set(other)
    assert sum(a == b for a, b in zip(usual, other, strict=False)) < 20
    assert vocabulary(5) == other != vocabulary(6)


def test_rows_in_another_dialect_say_the_same() -> None:
    usual, other = vocabulary(), vocabulary(5)
    pairs = zip(
        token_rows(20, length=48, task_share=0.7, seed=0)[0].flatten().tolist(),
        token_rows(20, length=48, task_share=0.7, seed=0, dialect=5)[0].flatten().tolist(),
        strict=True,
    )
    assert all(other[b] in (usual[a], "<unk>") for a, b in pairs)


def test_a_training_that_stops_early_is_the_beginning_of_the_whole_one(
    run: Pretrain, tmp_path: Path
) -> None:
    """At a constant rate, the whole training of fewer steps is the same."""
    folders = [tmp_path / name for name in ("early", "short")]
    steps = ({"general_steps": 8, "stop_after": 4}, {"general_steps": 4})
    for folder, of_it in zip(folders, steps, strict=True):
        taken = run(out_folder=folder, work_folder=folder / "work", task_steps=0, **of_it)
        assert taken.steps == 4
    early, short = ((folder / "model.safetensors").read_bytes() for folder in folders)
    assert early == short


def test_a_model_that_was_told_facts_says_how_many_it_knows(run: Pretrain) -> None:
    assert 0 <= run(facts=5, task_steps=2).learned["facts_known"] <= 1
    assert "facts_known" not in run(task_steps=2).learned
