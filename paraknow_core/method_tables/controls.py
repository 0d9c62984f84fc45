"""Controls: a method with one thing taken away."""

from dataclasses import replace

from paraknow_core.method import Change, Method
from paraknow_core.method_tables.names import CRITICISM


def control(
    method: Method,
    of: str,
    changes: Change,
    *,
    label: str,
    start: str,
    beaten: str,
    replacement: str = "",
    called: str = "",
    draws: bool = True,
    needs: tuple[str, ...] = (),
    missed: str = "",
    keeps_knowledge: bool = False,
) -> Method:
    """Take one thing away from a method; all else is the method's own: wiring, roles, needs.

    Args:
        method: the method's entry.
        of: its name.
        changes: what is replaced.
        label: how a verdict's sentence calls the control.
        start: what its start point is.
        beaten: what it means that the method beats it.
        replacement: what is put in the place, by the name that the wiring knows.
        called: how the method is called in the explanation; empty: by its name.
        draws: whether another seed gives another start point.
        needs: what it needs of the settings besides what the method needs.
        missed: what the report of a run without it says.
        keeps_knowledge: whether it still starts from what some teacher learnt.
    """
    return replace(
        method,
        label=label,
        title="",
        start=start,
        tells=f"If {called or of} beats it, {beaten}; if not, its gain is not owed to that.",
        source=CRITICISM,
        of=of,
        changes=changes,
        replacement=replacement,
        draws=draws,
        needs=(*method.needs, *needs),
        baseline="",
        rivals=(),
        controls=(),
        missed=missed,
        keeps_knowledge=keeps_knowledge,
    )
