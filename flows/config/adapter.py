"""The adapter of an arm: its size, and which matrices get one at all."""

from paraknow_core.settings import later
from tasks.extract import Roles
from tasks.starts.lora import LoraConfig


class AdapterConfig(LoraConfig):
    """Size of the adapter, and which matrices are trained besides those that are transferred."""

    train_roles: Roles | None = later(
        None,
        min_length=1,
        title="Trained roles",
        description="Kinds of matrix that are trained, or groups of them, such as all (SeeKing's "
        "public code); those that nothing is extracted for start as plain LoRA. Unset: "
        "extract.roles, and no others.",
    )

    def start(self) -> LoraConfig:
        """Return what of it the start point's step takes, whose key knows nothing of the rest."""
        return LoraConfig(**{name: getattr(self, name) for name in LoraConfig.model_fields})
