"""How fast steps would be that never ran here: by operations and bytes, at given or measured rates.

The work of a step is what its estimate says. SlotRates are given, or this machine was calibrated
(`flows.calibration`), or it is measured for a moment.
"""

from typing import Final

from flows.config.compare import ArmConfig, CompareConfig
from flows.config.limits import BudgetConfig
from paraknow_core.inspection.laws import SlotRates
from paraknow_core.methods import TRANSFER

CPU_FLOPS64: Final = 1e11
"""What an SVD, in float64 on the CPU, is taken to reach beside a given device."""


def given_rates(budget: BudgetConfig) -> SlotRates | None:
    """Return the rates that the settings give, or None if they give none."""
    if not budget.flops:
        return None
    told = (
        f"at rates as given: {budget.flops / 1e12:,.4g} TFLOP/s and "
        f"{budget.bandwidth / 1e9:,.4g} GB/s a slot (budget.flops, budget.bandwidth), SVDs at "
        f"{CPU_FLOPS64 / 1e9:,.0f} GFLOP/s"
    )
    return SlotRates(budget.flops, CPU_FLOPS64, budget.bandwidth, told)


def rates_here(config: CompareConfig) -> SlotRates:
    """Return the rates that the settings give, else this machine's: calibrated, or measured now."""
    found = given_rates(config.budget)
    if found is not None:
        return found
    from flows.calibration.stored import Where, calibrated
    from flows.inspection.needs import measured_rates

    pair, task = next(config.cells())
    arm = ArmConfig(name="shared", method=TRANSFER)
    dtype = config.transfer(pair, task, arm).finetune.compute_dtype
    threads = config.run.threads or max(1, config.run.thread_count() // config.slots.cpu)
    known = calibrated(Where(config.run.device_type(), threads, dtype))
    return known or measured_rates(dtype, threads)
