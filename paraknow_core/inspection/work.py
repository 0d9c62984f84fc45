"""What computing a step is, in operations and bytes, and what it depends on besides models."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Work:
    """What a step computes.

    Attributes:
        flops: in the compute dtype, on the device.
        flops64: in float64, on the device: decompositions.
        moved: bytes read and written.
        launches: how often a layer is passed, or a matrix taken up: each time costs something,
            however small the layer is.
    """

    flops: float = 0.0
    flops64: float = 0.0
    moved: float = 0.0
    launches: float = 0.0

    def seconds(self, *, flops: float, flops64: float, bandwidth: float) -> float:
        """Return the time it takes at given rates per second; launches take none."""
        return self.flops / flops + self.flops64 / flops64 + self.moved / bandwidth


@dataclass(frozen=True)
class Amounts:
    """How much data the steps see.

    Attributes:
        samples: seed samples for the sensitivity.
        train: training rows; ``epochs`` passes over them.
        test: rows of the test split.
        tokens: of a row, prompt and answer.
        answer: tokens generated for a test row.
        batch: rows a forward pass of the evaluation.
    """

    samples: int
    train: int
    epochs: int
    test: int
    tokens: int
    answer: int
    batch: int
