"""What a comparison may cost, how much of it runs at once and where, and which gain is worth it."""

from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from paraknow_core.evaluation.metrics import METRICS
from paraknow_core.setting_types import CountOrNone, Limit, choose_setting
from paraknow_core.settings import Settings
from tasks.engine.run import RunConfig

_GPU = r"^[A-Za-z0-9][\w/.-]{0,127}$"

Amount = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
"""Of a budget."""
Speed = Annotated[float, Field(ge=0, le=1e21, allow_inf_nan=False)]
"""Operations or bytes a second."""


def _of_metrics(margins: dict[str, float]) -> dict[str, float]:
    for name in margins:
        choose_setting("metric", name, METRICS)
    return margins


Margins = Annotated[dict[Annotated[str, Field(max_length=256)], Limit], AfterValidator(_of_metrics)]
"""Name of a metric → the least difference in it that matters."""


class BudgetConfig(Settings):
    """What a plan may cost, and by what it is estimated. 0: no limit, or not known.

    A plan beyond a limit is refused before anything runs.
    """

    hours: Amount = Field(0, title="Hours", description="Of steps whose time is known.")
    disk_gb: Amount = Field(0, title="Disk", description="Gigabytes (10⁹ bytes).")
    steps: CountOrNone = Field(0, title="Steps", description="To compute.")
    cost: Amount = Field(0, title="Cost", description="In the currency of the price.")
    price: Amount = Field(
        0, title="Price", description="Of an hour of one machine, in any currency."
    )
    flops: Speed = Field(
        0,
        title="Operations a second",
        description="That a slot reaches in training, such as 4e14: the time of steps whose like "
        "never ran here. 0: a plan that is asked for measures this machine.",
    )
    bandwidth: Speed = Field(
        0, title="Bytes a second", description="Of a slot's memory, such as 3e12; with flops."
    )
    flops64: Speed = Field(
        0,
        title="Float64 operations a second",
        description="That SVDs reach, such as 2e13 on a GPU with double precision; with flops. "
        "0: 1e11, a CPU's.",
    )

    @model_validator(mode="after")
    def _both_rates(self) -> Self:
        if bool(self.flops) != bool(self.bandwidth):
            given, lacking = ("flops", "bandwidth") if self.flops else ("bandwidth", "flops")
            msg = f"{given} is given without {lacking}; a plan's hours need both, or neither"
            raise ValueError(msg)
        if self.flops64 and not self.flops:
            msg = "flops64 is given without flops; set flops and bandwidth as well, or none of them"
            raise ValueError(msg)
        if self.cost and not self.price:
            msg = f"cost is limited to {self.cost:g}, but there is no price of an hour; set price"
            raise ValueError(msg)
        return self


class SlotsConfig(Settings):
    """How many steps compute at the same time."""

    cpu: int = Field(1, ge=1, le=256, title="CPU slots")
    gpus: tuple[Annotated[str, Field(pattern=_GPU)], ...] = Field(
        (),
        title="GPU slots",
        description="One for each: its number or id, as CUDA_VISIBLE_DEVICES takes it.",
    )

    def check_processes(self, processes: int) -> None:
        """Refuse a training on more GPUs than there are slots for.

        Raises:
            ValueError: says which GPUs there are.
        """
        there = sorted(set(self.gpus))
        if there and processes > len(there):
            msg = (
                f"finetune.processes is {processes}, each on a GPU of its own, but slots.gpus has "
                f"{', '.join(there)}; add GPUs there, or lower finetune.processes"
            )
            raise ValueError(msg)


class FanOutConfig(Settings):
    """Where the cells of a comparison are computed: here, or in runs of a deployment."""

    deployment: str = Field(
        "",
        max_length=256,
        pattern=r"^([^/]+/[^/]+)?$",
        title="Deployment",
        description="FLOW/NAME of the deployment whose runs compute them, on whatever workers "
        "take these: compare-cells/cells. Empty: they are computed here.",
    )
    by: Literal["cell", "pair"] = Field(
        "cell",
        title="A run for each",
        description="cell: one pair on one task; pair: one pair on all tasks, so that what its "
        "tasks share is computed where it is needed.",
    )
    in_flight: int = Field(
        4, ge=1, le=256, title="In flight", description="Runs that are submitted at the same time."
    )
    attempts: int = Field(
        2,
        ge=1,
        le=20,
        title="Attempts",
        description="How often a run that failed or was lost is started, the first time included.",
    )

    def check_with(self, slots: SlotsConfig, run: RunConfig) -> None:
        """Refuse settings with which runs elsewhere could not work as they are meant.

        Raises:
            ValueError: says what to set.
        """
        if not self.deployment:
            return
        if slots.gpus:
            msg = (
                "slots.gpus and fan_out.deployment are both set, but a run of a deployment has "
                "the GPU of its worker; leave slots.gpus empty, or compute here without fan_out"
            )
            raise ValueError(msg)
        if run.device == "auto":
            msg = (
                "fan_out.deployment needs run.device: cpu or cuda, not auto: results have the kind "
                "of device in their keys, and this machine may have another than the workers"
            )
            raise ValueError(msg)
