"""What a start point without a teacher is made from: the student, its modules, the samples."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn

from paraknow_core.data.examples import TokenisedExample
from paraknow_core.initialisation.peft_layer import peft_factors
from paraknow_core.lora.adapter import LoraFactors
from paraknow_core.progress import Progress


@dataclass(frozen=True)
class StartOptions:
    """The methods' own settings; each is used by one method only.

    Attributes:
        corda_mode: ``ipm`` starts in the directions that matter to the samples, ``kpm`` in those
            that matter least to them.
        eva_answers_only: EVA looks at the inputs of answer tokens only, as in its paper.
        lora_ga_gamma: LoRA-GA's γ, above 0: the larger, the smaller the start product.
    """

    corda_mode: str = "ipm"
    eva_answers_only: bool = True
    lora_ga_gamma: float = 16.0


USUAL_OPTIONS = StartOptions()


@dataclass(frozen=True)
class StartRequest:
    """One start point to make.

    Attributes:
        model: the student, in float32.
        modules: names of the modules to adapt.
        samples: tokenised seed samples; empty for a method that needs none.
        rank: of every factor.
        alpha: PEFT's scale is ``alpha / rank``.
        options: the methods' own settings.
        progress: called by ``each`` before each module.
    """

    model: Any
    modules: tuple[str, ...]
    samples: Sequence[TokenisedExample]
    rank: int
    alpha: float
    options: StartOptions
    progress: Progress

    def each(self) -> Iterator[tuple[str, Any]]:
        """Go through the modules by name."""
        for done, name in enumerate(self.modules):
            self.progress(done, len(self.modules), name)
            yield name, self.model.get_submodule(name)

    def by_peft(self, layer: nn.Linear, **init: Any) -> LoraFactors:
        """Let PEFT initialise a layer, and return its factors."""
        return peft_factors(layer, rank=self.rank, alpha=self.alpha, **init)


Factors = dict[str, LoraFactors]
"""By the name of the module; what a method leaves out gets plain LoRA's start."""
