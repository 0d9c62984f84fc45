"""The parameters of the flows, composed of the steps' own configs."""

from pydantic import Field, model_validator

from tasks.acquire_data import DataConfig
from tasks.acquire_model import ModelConfig
from tasks.align import AlignConfig
from tasks.decompose import DecomposeConfig
from tasks.evaluate import EvaluateConfig
from tasks.extract import ExtractConfig
from tasks.finetune import FinetuneConfig
from tasks.identity import StepConfig
from tasks.lora import LoraConfig
from tasks.run import RunConfig
from tasks.sensitivity import SensitivityConfig
from tasks.word_problems import WordProblemsConfig


class BaselineConfig(StepConfig):
    """Plain LoRA on the same data: without it a transfer's result says nothing."""

    enabled: bool = Field(True, title="Train plain LoRA too")
    learning_rate: float = Field(
        3e-4,
        gt=0,
        title="Learning rate",
        description="Its own: inits that start from singular vectors want about half of it.",
    )


class TransferConfig(StepConfig):
    """One teacher/student pair, end to end."""

    name: str = Field(
        "transfer",
        pattern=r"^[A-Za-z0-9][\w.-]{0,127}$",
        title="Name",
        description="How the run is shown; no identity.",
    )
    teacher: ModelConfig = Field(title="Teacher")
    student: ModelConfig = Field(title="Student")
    data: DataConfig = Field(DataConfig(), title="Data")
    problems: WordProblemsConfig | None = Field(
        None, title="Word problems", description="Generated data, in place of Data (the demo's)."
    )
    sensitivity: SensitivityConfig = Field(SensitivityConfig(), title="Sensitivity")
    align: AlignConfig = Field(AlignConfig(), title="Align")
    extract: ExtractConfig = Field(ExtractConfig(), title="Extract")
    decompose: DecomposeConfig = Field(DecomposeConfig(), title="Decompose")
    lora: LoraConfig = Field(LoraConfig(), title="LoRA")
    finetune: FinetuneConfig = Field(FinetuneConfig(), title="Fine-tune")
    baseline: BaselineConfig = Field(BaselineConfig(), title="Plain LoRA")
    evaluate: EvaluateConfig = Field(EvaluateConfig(), title="Evaluate")
    run: RunConfig = Field(RunConfig(), title="Run")

    @model_validator(mode="after")
    def _rank_within_maximum(self) -> "TransferConfig":
        if self.lora.rank > self.decompose.max_rank:
            msg = (
                f"lora.rank is {self.lora.rank}, but decompose.max_rank is "
                f"{self.decompose.max_rank}; lower the rank or raise the maximum"
            )
            raise ValueError(msg)
        return self
