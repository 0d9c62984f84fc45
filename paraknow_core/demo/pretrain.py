"""Training a small Llama from scratch on word problems and general text: no download is needed.

Shapes: B = problems, T = tokens of the longest prompt.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paraknow_core.data.examples import Example
from paraknow_core.demo.language import SPECIAL, generate_problems, vocabulary, write_tokenizer
from paraknow_core.demo.pretrain_recipe import PretrainingRecipe, model_fields
from paraknow_core.demo.pretrain_rows import token_rows
from paraknow_core.errors import ConfigError
from paraknow_core.finetuning.checkpoints import check_run, run_digest
from paraknow_core.partial_results import PartialResults, Saved
from paraknow_core.progress import Progress, no_progress
from paraknow_core.seeding import random_state_kept
from paraknow_core.settings import identity_of

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
    partial: PartialResults,
    recipe: PretrainingRecipe,
    held_out: int = 200,
    threads: int = 1,
    device: str = "cpu",
    checkpoint_steps: int | None = None,
    checkpoint_seconds: float | None = 60.0,
    progress: Progress = no_progress,
) -> PretrainResult:
    """Train a Llama with untied embeddings, and write it as an ordinary Transformers folder.

    First the recipe's steps on general text, then those on the mixture. The loss is on all of the
    general text, and on the answers of problems. Only training wordings are used, so no test
    problem is ever seen. Every row is used once.

    A killed run goes on from its last complete checkpoint in ``partial``; on a CPU, with the
    same number of threads, to bit-equal weights.

    Args:
        out_folder: gets config.json, model.safetensors and the tokenizer, after training.
        partial: for checkpoints.
        recipe: the model's sizes and how it is trained.
        held_out: problems for ``accuracy``, at least 1.
        threads: of torch's CPU kernels; the old number is restored afterwards.
        device: "cpu" or "cuda".
        checkpoint_steps: save after every so many steps; None: not by steps.
        checkpoint_seconds: save when the last save is so long ago; None: not by time.
        progress: called every 10 steps with (steps done, steps in all, the loss).

    Returns:
        Steps, timing, loss and accuracy.

    Raises:
        ConfigError: if an argument is out of range.
        NumericsError: if loss or gradient becomes NaN or infinite.
    """
    began = time.monotonic()
    check_run(device=device, checkpoint_steps=checkpoint_steps)
    _check_counts(held_out=held_out, threads=threads)
    run = run_digest(identity_of(recipe) | {"device": device})
    newest = partial.newest(run)
    with random_state_kept(), _threads(threads):
        model = _new_model(recipe, device)
        losses = _train(
            model,
            recipe,
            partial=partial,
            run=run,
            resume_from=newest,
            device=device,
            checkpoint_steps=checkpoint_steps,
            checkpoint_seconds=checkpoint_seconds,
            progress=progress,
        )
        problems = generate_problems(held_out, seed=f"held out {recipe.seed}", wording="train")
        accuracy = answer_accuracy(model, problems)
    _write_model(model, Path(out_folder))
    return PretrainResult(
        steps=recipe.general_steps + recipe.task_steps,
        seconds=time.monotonic() - began,
        final_loss=losses[-1],
        accuracy=accuracy,
        resumed_from=None if newest is None else newest.number,
    )


def _check_counts(**counts: int) -> None:
    for name, count in counts.items():
        if count < 1:
            raise ConfigError(f"{name} is {count}; allowed is at least 1.")


@contextmanager
def _threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _new_model(recipe: PretrainingRecipe, device: str) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(
        **model_fields(recipe),
        use_cache=False,
        pad_token_id=0,
        bos_token_id=_BOS,
        eos_token_id=_EOS,
    )
    torch.manual_seed(recipe.seed)
    model: Any = LlamaForCausalLM(config)
    return model.to(device)


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
    model.eval()  # padding on the right does no harm: a causal model only looks to the left
    logits = model(input_ids=ids_BT.to(model.device)).logits.cpu()
    model.train(was_training)
    chosen = logits[torch.arange(len(prompts)), ends].argmax(-1)
    return float((chosen == answers).double().mean())


def _write_model(model: Any, folder: Path) -> None:
    """Write the files one by one: ``save_pretrained`` would draw a progress bar."""
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
    recipe: PretrainingRecipe,
    *,
    partial: PartialResults,
    run: str,
    resume_from: Saved | None,
    device: str,
    **watching: Any,
) -> list[float]:
    """Train a model in place; gives the logged losses of the whole run."""
    from paraknow_core.demo.pretrain_loop import run_stages
    from paraknow_core.finetuning.trainer import Watch

    steps = (recipe.general_steps, recipe.task_steps)
    shares = (0.0, recipe.task_share)
    parts = [
        token_rows(
            number * recipe.batch_size,
            length=recipe.sequence_length,
            task_share=share,
            seed=f"{recipe.seed} stage {stage}",
        )
        for stage, (number, share) in enumerate(zip(steps, shares, strict=True))
    ]
    ids_PT, labels_PT = (torch.cat(list(tensors)) for tensors in zip(*parts, strict=True))
    watch = Watch(run=run, partial=partial, validate=None, steps_per_epoch=sum(steps), **watching)
    return run_stages(
        model,
        ids_PT,
        labels_PT,
        recipe=recipe,
        device=device,
        partial=partial,
        watch=watch,
        resume_from=resume_from,
    )
