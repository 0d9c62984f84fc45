"""The parameters of the flow ``quick``: what people change most of a pair, the rest as usual."""

from pathlib import PurePath

from pydantic import Field

from flows.config.transfer import TransferConfig
from paraknow_core.setting_types import LearningRate, PathOrHubId, Rank, Text, TrainingSeed
from paraknow_core.settings import Settings
from tasks.decompose import DecomposeConfig
from tasks.engine.run import RunConfig

_FILES = (".jsonl", ".json", ".parquet")


class QuickConfig(Settings):
    """One teacher/student pair in a few settings; for all others there is `TransferConfig`."""

    name: str = Field("quick", pattern=r"^[A-Za-z0-9][\w.-]{0,127}$", title="Name")
    teacher: PathOrHubId = Field(
        title="Teacher", description="A folder, or a Hub id such as meta-llama/Llama-3.1-8B."
    )
    student: PathOrHubId = Field(title="Student", description="A folder or a Hub id.")
    rows: PathOrHubId = Field(
        title="Rows",
        description="A JSONL or Parquet file, or a Hub data set such as openai/gsm8k.",
    )
    subset: Text = Field("", title="Subset", description="The Hub data set's configuration.")
    prompt_column: Text = Field(
        "prompt", title="Column of prompts", description="Answers are in `answer`."
    )
    rank: Rank = Field(16, title="LoRA rank")
    learning_rate: LearningRate = Field(
        3e-4, title="Learning rate", description="Of the fine-tuning, and of plain LoRA beside it."
    )
    seed: TrainingSeed = Field(0, title="Seed", description="Of the fine-tuning.")
    run: RunConfig = Field(RunConfig(), title="Run", description="Store, device, threads.")

    def transfer(self) -> TransferConfig:
        """Return the whole settings that these stand for.

        Raises:
            ValidationError: if they do not go together.
        """
        is_file = PurePath(self.rows).suffix.lower() in _FILES
        source = {"path": self.rows} if is_file else {"hub": self.rows, "subset": self.subset}
        return TransferConfig.model_validate(
            {
                "name": self.name,
                "teacher": {"model": self.teacher},
                "student": {"model": self.student},
                "data": {"rows": source, "columns": {"prompt": self.prompt_column}},
                "decompose": {"max_rank": max(DecomposeConfig().max_rank, self.rank)},
                "lora": {"rank": self.rank, "alpha": self.rank},
                "finetune": {"seed": self.seed, "learning_rate": self.learning_rate},
                "baseline": {"learning_rate": self.learning_rate},
                "run": self.run,
            }
        )
