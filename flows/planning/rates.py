"""How fast steps would be that never ran here: by operations and bytes, at given or measured rates.

The work of a step is what its estimate says. Rates are given, or this machine was calibrated
(`flows.calibration`), or it is measured for a moment.
"""

from typing import Final

from flows.config.compare import ArmConfig, CompareConfig
from flows.config.limits import BudgetConfig
from paraknow_core.inspection.laws import SlotRates
from paraknow_core.methods import TRANSFER
from tasks.engine.run import RunConfig

CPU_FLOPS64: Final = 1e11
"""What an SVD is taken to reach in float64 where nothing is given: what a CPU does."""


def given_rates(budget: BudgetConfig) -> SlotRates | None:
    """Return the rates that the settings give, or None if they give none."""
    if not budget.flops:
        return None
    flops64 = budget.flops64 or CPU_FLOPS64
    told = (
        f"at rates as given: {budget.flops / 1e12:,.4g} TFLOP/s and "
        f"{budget.bandwidth / 1e9:,.4g} GB/s a slot (budget.flops, budget.bandwidth), SVDs at "
        f"{flops64 / 1e9:,.0f} GFLOP/s"
    )
    return SlotRates(budget.flops, flops64, budget.bandwidth, told)


def rates_for(budget: BudgetConfig, run: RunConfig, dtype: str, *, at_once: int = 1) -> SlotRates:
    """Return the rates that the settings give, else this machine's: calibrated, or measured now.

    Args:
        budget: with the rates, if there are any.
        run: device and threads.
        dtype: that models are trained in.
        at_once: steps that share the machine's threads, where the settings do not name them.
    """
    found = given_rates(budget)
    if found is not None:
        return found
    from flows.calibration.stored import Where, calibrated
    from flows.inspection.needs import measured_rates

    threads = run.threads or max(1, run.thread_count() // at_once)
    known = calibrated(Where(run.device_type(), threads, dtype))
    return known or measured_rates(dtype, threads, run.device)


def rates_here(config: CompareConfig) -> SlotRates:
    """Return the rates of a comparison's slots, see `rates_for`."""
    pair, task = next(config.cells())
    arm = ArmConfig(name="shared", method=TRANSFER)
    dtype = config.transfer(pair, task, arm).finetune.compute_dtype
    return rates_for(config.budget, config.run, dtype, at_once=config.slots.cpu)
