"""Training a small Llama from scratch: no download is needed."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from paraknow_core.demo.pretrain_material import Material
from paraknow_core.demo.pretrain_recipe import PretrainingRecipe
from paraknow_core.errors import ConfigError
from paraknow_core.finetuning.checkpoints import check_run, run_digest
from paraknow_core.partial_results import PartialResults, Saved
from paraknow_core.progress import Progress, no_progress
from paraknow_core.seeding import random_state_kept
from paraknow_core.settings import identity_of


@dataclass(frozen=True)
class PretrainResult:
    """What a pre-training run did.

    Attributes:
        steps: optimizer steps of the whole run.
        seconds: wall-clock time of this call.
        final_loss: nats a token, mean over the last steps that were logged together.
        learned: what the material measures of the trained model, by name.
        resumed_from: the step that this call went on from, or None.
    """

    steps: int
    seconds: float
    final_loss: float
    learned: Mapping[str, float]
    resumed_from: int | None


def pretrain(
    *,
    out_folder: Path,
    partial: PartialResults,
    recipe: PretrainingRecipe,
    material: Material,
    threads: int = 1,
    device: str = "cpu",
    checkpoint_steps: int | None = None,
    checkpoint_seconds: float | None = 60.0,
    progress: Progress = no_progress,
) -> PretrainResult:
    """Train a Llama, and write it as an ordinary Transformers folder.

    Of word problems: first the recipe's steps on general text, then those on the mixture. The loss
    is on all of the general text, and on the answers of problems. Only training wordings are used,
    so no test problem is ever seen. Every row is used once. Of given texts: the loss is on all of
    them.

    A killed run goes on from its last complete checkpoint in ``partial``; on a CPU, with the
    same number of threads, to bit-equal weights.

    Args:
        out_folder: gets config.json, model.safetensors and the tokenizer, after training.
        partial: for checkpoints.
        recipe: the model's sizes and how it is trained.
        material: the rows, and the tokenizer they are made with.
        threads: of torch's CPU kernels; the old number is restored afterwards.
        device: "cpu" or "cuda".
        checkpoint_steps: save after every so many steps; None: not by steps.
        checkpoint_seconds: save when the last save is so long ago; None: not by time.
        progress: called every 10 steps with (steps done, steps in all, the loss).

    Returns:
        Steps, timing, loss and what was learned.

    Raises:
        ConfigError: if an argument is out of range.
        NumericsError: if loss or gradient becomes NaN or infinite.
    """
    began = time.monotonic()
    check_run(device=device, checkpoint_steps=checkpoint_steps)
    _check_counts(threads=threads)
    run = run_digest(identity_of(recipe) | {"device": device})
    newest = partial.newest(run)
    with random_state_kept(), _threads(threads):
        model = _new_model(recipe, material, device)
        losses = _train(
            model,
            recipe,
            material,
            partial=partial,
            run=run,
            resume_from=newest,
            device=device,
            checkpoint_steps=checkpoint_steps,
            checkpoint_seconds=checkpoint_seconds,
            progress=progress,
        )
        learned = material.measure(model)
    _write_model(model, material, Path(out_folder))
    return PretrainResult(
        steps=recipe.steps,
        seconds=time.monotonic() - began,
        final_loss=losses[-1],
        learned=learned,
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


def _new_model(recipe: PretrainingRecipe, material: Material, device: str) -> Any:
    from transformers import LlamaConfig, LlamaForCausalLM

    config = LlamaConfig(**material.config(), use_cache=False)
    torch.manual_seed(recipe.seed)
    model: Any = LlamaForCausalLM(config)
    return model.to(device)


def _write_model(model: Any, material: Material, folder: Path) -> None:
    """Write the files one by one: ``save_pretrained`` would draw a progress bar."""
    from safetensors.torch import save_file

    folder.mkdir(parents=True, exist_ok=True)
    tied = set(model.all_tied_weights_keys) if model.config.tie_word_embeddings else set()
    weights = {
        name: tensor.cpu().contiguous()
        for name, tensor in model.state_dict().items()
        if name not in tied
    }
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    model.config.architectures = [type(model).__name__]
    model.config.dtype = torch.float32
    model.config.save_pretrained(str(folder))
    material.write_tokenizer(folder)


def _train(
    model: Any,
    recipe: PretrainingRecipe,
    material: Material,
    *,
    partial: PartialResults,
    run: str,
    resume_from: Saved | None,
    device: str,
    **watching: Any,
) -> list[float]:
    """Train a model in place; gives the logged losses of the whole run."""
    from paraknow_core.demo.pretrain_loop import run_stages
    from paraknow_core.finetuning.watch import Watch

    taken = recipe.steps * recipe.batch_size
    ids_PT, labels_PT = (rows[:taken] for rows in material.rows())
    watch = Watch(run=run, partial=partial, validate=None, validate_every=recipe.steps, **watching)
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
