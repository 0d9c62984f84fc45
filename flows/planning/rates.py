"""How fast steps would be that never ran here: by operations and bytes, at given or measured rates.

The work of a step is what its estimate says; it counts matrix products and the passes over memory
that dominate, no loading of models.
"""

from dataclasses import dataclass
from typing import Final

from flows.config.compare import ArmConfig, CompareConfig
from flows.config.limits import BudgetConfig
from paraknow_core.inspection.cost import Work
from paraknow_core.methods import TRANSFER

CPU_FLOPS64: Final = 1e11
"""What an SVD, in float64 on the CPU, is taken to reach beside a given device."""


@dataclass(frozen=True)
class SlotRates:
    """What a slot does in a second, and where these numbers come from.

    Attributes:
        flops: floating-point operations in the compute dtype, of whole steps.
        flops64: the same in float64, on the CPU.
        bandwidth: bytes read and written.
        told: a sentence.
    """

    flops: float
    flops64: float
    bandwidth: float
    told: str

    def seconds(self, work: Work) -> float:
        """Return how long a step's work takes."""
        return work.seconds(flops=self.flops, flops64=self.flops64, bandwidth=self.bandwidth)


def given_rates(budget: BudgetConfig) -> SlotRates | None:
    """Return the rates that the settings give, or None if they give none."""
    if not budget.flops:
        return None
    told = (
        f"as given: {budget.flops / 1e12:,.4g} TFLOP/s and {budget.bandwidth / 1e9:,.4g} GB/s a "
        f"slot (budget.flops, budget.bandwidth), SVDs at {CPU_FLOPS64 / 1e9:,.0f} GFLOP/s"
    )
    return SlotRates(budget.flops, CPU_FLOPS64, budget.bandwidth, told)


def rates_here(config: CompareConfig) -> SlotRates:
    """Return the rates that the settings give, else measure this machine for a moment.

    Of a product's measured rate whole steps reach a share, as ``paraknow inspect`` takes it.
    """
    found = given_rates(config.budget)
    if found is not None:
        return found
    from flows.inspection.needs import REACHED, measured

    pair, task = next(config.cells())
    arm = ArmConfig(name="shared", method=TRANSFER)
    dtype = config.transfer(pair, task, arm).finetune.compute_dtype
    machine = measured(dtype)
    told = (
        f"measured here ({machine.device}, {machine.threads} threads, {dtype}): "
        f"{REACHED * machine.flops / 1e9:,.0f} GFLOP/s and {machine.bandwidth / 1e9:,.0f} GB/s; "
        "for another machine give budget.flops and budget.bandwidth"
    )
    flops, flops64 = REACHED * machine.flops, REACHED * machine.flops64
    return SlotRates(flops, flops64, machine.bandwidth, told)
