"""What a task's rows are, before any training: counts, tokens, what is cut, what overlaps."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from flows.presets.files import TaskFile
from paraknow_core.data import read_split
from paraknow_core.data.contamination import SharedRows, contamination
from paraknow_core.data.deal import pair_name
from paraknow_core.data.examples import Example
from paraknow_core.data.tokenisation import encode_prompt, tokenise_whole
from paraknow_core.evaluation.match import get_match
from tasks.acquire_data import acquire_data
from tasks.engine.ref import folder_of
from tasks.engine.run import RunConfig
from tasks.engine.run_step import run_step
from tasks.rows.config import SPLIT_FILES

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


@dataclass(frozen=True)
class SplitTokens:
    """How long a split's rows are with a tokenizer.

    Attributes:
        median: tokens of a row, prompt and answer.
        longest: the most tokens of a row.
        truncated: rows that lose the end of their answer at the cut-off.
        dropped: rows that lose their whole answer there.
    """

    median: float
    longest: int
    truncated: int
    dropped: int


@dataclass(frozen=True)
class TaskCheck:
    """What was found.

    Attributes:
        rows: split → number of rows.
        unanswered: test rows without an answer.
        references: test rows with several right answers.
        unmatched: ids of test rows in whose answers the match finds nothing to compare.
        overlap: what every two splits share.
        allowed: names of the pairs of splits that may share rows.
        tokens: split → lengths; empty without a tokenizer.
        shown: the first test row, as a model sees it.
    """

    rows: Mapping[str, int]
    unanswered: int
    references: int
    unmatched: Sequence[str]
    overlap: Sequence[SharedRows]
    allowed: Sequence[str]
    tokens: Mapping[str, SplitTokens] = field(default_factory=dict)
    shown: Example | None = None

    @property
    def refused(self) -> list[SharedRows]:
        """What a comparison would refuse."""
        return [
            entry
            for entry in self.overlap
            if entry.hits and pair_name(entry.first, entry.second) not in self.allowed
        ]

    @property
    def is_fine(self) -> bool:
        """Whether a comparison could run on these rows."""
        trained = (self.tokens[name] for name in ("seeds", "train") if name in self.tokens)
        lost = any(found.dropped for found in trained)
        return not (self.refused or self.unmatched or lost)

    def as_json(self) -> dict[str, Any]:
        """Return all but the rows themselves, as plain values."""
        return {
            "rows": dict(self.rows),
            "unanswered": self.unanswered,
            "references": self.references,
            "unmatched": list(self.unmatched),
            "tokens": {name: vars(found) for name, found in self.tokens.items()},
            "overlap": [
                {
                    "pair": pair_name(entry.first, entry.second),
                    "kind": entry.kind,
                    "rows": [[first, second] for first, second, _ in entry.examples],
                    "allowed": pair_name(entry.first, entry.second) in self.allowed,
                }
                for entry in self.overlap
                if entry.hits
            ],
            "fine": self.is_fine,
        }


def check_task(
    task: TaskFile, *, run: RunConfig, tokenizer: str = "", cutoff: int = 2048
) -> TaskCheck:
    """Acquire a task's rows, and look at them.

    Args:
        task: its file.
        run: store, and whether data sets of the Hub may be downloaded.
        tokenizer: a model's folder or Hub id; empty: tokens are not counted.
        cutoff: tokens kept of a row.

    Raises:
        DataError, ConfigError, TokenizerError: as acquiring and tokenising rows raise them.
    """
    loaded = _tokenizer(tokenizer, run) if tokenizer else None
    ref = run_step(acquire_data, label="data", config=task.data, inputs={}, run=run)
    folder = folder_of(run.open_store(), ref)
    splits = {name: read_split(folder / file) for name, file in SPLIT_FILES.items()}
    test = splits["test"]
    extract = get_match(task.evaluate.match)
    texts = {row.id: (row.answer, *row.references) for row in test if row.answer}
    return TaskCheck(
        rows={name: len(rows) for name, rows in splits.items()},
        unanswered=sum(row.input_ids is None and not row.answer for row in test),
        references=sum(bool(row.references) for row in test),
        unmatched=[name for name, given in texts.items() if not all(map(extract, given))],
        overlap=contamination(splits),
        allowed=task.data.may_share_rows(),
        tokens={}
        if loaded is None
        else {name: _lengths(rows, loaded, cutoff) for name, rows in splits.items() if rows},
        shown=test[0] if test else None,
    )


def _tokenizer(model: str, run: RunConfig) -> "PreTrainedTokenizerBase":
    from paraknow_core.models.load import load_tokenizer
    from tasks.teachers.find import find_model

    return load_tokenizer(find_model(model, "main", download=run.download))


def _lengths(
    rows: Sequence[Example], tokenizer: "PreTrainedTokenizerBase", cutoff: int
) -> SplitTokens:
    lengths, truncated, dropped = [], 0, 0
    for row in rows:
        if row.input_ids is None and not row.answer:
            lengths.append(len(encode_prompt(row, tokenizer)))
            continue
        whole = tokenise_whole(row, tokenizer)
        lengths.append(len(whole.input_ids))
        lost = all(label < 0 for label in whole.labels[:cutoff])
        dropped += lost
        truncated += not lost and len(whole.input_ids) > cutoff
    return SplitTokens(statistics.median(lengths), max(lengths), truncated, dropped)
