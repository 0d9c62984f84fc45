"""The adapter to lm-evaluation-harness: a model in memory, rows in memory, our tokens.

Imported only when something is evaluated, because it imports the harness (about 2 s).
"""

import contextlib
import copy
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from datasets import Dataset
from lm_eval.api.instance import Instance
from lm_eval.api.task import ConfigurableTask
from lm_eval.evaluator import evaluate as run_tasks
from lm_eval.models.huggingface import HFLM
from transformers import GenerationConfig

from paraknow_core.errors import DataError
from paraknow_core.evaluation.chunked_likelihood import answer_likelihoods, have_many_logits
from paraknow_core.evaluation.long_prompts import Fitting, LongPrompts
from paraknow_core.progress import Progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from paraknow_core.evaluation.items import Question

LIKELIHOOD, GENERATION = "answer_likelihood", "answer_generation"


@dataclass(frozen=True)
class HarnessAnswers:
    """What a model answered.

    Attributes:
        answers: for every question, in order: log-likelihood of the answer's tokens (nats, summed;
            0 where the row has none), and the greedily generated text without its stop. None for a
            question that was left out.
        cut: how many prompts lost their beginning.
    """

    answers: list[tuple[float, str] | None]
    cut: int


def run_harness(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    questions: "Sequence[Question]",
    *,
    until: Sequence[str],
    max_new_tokens: int,
    batch_size: int,
    long_prompts: LongPrompts,
    progress: Progress,
) -> HarnessAnswers:
    """Run both tasks; a question without an answer is only generated.

    Raises:
        DataError: if a question is too long for the model, or all are.
    """
    with _quiet_logs(), _borrowed(model, tokenizer):
        lm = _AnswerModel(model, tokenizer, batch_size=batch_size, progress=progress)
        fitting = Fitting(limit=lm.max_length, most=max_new_tokens, policy=long_prompts)
        fitted = [fitting.fit(question, tokenizer) for question in questions]
        asked = [question for question in fitted if question is not None]
        answered = [question for question in asked if question.answer_ids]
        if not answered:
            raise DataError(
                f"none of the {len(questions)} test rows that have an answer fits the model's "
                f"{lm.max_length} positions; let prompts be cut (evaluate.long_prompts: cut), "
                "lower evaluate.max_new_tokens, or take shorter rows"
            )
        lm.know(asked, steps=len(asked) + len(answered))
        tasks = {
            LIKELIHOOD: _task(answered, LIKELIHOOD, output_type="loglikelihood"),
            GENERATION: _task(
                asked,
                GENERATION,
                output_type="generate_until",
                generation_kwargs={
                    "until": list(until),
                    "do_sample": False,
                    "max_gen_toks": max_new_tokens,
                },
            ),
        }
        # No bootstrap of standard errors: `statistics.paired_items` compares paired items.
        results = run_tasks(lm=lm, task_dict=tasks, bootstrap_iters=0, log_samples=True)
    likelihoods = iter(_responses(results, LIKELIHOOD))
    texts = iter(_responses(results, GENERATION))
    return HarnessAnswers(
        [
            None
            if question is None
            else (float(next(likelihoods)[0]) if question.answer_ids else 0.0, str(next(texts)))
            for question in fitted
        ],
        cut=sum(q not in (None, given) for q, given in zip(fitted, questions, strict=True)),
    )


class _AnswerModel(HFLM):  # type: ignore[misc]  # the harness is untyped
    """The harness's model, with this project's token boundaries and progress.

    The harness moves trailing white space of a prompt into the answer; training does not, so the
    tokens that training uses are looked up instead.
    """

    def __init__(
        self,
        model: Any,
        tokenizer: "PreTrainedTokenizerBase",
        *,
        batch_size: int,
        progress: Progress,
    ) -> None:
        padded = copy.deepcopy(tokenizer)  # the harness sets a padding token on its tokenizer
        if padded.pad_token_id is None:
            padded.pad_token = padded.eos_token
        super().__init__(
            pretrained=model,
            tokenizer=padded,
            backend="causal",
            batch_size=batch_size,
            softmax_dtype="float32",  # bfloat16 log-probabilities would be off by 1e-2
            logits_cache=False,  # it merges equal rows, and the progress count would be wrong
        )
        self._pairs: dict[tuple[str, str], tuple[list[int], list[int]]] = {}
        self._prompts: dict[str, tuple[int, ...]] = {}
        self._done, self._total, self._progress = 0, 0, progress

    def know(self, questions: "Sequence[Question]", *, steps: int) -> None:
        """Remember the tokens of what will be asked, and how many answers that will be."""
        self._pairs = {
            (question.prompt, question.answer): (
                list(question.prompt_ids),
                list(question.answer_ids),
            )
            for question in questions
        }
        self._prompts = {question.prompt: question.prompt_ids for question in questions}
        self._total = steps

    def _encode_pair(self, context: str, continuation: str) -> tuple[list[int], list[int]]:
        return self._pairs[context, continuation]

    def tok_batch_encode(
        self, strings: Sequence[str], **_: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Left-pad the prompts' tokens; lengths were checked, so nothing is truncated.

        Returns:
            Token numbers and attention mask, both int64 of shape (B, longest prompt).
        """
        rows = [self._prompts[text] for text in strings]
        width = max(map(len, rows))
        pad = self.tokenizer.pad_token_id
        ids_BL = torch.tensor([[pad] * (width - len(row)) + list(row) for row in rows])
        mask_BL = torch.tensor([[0] * (width - len(row)) + [1] * len(row) for row in rows])
        return ids_BL, mask_BL

    def loglikelihood(self, requests: list[Instance], **_: Any) -> list[tuple[float, bool]]:
        """As the harness's, without its progress bar."""
        answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return answers

    def generate_until(self, requests: list[Instance], **_: Any) -> list[str]:
        """As the harness's, without its progress bar."""
        texts: list[str] = super().generate_until(requests, disable_tqdm=True)
        return texts

    def _loglikelihood_tokens(
        self, requests: list[tuple[Any, list[int], list[int]]], **options: Any
    ) -> list[tuple[float, bool]]:
        """As the harness's, but that many logits are never in memory at once."""
        pairs = [(context, answer) for _, context, answer in requests]
        if have_many_logits(self.model, pairs, batch_size=int(self.batch_size)):
            return answer_likelihoods(
                self.model,
                pairs,
                batch_size=int(self.batch_size),
                tell=lambda rows: self._advance(rows, "likelihood of the answers"),
            )
        answers: list[tuple[float, bool]] = super()._loglikelihood_tokens(requests, **options)
        return answers

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        logits_BLV: torch.Tensor = super()._model_call(inps, *args, **kwargs)
        self._advance(inps.shape[0], "likelihood of the answers")
        return logits_BLV

    def _model_generate(self, context: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        tokens_BL: torch.Tensor = super()._model_generate(context, *args, **kwargs)
        self._advance(context.shape[0], "generation")
        return tokens_BL

    def _advance(self, rows: int, message: str) -> None:
        self._done += rows
        self._progress(self._done, self._total, message)


class _QuietTask(ConfigurableTask):  # type: ignore[misc]  # the harness is untyped
    """A task that builds its requests without a progress bar; the harness has no switch for it."""

    def build_all_requests(self, **kwargs: Any) -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            super().build_all_requests(**kwargs)


def _task(questions: "Sequence[Question]", name: str, **config: Any) -> _QuietTask:
    rows = [{"prompt": question.prompt, "answer": question.answer} for question in questions]

    def in_memory(**_: Any) -> Mapping[str, Dataset]:
        return {"test": Dataset.from_list(rows)}

    return _QuietTask(
        config={
            "task": name,
            "custom_dataset": in_memory,
            "test_split": "test",
            "doc_to_text": "prompt",
            "doc_to_target": "answer",
            "process_results": _no_score,
            "metric_list": [{"metric": "seen", "aggregation": "mean", "higher_is_better": True}],
            "num_fewshot": 0,
            **config,
        }
    )


def _no_score(_row: Mapping[str, Any], _results: Sequence[Any]) -> dict[str, float]:
    """Leave scoring to `paraknow_core.evaluation.evaluate`; the harness demands some metric."""
    return {"seen": 1.0}


def _responses(results: Mapping[str, Any], task: str) -> list[Any]:
    samples = sorted(results["samples"][task], key=lambda sample: int(sample["doc_id"]))
    return [sample["filtered_resps"][0] for sample in samples]


@contextlib.contextmanager
def _borrowed(model: Any, tokenizer: "PreTrainedTokenizerBase") -> Iterator[None]:
    """Switch a model to plain greedy generation, and restore it afterwards.

    A checkpoint's own generation settings (Qwen's repetition penalty, Llama's temperature) would
    change greedy answers or warn about being ignored. The harness ties weights anew, which
    Transformers refuses where an adapter wraps a tied embedding and head; they are tied already.
    """
    training, generation = model.training, model.generation_config
    pad = tokenizer.eos_token_id if tokenizer.pad_token_id is None else tokenizer.pad_token_id
    model.generation_config = GenerationConfig(  # type: ignore[no-untyped-call]
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id, pad_token_id=pad
    )
    model.tie_weights = _stay_tied
    try:
        yield
    finally:
        del model.tie_weights
        model.generation_config = generation
        model.train(training)


def _stay_tied() -> None:
    """Replace ``tie_weights`` of a model whose weights were tied when it was loaded."""


@contextlib.contextmanager
def _quiet_logs() -> Iterator[None]:
    """Hide the harness's advice (it warns of every model that is passed in memory)."""
    logger = logging.getLogger("lm_eval")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
