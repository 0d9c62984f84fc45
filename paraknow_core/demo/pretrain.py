"""Training a small Llama from nothing on word problems and general text: pairs without downloads.

Shapes: B = problems, T = tokens of the longest prompt.
"""

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paraknow_core.data.examples import Example
from paraknow_core.demo.language import SPECIAL, generate_problems, vocabulary, write_tokenizer
from paraknow_core.demo.pretrain_recipe import MAX_POSITIONS, check_recipe
from paraknow_core.demo.pretrain_rows import token_rows
from paraknow_core.finetuning.checkpoints import KEPT_CHECKPOINTS, prune, run_digest, step_of
from paraknow_core.progress import Progress, no_progress
from paraknow_core.seeding import random_state_kept

_BOS, _EOS = SPECIAL.index("<s>"), SPECIAL.index("</s>")


@dataclass(frozen=True)
class PretrainResult:
    """What a pre-training run did.

    Attributes:
        steps: optimizer steps of the whole run.
        seconds: wall-clock time of this call.
        final_loss: nats a token, mean over the last steps that were logged together.
        accuracy: share (0..1) of held-out problems whose most likely next token is the answer;
            they have the training wordings, but come from a stream of their own.
        resumed_from: the step that this call went on from, or None.
    """

    steps: int
    seconds: float
    final_loss: float
    accuracy: float
    resumed_from: int | None


def pretrain(
    *,
    out_folder: Path,
    work_folder: Path,
    hidden_size: int,
    layers: int,
    ffn: int,
    heads: int,
    kv_heads: int,
    general_steps: int,
    general_lr: float,
    task_steps: int,
    task_lr: float,
    task_share: float,
    seed: int,
    batch_size: int = 16,
    sequence_length: int = 48,
    warmup_steps: int = 50,
    initializer_range: float = 0.05,
    held_out: int = 200,
    threads: int = 1,
    device: str = "cpu",
    checkpoint_steps: int | None = None,
    checkpoint_seconds: float | None = 60.0,
    progress: Progress = no_progress,
) -> PretrainResult:
    """Train a Llama with untied embeddings, and write it as an ordinary Transformers folder.

    First ``general_steps`` on general text at a constant learning rate, then ``task_steps`` on the
    mixture with a cosine decay to zero; either may be 0. The loss is on all of the general text,
    and on the answers of problems. Only training wordings are used, so no test problem is ever
    seen. Every row is used once.

    A killed run goes on from its last complete checkpoint in ``work_folder``; on a CPU, with the
    same number of threads, to bit-equal weights.

    Args:
        out_folder: gets config.json, model.safetensors and the tokenizer, after training.
        work_folder: scratch for checkpoints. The caller deletes it.
        hidden_size: divisible by ``heads``, to an even number.
        layers: decoder layers.
        ffn: inner width of the feed-forward blocks.
        heads: query heads, divisible by ``kv_heads``.
        kv_heads: key and value heads; fewer than ``heads`` is grouped-query attention.
        general_steps: optimizer steps on general text alone.
        general_lr: AdamW's learning rate there.
        task_steps: optimizer steps on the mixture.
        task_lr: AdamW's peak learning rate there.
        task_share: share of the mixture's rows that begin with problems, 0..1; what is left of
            such a row is filled with general text.
        seed: of the initial weights and the text.
        batch_size: rows a step.
        sequence_length: tokens a row, 32..128: the longest problem has 26.
        warmup_steps: of a rising learning rate at the very beginning.
        initializer_range: standard deviation of the initial weights, above 0.
        held_out: problems for ``accuracy``, at least 1.
        threads: of torch's CPU kernels; put back afterwards.
        device: "cpu" or "cuda".
        checkpoint_steps: save after every so many steps; None: not by steps.
        checkpoint_seconds: save when the last save is so long ago; None: not by time.
        progress: called every 10 steps with (steps done, steps in all, the loss).

    Returns:
        Steps, timing, loss and accuracy.

    Raises:
        ConfigError: if a setting is out of range.
        NumericsError: if loss or gradient becomes NaN or infinite.
    """
    began = time.monotonic()
    recipe = {
        "hidden_size": hidden_size,
        "layers": layers,
        "ffn": ffn,
        "heads": heads,
        "kv_heads": kv_heads,
        "general_steps": general_steps,
        "general_lr": general_lr,
        "task_steps": task_steps,
        "task_lr": task_lr,
        "task_share": task_share,
        "seed": seed,
        "batch_size": batch_size,
        "sequence_length": sequence_length,
        "warmup_steps": warmup_steps,
        "initializer_range": initializer_range,
        "device": device,
    }
    check_recipe(recipe, held_out=held_out, threads=threads, checkpoint_steps=checkpoint_steps)
    run = run_digest(recipe)
    resume_from = prune(Path(work_folder), run=run, keep=KEPT_CHECKPOINTS)
    with random_state_kept(), _threads(threads):
        model = _new_model(recipe)
        losses = _train(
            model,
            recipe,
            work_folder=Path(work_folder),
            run=run,
            resume_from=resume_from,
            checkpoint_steps=checkpoint_steps,
            checkpoint_seconds=checkpoint_seconds,
            progress=progress,
        )
        problems = generate_problems(held_out, seed=f"held out {seed}", wording="train")
        accuracy = answer_accuracy(model, problems)
    _write_model(model, Path(out_folder))
    return PretrainResult(
        steps=general_steps + task_steps,
        seconds=time.monotonic() - began,
        final_loss=losses[-1],
        accuracy=accuracy,
        resumed_from=None if resume_from is None else step_of(resume_from),
    )


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _new_model(recipe: Mapping[str, Any]) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        vocab_size=len(vocabulary()),
        hidden_size=recipe["hidden_size"],
        num_hidden_layers=recipe["layers"],
        intermediate_size=recipe["ffn"],
        num_attention_heads=recipe["heads"],
        num_key_value_heads=recipe["kv_heads"],
        max_position_embeddings=MAX_POSITIONS,
        initializer_range=recipe["initializer_range"],
        tie_word_embeddings=False,
        use_cache=False,
        pad_token_id=0,
        bos_token_id=_BOS,
        eos_token_id=_EOS,
    )
    torch.manual_seed(recipe["seed"])
    return LlamaForCausalLM(config).to(recipe["device"])


@torch.no_grad()
def answer_accuracy(model: Any, problems: Sequence[Example]) -> float:
    """The share of problems (0..1) after whose prompt the answer is the most likely token."""
    numbers = {word: number for number, word in enumerate(vocabulary())}
    prompts = [[_BOS, *(numbers[word] for word in row.prompt.split())] for row in problems]
    answers = torch.tensor([numbers[row.answer.strip()] for row in problems])
    ends = torch.tensor([len(prompt) for prompt in prompts]) - 1
    ids_BT = torch.zeros((len(prompts), int(ends.max()) + 1), dtype=torch.int64)
    for row, prompt in enumerate(prompts):
        ids_BT[row, : len(prompt)] = torch.tensor(prompt)
    was_training = model.training
    model.eval()  # padding stands on the right, where a causal model does not look
    logits = model(input_ids=ids_BT.to(model.device)).logits.cpu()
    model.train(was_training)
    chosen = logits[torch.arange(len(prompts)), ends].argmax(-1)
    return float((chosen == answers).double().mean())


def _write_model(model: Any, folder: Path) -> None:
    """Write the folder by hand: ``save_pretrained`` would draw a progress bar."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    weights = {name: tensor.cpu().contiguous() for name, tensor in model.state_dict().items()}
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.architectures = [type(model).__name__]
    model.config.dtype = torch.float32
    model.config.save_pretrained(str(folder))
    write_tokenizer(folder)


def _train(
    model: Any,
    recipe: Mapping[str, Any],
    *,
    work_folder: Path,
    run: str,
    resume_from: Path | None,
    **watching: Any,
) -> list[float]:
    """Train a model in place; gives the logged losses of the whole run."""
    from paraknow_core.demo.pretrain_loop import run_stages
    from paraknow_core.finetuning.trainer import Watch

    steps = (recipe["general_steps"], recipe["task_steps"])
    shares = (0.0, recipe["task_share"])
    parts = [
        token_rows(
            number * recipe["batch_size"],
            length=recipe["sequence_length"],
            task_share=share,
            seed=f"{recipe['seed']} stage {stage}",
        )
        for stage, (number, share) in enumerate(zip(steps, shares, strict=True))
    ]
    ids_PT, labels_PT = (torch.cat(list(tensors)) for tensors in zip(*parts, strict=True))
    watch = Watch(run=run, validate=None, steps_per_epoch=sum(steps), **watching)
    return run_stages(
        model,
        ids_PT,
        labels_PT,
        recipe=recipe,
        work_folder=work_folder,
        watch=watch,
        resume_from=resume_from,
    )
