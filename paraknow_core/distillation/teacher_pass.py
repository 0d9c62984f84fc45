"""One forward pass of a teacher over a split: what it says of every answer token.

Shapes: B = rows in a batch, T = tokens of the longest, N = answer tokens, K = tokens kept of each,
V = vocabulary.
"""

import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from paraknow_core.data.batches import check_examples, collate
from paraknow_core.data.examples import NO_LOSS, TokenisedExample
from paraknow_core.distillation.loss import TokenTargets
from paraknow_core.distillation.targets import TeacherTargets, offsets_of, rows_digest
from paraknow_core.errors import NumericsError
from paraknow_core.models.chunked_logits import final_states, head_alone, vocabulary_of
from paraknow_core.models.logit_chunks import are_many, chunks
from paraknow_core.models.modules import learned_positions
from paraknow_core.partial_results import PartialResults, Saved
from paraknow_core.progress import Progress, no_progress

_SAVED = "done.safetensors"


@torch.no_grad()
def teacher_targets(
    model: Any,
    examples: Sequence[TokenisedExample],
    *,
    vocab_size: int,
    top_k: int,
    temperature: float,
    batch_size: int = 16,
    partial: PartialResults | None = None,
    every_seconds: float = 60.0,
    progress: Progress = no_progress,
) -> TeacherTargets:
    """Run a teacher over rows and keep, of each answer token, the likeliest tokens and the rest.

    The softmax is over the tokens that both models have rows for: a vocabulary may be padded to
    another multiple, and a row beyond the other's is no token.

    Args:
        model: a causal language model in float32 or bfloat16. It is put in evaluation mode.
        examples: rows of the tokenizer that both models have, with an answer token each.
        vocab_size: of the student.
        top_k: tokens to keep; all, if there are no more than that.
        temperature: divides the logits.
        batch_size: rows at once, rows of similar length together; memory, speed and rounding
            depend on it.
        partial: where to keep what is done; a run that was killed goes on from there.
        every_seconds: how often.
        progress: called after every batch with rows done and rows in all.

    Returns:
        The targets; float32 on the CPU.

    Raises:
        DataError: if a row cannot be run, such as one with more tokens than the teacher takes.
        NumericsError: if a logit is NaN or infinite; names the row.
    """
    shared = min(vocab_size, int(model.config.vocab_size))
    check_examples(examples, name="train", vocab_size=shared, positions=learned_positions(model))
    model.eval()
    kept = min(top_k, shared)
    order = sorted(range(len(examples)), key=lambda row: (len(examples[row].input_ids), row))
    digest = rows_digest(examples)
    done = _Done(f"{digest} {kept} {temperature!r}", partial, every_seconds)
    progress(done.restore(), len(examples), "the teacher's outputs")
    while done.rows < len(examples):
        rows = order[done.rows : done.rows + batch_size]
        logits = _answer_logits(model, [examples[row] for row in rows], rows)
        found = [_targets(part[:, :shared], kept, temperature) for part in logits]
        done.add(_joined(found), rows=len(rows))
        progress(done.rows, len(examples), "the teacher's outputs")
    offsets = offsets_of(examples)
    return TeacherTargets(done.in_rows(order, offsets), offsets, digest, temperature)


def _answer_logits(
    model: Any, examples: Sequence[TokenisedExample], rows: Sequence[int]
) -> Iterator[Tensor]:
    """Float32 logits of the places that predict an answer token, row by row: N×V.

    The head runs only where any row of the batch predicts one. Many logits come in chunks.
    """
    batch = {name: given.to(model.device) for name, given in collate(examples).items()}
    predicts_BT = batch["labels"][:, 1:] != NO_LOSS
    places = predicts_BT.any(0).nonzero().flatten()
    inputs = {name: batch[name] for name in ("input_ids", "attention_mask")}
    row_N = [rows[number] for number in predicts_BT.nonzero()[:, 0].tolist()]
    if not are_many(len(examples) * len(places), vocabulary_of(model)):
        logits: Tensor = model(**inputs, logits_to_keep=places, use_cache=False).logits
        yield _finite(logits[predicts_BT[:, places]].float(), row_N)
        return
    states_NH = final_states(model, **inputs)[:, :-1][predicts_BT]
    with head_alone(model) as head:
        for part in chunks(len(states_NH), vocabulary_of(model)):
            yield _finite(head(states_NH[part]).float(), row_N[part])


def _finite(logits_NV: Tensor, row_N: Sequence[int]) -> Tensor:
    is_bad = ~logits_NV.isfinite().all(1)
    if bool(is_bad.any()):
        row = row_N[int(is_bad.nonzero()[0, 0])]
        raise NumericsError(
            f"The teacher's logits of training row {row} are NaN or infinite. Run it in float32 "
            "(distillation.teacher_dtype), and look at this row and at the weights."
        )
    return logits_NV


def _targets(logits_NV: Tensor, kept: int, temperature: float) -> TokenTargets:
    log_p_NV = (logits_NV / temperature).log_softmax(1)
    found = log_p_NV.topk(kept, dim=1)
    # Of what is left after the kept ones; −inf if nothing is.
    log_rest_N = log_p_NV.scatter(1, found.indices, float("-inf")).logsumexp(1)
    return TokenTargets(found.indices.to(torch.int32).cpu(), found.values.cpu(), log_rest_N.cpu())


@dataclass
class _Done:
    """What is done, in the order of the pass."""

    run: str
    partial: PartialResults | None
    every_seconds: float
    rows: int = 0
    parts: list[TokenTargets] = field(default_factory=list)
    last_save: float = field(default_factory=time.monotonic)

    def restore(self) -> int:
        """Take over what an earlier run of the same had; returns its rows."""
        from safetensors.torch import load_file

        saved: Saved | None = self.partial and self.partial.newest(self.run, [_SAVED])  # type: ignore[assignment]
        if saved is not None:
            held = load_file(saved.folder / _SAVED)
            self.parts = [TokenTargets(held["ids"], held["log_probs"], held["log_rest"])]
            self.rows = saved.number
        return self.rows

    def add(self, found: TokenTargets, *, rows: int) -> None:
        """Take one batch, and save what there is if that is due."""
        self.parts.append(found)
        self.rows += rows
        if self.partial and time.monotonic() - self.last_save >= self.every_seconds:
            self._save(self.partial)

    def _save(self, partial: PartialResults) -> None:
        from safetensors.torch import save_file

        whole = _joined(self.parts)
        self.parts = [whole]
        draft = partial.new_draft()
        held = {"ids": whole.ids_NK, "log_probs": whole.log_probs_NK, "log_rest": whole.log_rest_N}
        save_file(held, draft / _SAVED)
        partial.save(draft, self.rows, self.run)
        partial.keep_newest(1)
        self.last_save = time.monotonic()

    def in_rows(self, order: Sequence[int], offsets: Sequence[int]) -> TokenTargets:
        """Everything in the order of the rows.

        Args:
            order: the rows, as the pass had them.
            offsets: where each row's tokens go.
        """
        whole = _joined(self.parts)
        places = [place for row in order for place in range(offsets[row], offsets[row + 1])]
        back = torch.tensor(places).argsort()
        return TokenTargets(whole.ids_NK[back], whole.log_probs_NK[back], whole.log_rest_N[back])


def _joined(parts: Iterable[TokenTargets]) -> TokenTargets:
    ids, log_probs, log_rest = zip(
        *((p.ids_NK, p.log_probs_NK, p.log_rest_N) for p in parts), strict=True
    )
    return TokenTargets(torch.cat(ids), torch.cat(log_probs), torch.cat(log_rest))
