"""Running a benchmark: the harness's ``simple_evaluate`` on a model in memory."""

import contextlib
import copy
import io
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import lm_eval
import torch
from lm_eval.models.huggingface import HFLM
from lm_eval.utils import handle_non_serializable

from paraknow_core.evaluation.benchmarks.opened import Opened, quiet
from paraknow_core.evaluation.benchmarks.scores import (
    BenchmarkResult,
    BenchmarkScore,
    number_or_none,
)
from paraknow_core.evaluation.benchmarks.wanted import Asking
from paraknow_core.progress import Progress, no_progress

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

_NOT_METRICS = frozenset({"name", "alias", "sample_len", "sample_count"})


def run_benchmark(
    model: Any,
    tokenizer: "PreTrainedTokenizerBase",
    opened: Opened,
    asking: Asking,
    *,
    progress: Progress = no_progress,
) -> BenchmarkResult:
    """Run a benchmark as the harness's command line does, and keep all that it says.

    Args:
        model: a Transformers or PEFT causal language model, on its device.
        tokenizer: its tokenizer; left as it was.
        opened: the benchmark. Its tasks are used up: open it again for another model.
        asking: how it is run.
        progress: called as (requests done, all of this kind, message).
    """
    with quiet(), _stays_tied(model), _without_environment():
        lm = _BenchmarkModel(model, tokenizer, asking, progress)
        for task in opened.tasks.values():
            _quieten(task)
        random, numpy, torch_seed, fewshot = asking.seeds
        found: Mapping[str, Any] = lm_eval.simple_evaluate(
            model=lm,
            tasks=opened.roots,
            num_fewshot=opened.wanted.shots,
            batch_size=asking.batch_size,
            max_batch_size=asking.max_batch_size,
            limit=asking.limit,
            log_samples=True,
            system_instruction=asking.system or None,
            apply_chat_template=asking.chat_template,
            fewshot_as_multiturn=asking.multiturn and asking.chat_template,
            gen_kwargs=None
            if asking.max_gen_toks is None
            else {"max_gen_toks": asking.max_gen_toks},
            task_manager=opened.manager,
            random_seed=random,
            numpy_random_seed=numpy,
            torch_random_seed=torch_seed,
            fewshot_random_seed=fewshot,
        )
    return BenchmarkResult(
        name=opened.wanted.name,
        scores=tuple(_scores(opened, found)),
        answers=tuple(_answers(found)),
        cut=lm.cut,
        harness=version("lm_eval"),
    )


class _BenchmarkModel(HFLM):  # type: ignore[misc]  # the harness is untyped
    """The harness's own model, with progress and a count of prompts that are too long."""

    def __init__(
        self,
        model: Any,
        tokenizer: "PreTrainedTokenizerBase",
        asking: Asking,
        progress: Progress,
    ) -> None:
        super().__init__(
            pretrained=model,
            tokenizer=copy.deepcopy(tokenizer),  # the harness sets a padding token on it
            backend="causal",
            batch_size=asking.batch_size,
            max_batch_size=asking.max_batch_size,
        )
        self.cut = 0
        self._prints = asking.batch_size == "auto"  # the sizes that it tries
        self._done, self._total, self._progress = 0, 1, progress

    def loglikelihood(self, requests: list[Any], **_: Any) -> list[tuple[float, bool]]:
        """As the harness's, without its progress bar."""
        self._begin(len(requests))
        with self._silent():
            answers: list[tuple[float, bool]] = super().loglikelihood(requests, disable_tqdm=True)
        return answers

    def loglikelihood_rolling(self, requests: list[Any], **_: Any) -> list[float]:
        """As the harness's, without its progress bar."""
        self._begin(len(requests))
        with self._silent():
            answers: list[float] = super().loglikelihood_rolling(requests, disable_tqdm=True)
        return answers

    def generate_until(self, requests: list[Any], **_: Any) -> list[str]:
        """As the harness's, without its progress bar."""
        self._begin(len(requests))
        with self._silent():
            texts: list[str] = super().generate_until(requests, disable_tqdm=True)
        return texts

    def _loglikelihood_tokens(self, requests: Sequence[Any], *args: Any, **kwargs: Any) -> Any:
        most = self.max_length + 1  # the last token is only predicted
        self.cut += sum(len(before) + len(after) > most for _, before, after in requests)
        return super()._loglikelihood_tokens(requests, *args, **kwargs)

    def tok_batch_encode(
        self, strings: Any, *args: Any, left_truncate_len: int | None = None, **kwargs: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """As the harness's; counts the prompts that lose their beginning."""
        if left_truncate_len:
            lengths = [len(self.tok_encode(text)) for text in strings]
            self.cut += sum(length > left_truncate_len for length in lengths)
        found: tuple[torch.Tensor, torch.Tensor] = super().tok_batch_encode(
            strings, *args, left_truncate_len=left_truncate_len, **kwargs
        )
        return found

    def _model_call(self, inps: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        logits_BLV: torch.Tensor = super()._model_call(inps, *args, **kwargs)
        self._advance(inps.shape[0], "likelihoods")
        return logits_BLV

    def _model_generate(self, context: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        tokens_BL: torch.Tensor = super()._model_generate(context, *args, **kwargs)
        self._advance(context.shape[0], "generation")
        return tokens_BL

    def _silent(self) -> contextlib.AbstractContextManager[Any]:
        quiet: contextlib.AbstractContextManager[Any] = contextlib.nullcontext()
        return contextlib.redirect_stdout(io.StringIO()) if self._prints else quiet

    def _begin(self, requests: int) -> None:
        self._done, self._total = 0, max(1, requests)

    def _advance(self, rows: int, message: str) -> None:
        # The harness computes equal requests once, and for ``auto`` tries out batches.
        self._done = min(self._done + rows, self._total)
        self._progress(self._done, self._total, message)


def _quieten(task: Any) -> None:
    """Have a task build its requests without a progress bar; the harness has no switch for it."""
    build = task.build_all_requests

    def quietly(**kwargs: Any) -> None:
        with contextlib.redirect_stderr(io.StringIO()):
            build(**kwargs)

    task.build_all_requests = quietly


@contextlib.contextmanager
def _stays_tied(model: Any) -> Iterator[None]:
    """Keep the harness from tying weights anew.

    Transformers refuses that where an adapter wraps a tied embedding and head; they are tied
    already.
    """
    training = model.training
    model.tie_weights = lambda *_, **__: None
    try:
        yield
    finally:
        del model.tie_weights
        model.train(training)


@contextlib.contextmanager
def _without_environment() -> Iterator[None]:
    """Keep the harness from asking a dozen programs for versions: seconds for each model."""
    from lm_eval import evaluator

    asked = evaluator.add_env_info
    evaluator.add_env_info = lambda _storage: None
    try:
        yield
    finally:
        evaluator.add_env_info = asked


def _scores(opened: Opened, found: Mapping[str, Any]) -> Iterator[BenchmarkScore]:
    roots = {_name_of(one) for one in opened.roots}
    better, shots = found["higher_is_better"], found["n-shot"]
    for name in (*opened.groups, *opened.tasks):
        told = found["results"].get(name, {})
        group = opened.groups.get(name)
        members = tuple(t.task_name for t in group.get_all_tasks()) if group else ()
        for key, value in told.items():
            metric, _, used = key.partition(",")
            if key in _NOT_METRICS or not used or metric.endswith("_stderr"):
                continue
            yield BenchmarkScore(
                task=name,
                alias=str(told.get("alias") or name).strip(" -"),
                metric=metric,
                filter=used,
                value=number_or_none(value),
                stderr=number_or_none(told.get(f"{metric}_stderr,{used}")),
                higher_is_better=better.get(name, {}).get(metric),
                items=int(told.get("sample_len", 0)),
                shots=shots.get(name) if isinstance(shots.get(name), int) else None,
                version=str(found["versions"].get(name, "")),
                members=members,
                weighted=_weighted(group, metric),
                is_root=name in roots,
            )


def _name_of(root: Any) -> str:
    return str(getattr(root, "name", "") or root.task_name)


def _weighted(group: Any, metric: str) -> bool:
    said = (group.aggregate_metric_list if group else None) or ()
    return all(one.weight_by_size for one in said if one.metric == metric)


def _answers(found: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    for task in sorted(found["samples"]):
        for sample in found["samples"][task]:
            yield {
                "task": task,
                "doc_id": int(sample["doc_id"]),
                "filter": str(sample["filter"]),
                "target": _text(sample["target"]),
                "prompt": _text(sample["arguments"][0][0]),
                "response": _json(sample["resps"]),
                "filtered": _json(sample["filtered_resps"]),
                "prompt_hash": str(sample["prompt_hash"]),
                "doc_hash": str(sample["doc_hash"]),
                "target_hash": str(sample["target_hash"]),
                "metrics": {name: _number(sample[name]) for name in sample["metrics"]},
            }


def _text(value: Any) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: Any) -> str:
    return json.dumps(value, default=handle_non_serializable, ensure_ascii=False)


def _number(value: Any) -> Any:
    """A number as it is; anything else as JSON has it."""
    if isinstance(value, int | float):
        return float(value)
    return json.loads(_json(value))
