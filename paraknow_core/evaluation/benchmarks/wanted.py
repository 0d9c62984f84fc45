"""What benchmark is asked for, and how it is run. Imports no library."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

SUBSET = "{subset}"
"""In the place of a data file: the task's own subset, such as the subject of MMLU."""


@dataclass(frozen=True)
class Wanted:
    """A task, group or tag of the harness, and where its data comes from.

    Attributes:
        name: as the harness or a file of the user's knows it.
        shots: examples before each question; None: as the definition says.
        include: folder with definitions of the user's; they go before the harness's own.
        data_files: split → JSON, JSONL, Parquet or CSV file, in place of the definition's data.
        dataset_path: data set of the Hub, or folder, in place of the definition's.
        dataset_name: its subset.
    """

    name: str
    shots: int | None = None
    include: Path | None = None
    data_files: Mapping[str, str] = field(default_factory=dict)
    dataset_path: str = ""
    dataset_name: str = ""

    @property
    def has_own_data(self) -> bool:
        """Whether its data is not the one that the definition names."""
        return bool(self.data_files or self.dataset_path or self.dataset_name)


@dataclass(frozen=True)
class Asking:
    """How a benchmark is run; the defaults are those of the harness's command line.

    Attributes:
        limit: questions of each task, the first ones; None: all.
        chat_template: whether prompts are put into the tokenizer's chat template.
        multiturn: whether few-shot examples are turns of their own in it.
        system: system instruction; empty: none.
        max_gen_toks: tokens generated at most; None: as the definition says, else 256.
        batch_size: rows a forward pass, or ``auto``.
        max_batch_size: the most that ``auto`` tries.
        seeds: of Python's, NumPy's and torch's generators and of the choice of examples.
    """

    limit: int | None = None
    chat_template: bool = False
    multiturn: bool = True
    system: str = ""
    max_gen_toks: int | None = None
    batch_size: int | str = 16
    max_batch_size: int = 64
    seeds: tuple[int, int, int, int] = (0, 1234, 1234, 1234)
