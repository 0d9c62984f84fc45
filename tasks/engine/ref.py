"""What passes between tasks: small JSON references. No tensor ever crosses a task boundary."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict


class Ref(BaseModel):
    """One step's output in the store, by name and by content."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    step: str
    label: str
    key: str
    tree: str
    files: Mapping[str, str]
    """File name → digest."""
    size: int
    """Bytes of all files."""
    location: str = ""
    """Where the files that this output describes lie now (a model folder). Not identity."""
    cached: bool
    seconds: float
    """What computing it took, now or when it was first computed."""
