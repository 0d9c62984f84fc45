"""What of a comparison is to show that the teacher matters, besides its verdicts."""

from typing import Annotated

from pydantic import Field

from paraknow_core.setting_types import EachOnce, OneOf
from paraknow_core.settings import Settings
from paraknow_core.statistics.proofs import PROOFS


class OrderConfig(Settings):
    """Pairs that differ in their teacher alone; along the order the student should get better."""

    kind: Annotated[str, OneOf("proof", PROOFS)] = Field(
        title="Kind", description=f"What the order is to show: {', '.join(PROOFS)}."
    )
    pairs: Annotated[tuple[Annotated[str, Field(max_length=64)], ...], EachOnce] = Field(
        min_length=2,
        title="Pairs",
        description="Names of pairs; the one whose student is expected to be worst comes first.",
    )


class ProofConfig(Settings):
    """What is to show that the teacher matters, besides the verdicts."""

    step_zero: bool = Field(
        False,
        title="Step 0",
        description="Measure each start point untrained: the student with the product B0 A0 added.",
    )
    orders: tuple[OrderConfig, ...] = Field((), title="Orders of pairs")

    def orders_pair(self, pair: str) -> bool:
        """Whether a pair stands in any order, so that its teacher's own score is needed."""
        return any(pair in order.pairs for order in self.orders)
