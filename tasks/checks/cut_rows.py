"""What a cut-off took away, told and counted in the same way by every step that tokenises rows."""

from paraknow_core.data.tokenisation import TokenisedSplit
from tasks.engine.progress import logger
from tasks.engine.step import Facts


def tell_cut(rows: TokenisedSplit, *, label: str, split: str) -> Facts:
    """Warn of rows that lost their end or their whole answer; return the counts as facts.

    Args:
        rows: a split as its step reads it.
        label: of the step.
        split: its name, for the warning.

    Returns:
        ``truncated``: rows that lost their end and are kept; ``dropped``: rows without any answer
        left, which are left out. No ``dropped`` where there are none.
    """
    if rows.dropped:
        logger.warning(
            "%s: %d of %d rows of %s lose their whole answer at the cut-off and are left out; "
            "raise cutoff, or shorten them",
            label,
            rows.dropped,
            rows.dropped + len(rows.examples),
            split,
        )
    if rows.truncated:
        logger.warning(
            "%s: %d of %d rows of %s lose the end of their answer at the cut-off",
            label,
            rows.truncated,
            rows.dropped + len(rows.examples),
            split,
        )
    return {"truncated": rows.truncated} | ({"dropped": rows.dropped} if rows.dropped else {})
