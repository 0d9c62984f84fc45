"""What a model is pre-trained on: word problems with general text, or texts that are given.

Shapes: P = rows, T = tokens of a row, B = problems in a batch.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import torch
from torch import Tensor

from paraknow_core.data.examples import NO_LOSS, Example
from paraknow_core.data.tokenisation import tokenise_whole
from paraknow_core.demo.language import SPECIAL, generate_problems, vocabulary, write_tokenizer
from paraknow_core.demo.planted_facts import fact_questions, planted_facts
from paraknow_core.demo.pretrain_recipe import PretrainingRecipe, model_fields
from paraknow_core.demo.pretrain_rows import token_rows
from paraknow_core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_BATCH_TOKENS = 2048
"""Of held-out text that a model reads at once: logits of 50,000 tokens then take 0.4 GB."""


class Material(Protocol):
    """Rows to train on, the tokenizer they are made with, and a measure of what was learned."""

    def config(self) -> Mapping[str, Any]:
        """Fields of the model's config.json."""

    def rows(self) -> tuple[Tensor, Tensor]:
        """Token numbers and labels of every step in turn, both P×T int32."""

    def write_tokenizer(self, folder: Path) -> None:
        """Write the tokenizer's files."""

    def measure(self, model: Any) -> dict[str, float]:
        """What a trained model knows of what it has not seen, by name."""


@dataclass(frozen=True)
class Problems:
    """Word problems and general text, without end.

    Attributes:
        recipe: whose steps they are for.
        held_out: problems for the accuracy, at least 1.
    """

    recipe: PretrainingRecipe
    held_out: int = 200

    def __post_init__(self) -> None:
        if self.held_out < 1:
            raise ConfigError(f"held_out is {self.held_out}; allowed is at least 1.")

    def config(self) -> Mapping[str, Any]:
        """A Llama of the recipe's sizes with the vocabulary of the word problems."""
        pad, bos, eos, _ = range(len(SPECIAL))
        special = {"pad_token_id": pad, "bos_token_id": bos, "eos_token_id": eos}
        return model_fields(self.recipe) | special

    def rows(self) -> tuple[Tensor, Tensor]:
        """Rows of general text for the first steps, then of the mixture."""
        recipe = self.recipe
        steps = (recipe.general_steps, recipe.task_steps)
        parts = [
            token_rows(
                number * recipe.batch_size,
                length=recipe.sequence_length,
                task_share=share,
                seed=f"{recipe.seed} stage {stage}",
                dialect=recipe.dialect,
                facts=planted_facts(recipe.facts, seed=recipe.facts_seed),
            )
            for stage, (number, share) in enumerate(
                zip(steps, (0.0, recipe.task_share), strict=True)
            )
        ]
        ids_PT, labels_PT = (torch.cat(list(tensors)) for tensors in zip(*parts, strict=True))
        return ids_PT, labels_PT

    def write_tokenizer(self, folder: Path) -> None:
        """Write the word problems' tokenizer."""
        write_tokenizer(folder, self.recipe.dialect)

    def measure(self, model: Any) -> dict[str, float]:
        """Accuracy on held-out problems of the training wordings, from a stream of their own.

        Where facts were planted, ``facts_known`` is the share that the model answers.
        """
        recipe = self.recipe
        seed = f"held out {recipe.seed}"
        problems = generate_problems(self.held_out, seed=seed, wording="train")
        found = {"accuracy": answer_accuracy(model, problems, dialect=recipe.dialect)}
        if recipe.facts:
            asked = fact_questions(planted_facts(recipe.facts, seed=recipe.facts_seed))
            found["facts_known"] = answer_accuracy(model, asked)
        return found


@dataclass(frozen=True)
class Texts:
    """Texts that are given, laid end to end; read again in another order until all steps are done.

    Attributes:
        recipe: whose steps they are for; both of its parts read these texts.
        texts: a text is a row's prompt and answer; the tokenizer's EOS ends it.
        held_out: texts for the loss; none: it is not measured.
        tokenizer: another model's, which this one will have too.
    """

    recipe: PretrainingRecipe
    texts: Sequence[Example]
    held_out: Sequence[Example]
    tokenizer: "PreTrainedTokenizerBase"

    def config(self) -> Mapping[str, Any]:
        """A Llama of the recipe's sizes with the given tokenizer's vocabulary."""
        names = ("pad_token_id", "bos_token_id", "eos_token_id")
        special = {name: getattr(self.tokenizer, name) for name in names}
        return model_fields(self.recipe, vocab_size=len(self.tokenizer)) | special

    def rows(self) -> tuple[Tensor, Tensor]:
        """Rows without padding; the first token of a row bears no loss: nothing predicts it.

        Raises:
            DataError: if there is no text.
        """
        recipe = self.recipe
        steps = recipe.general_steps + recipe.task_steps
        wanted, length = steps * recipe.batch_size, recipe.sequence_length
        tokens = [self._tokens(text) for text in self.texts]
        if not tokens:
            raise DataError("there is no text to pre-train on; give rows (texts.sizes.train)")
        source = random.Random(f"texts {recipe.seed}")  # noqa: S311
        stream: list[int] = []
        while len(stream) < wanted * length:
            for place in source.sample(range(len(tokens)), len(tokens)):
                stream += tokens[place]
        ids_PT = torch.tensor(stream[: wanted * length], dtype=torch.int32).view(wanted, length)
        labels_PT = ids_PT.clone()
        labels_PT[:, 0] = NO_LOSS
        return ids_PT, labels_PT

    def write_tokenizer(self, folder: Path) -> None:
        """Write the given tokenizer again."""
        self.tokenizer.save_pretrained(str(folder))

    @torch.no_grad()
    def measure(self, model: Any) -> dict[str, float]:
        """Nats a token of the held-out texts, each read on its own up to the model's positions."""
        was_training = model.training
        model.eval()
        nats, counted = 0.0, 0
        for batch in self._batches():
            ids_BT = torch.nn.utils.rnn.pad_sequence(batch, batch_first=True).to(model.device)
            labels_BT = torch.nn.utils.rnn.pad_sequence(
                batch, batch_first=True, padding_value=NO_LOSS
            )[:, 1:]
            logits_BTV = model(input_ids=ids_BT).logits[:, :-1].float().cpu()
            nats += float(
                torch.nn.functional.cross_entropy(
                    logits_BTV.flatten(0, 1),
                    labels_BT.flatten(),
                    ignore_index=NO_LOSS,
                    reduction="sum",
                )
            )
            counted += int((labels_BT != NO_LOSS).sum())
        model.train(was_training)
        return {"held_out_nll": nats / counted} if counted else {}

    def _batches(self) -> list[list[Tensor]]:
        """Held-out texts of like length together, each cut at the model's positions."""
        rows = [self._tokens(text)[: self.recipe.positions] for text in self.held_out]
        found: list[list[Tensor]] = []
        for row in sorted(rows, key=len):
            if not found or (len(found[-1]) + 1) * len(row) > _BATCH_TOKENS:
                found.append([])
            found[-1].append(torch.tensor(row))
        return found

    def _tokens(self, text: Example) -> list[int]:
        return list(tokenise_whole(text, self.tokenizer).input_ids)


@torch.no_grad()
def answer_accuracy(model: Any, problems: Sequence[Example], *, dialect: int = 0) -> float:
    """The share of problems (0..1) after whose prompt the answer is the most likely token."""
    numbers = {word: number for number, word in enumerate(vocabulary(dialect))}
    bos, unknown = SPECIAL.index("<s>"), SPECIAL.index("<unk>")
    prompts = [
        [bos, *(numbers.get(word, unknown) for word in row.prompt.split())] for row in problems
    ]
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
