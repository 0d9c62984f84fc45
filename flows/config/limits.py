"""What a comparison may cost, how much of it runs at once, and which gain is worth it."""

from typing import Annotated

from pydantic import AfterValidator, Field

from paraknow_core.evaluation.metrics import METRICS
from paraknow_core.setting_types import CountOrNone, Limit, choose_setting
from paraknow_core.settings import Settings

_GPU = r"^[A-Za-z0-9][\w/.-]{0,127}$"

Amount = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
"""Of a budget."""


def _of_metrics(margins: dict[str, float]) -> dict[str, float]:
    for name in margins:
        choose_setting("metric", name, METRICS)
    return margins


Margins = Annotated[dict[Annotated[str, Field(max_length=64)], Limit], AfterValidator(_of_metrics)]
"""Name of a metric → the least difference in it that matters."""


class BudgetConfig(Settings):
    """What a plan may cost; a plan beyond it is refused before anything runs. 0: no limit."""

    hours: Amount = Field(0, title="Hours", description="Of steps whose time is known.")
    disk_gb: Amount = Field(0, title="Disk", description="Gigabytes (10⁹ bytes).")
    steps: CountOrNone = Field(0, title="Steps", description="To compute.")


class SlotsConfig(Settings):
    """How many steps compute at the same time."""

    cpu: int = Field(1, ge=1, le=256, title="CPU slots")
    gpus: tuple[Annotated[str, Field(pattern=_GPU)], ...] = Field(
        (),
        title="GPU slots",
        description="One for each: its number or id, as CUDA_VISIBLE_DEVICES takes it.",
    )
