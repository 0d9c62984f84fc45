"""What asking a judge would take, told before anything is asked."""

from collections.abc import Sequence
from dataclasses import dataclass

from tasks.engine.estimates import Estimate


@dataclass(frozen=True)
class JudgingCost:
    """What asking a judge takes at most: answers that are kept from earlier are not subtracted.

    Attributes:
        questions: two a pair of answers.
        tokens_in: of the questions, about.
        tokens_out: of the answers, at most.
        price: in the currency of the prices; None where none were given.
        unknown: comparisons of whose questions nothing is known yet.
    """

    questions: int
    tokens_in: int
    tokens_out: int
    price: float | None
    unknown: int

    @classmethod
    def of(cls, needs: Sequence[Estimate]) -> "JudgingCost | None":
        """Add up what single comparisons take; None if there are none."""
        if not needs:
            return None
        prices = [need.price for need in needs if need.requests]
        return cls(
            questions=sum(need.requests or 0 for need in needs),
            tokens_in=sum(need.tokens or 0 for need in needs),
            tokens_out=sum(need.tokens_out or 0 for need in needs),
            price=None if None in prices else sum(price or 0.0 for price in prices),
            unknown=sum(need.requests is None for need in needs),
        )

    def text(self) -> str:
        """Say it in a sentence."""
        price = "" if self.price is None else f", a price of about {self.price:,.2f}"
        more = f"; {self.unknown} comparisons are not known yet" if self.unknown else ""
        return (
            f"The judge would be asked at most {self.questions:,} questions, with about "
            f"{self.tokens_in:,} tokens, and write up to {self.tokens_out:,}{price}{more}; what it "
            "said before of the same answers is kept and not asked again"
        )
