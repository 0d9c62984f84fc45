"""The settings of benchmarks: which, with what data, and how they are run."""

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from paraknow_core.evaluation.benchmarks.wanted import SUBSET
from paraknow_core.setting_types import BatchSize, Count, PathOrHubId, Text, TrainingSeed
from paraknow_core.settings import Settings, execution

OWN_BENCHMARK = "own"
"""In place of benchmarks: the one that the file of an experiment's task names."""

Shots = Annotated[int, Field(ge=0, le=1000)]


class HarnessTask(Settings):
    """A task, group or tag of lm-evaluation-harness, or of a definition of one's own."""

    task: Text = Field(
        min_length=1, title="Task", description="Its name: gsm8k, mmlu, hellaswag, or your own."
    )
    shots: Shots | None = Field(
        None,
        title="Shots",
        description="Examples before each question; empty: as the task is defined.",
    )
    limit: Count | None = Field(
        None, title="Limit", description="Questions of each task, the first ones; empty: all."
    )
    data_files: dict[Text, PathOrHubId] = execution(
        {},
        title="Data files",
        description="Split → JSONL, Parquet or CSV file, in place of what the task is defined "
        f"with; {SUBSET} stands for the subset of each task of a group. Identity is the content.",
    )
    dataset_path: PathOrHubId = Field(
        "", title="Data set", description="Of the Hub, in place of the one it is defined with."
    )
    dataset_name: Text = Field("", title="Subset", description="Of that data set.")

    @model_validator(mode="before")
    @classmethod
    def _from_name(cls, given: Any) -> Any:
        return {"task": given} if isinstance(given, str) else given

    @model_validator(mode="after")
    def _one_place(self) -> "HarnessTask":
        if self.data_files and (self.dataset_path or self.dataset_name):
            msg = f"task {self.task}: data_files and dataset_path are both given; give one of them"
            raise ValueError(msg)
        return self

    @property
    def title(self) -> str:
        """How it is called where several uses of a task stand side by side."""
        return title_of(self.task, self.shots, self.limit)


def title_of(task: str, shots: int | None, limit: int | None) -> str:
    """Call a benchmark by its task, shots and limit, as far as they are given."""
    told = "" if shots is None else f" {shots}-shot"
    return task + told + (f" first {limit}" if limit else "")


class HarnessSeeds(Settings):
    """What the harness seeds its generators with; the defaults are its own."""

    random: TrainingSeed = Field(0, title="Python")
    numpy: TrainingSeed = Field(1234, title="NumPy")
    torch: TrainingSeed = Field(1234, title="torch")
    fewshot: TrainingSeed = Field(1234, title="Few-shot examples")


class PromptConfig(Settings):
    """What the harness makes of questions, and of answers that are generated."""

    chat_template: bool = Field(
        default=False,
        title="Chat template",
        description="Prompts are put into the student's own chat template.",
    )
    multiturn: bool = Field(
        default=True,
        title="Examples as turns",
        description="With a chat template: each few-shot example is a turn of its own.",
    )
    system: Text = Field("", title="System instruction")
    max_gen_toks: Count | None = Field(
        None, title="Longest answer", description="Tokens generated; empty: as a task is defined."
    )
    seeds: HarnessSeeds = Field(HarnessSeeds(), title="Seeds")
    batch_size: BatchSize | Literal["auto"] = execution(
        16, title="Batch size", description="Rows a forward pass; auto: as many as fit."
    )
    max_batch_size: BatchSize = execution(
        64, title="Largest batch", description="The most that auto tries."
    )


class HarnessConfig(PromptConfig):
    """What all benchmarks of an experiment share."""

    include_path: PathOrHubId = execution(
        "",
        title="Your definitions",
        description="A folder of *.yaml files as the harness takes them; they go before its own.",
    )
