"""``paraknow inspect``: whether a pair can run, before anything does."""

from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from artifacts.disk.sizes import size_text
from flows.cli.store.options import JsonOption, StoreOption
from flows.terminal import Terminal, say

if TYPE_CHECKING:
    from flows.inspection.pair import Inspection


def inspect_command(
    teacher: Annotated[str, typer.Argument(help="Folder or Hub id.")],
    student: Annotated[str, typer.Argument(help="Folder or Hub id.")],
    *,
    roles: Annotated[
        str, typer.Option(help="Kinds of matrix, such as q,k,v,o or embed; all if not given.")
    ] = "",
    rank: Annotated[
        int, typer.Option(min=1, max=2**17, help="Of the adapter; delivered is twice that.")
    ] = 16,
    samples: Annotated[
        int, typer.Option(min=1, max=10**9, help="Seed samples of the sensitivity.")
    ] = 32,
    tokens: Annotated[
        int, typer.Option(min=8, max=10**9, help="Tokens of a row, for the estimates of time.")
    ] = 256,
    structure: Annotated[
        str, typer.Option(help="How matrices are cut; the default if not given.")
    ] = "",
    dtype: Annotated[
        str, typer.Option(help="That models are computed in: float32 or bfloat16.")
    ] = "float32",
    download: Annotated[
        bool, typer.Option("--download", help="Fetch a Hub id that is not here, weights and all.")
    ] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Say what a transfer would cut how, what it would need here, and whether it can run.

    Reads configs, heads of weight files and tokenizers; nothing is computed or stored. Exit code
    0: can run; 1: cannot; 2: a model cannot be read, or a setting is wrong.

    Examples:
    - `paraknow inspect ./models/teacher ./models/student`
    - `paraknow inspect TEACHER STUDENT --roles q,k,v,o,gate,up,down --rank 8 --json`
    """
    from flows.inspection.pair import InspectionRequest, inspect_pair

    question = InspectionRequest(
        teacher,
        student,
        roles=tuple(role for role in roles.replace(",", " ").split()),
        rank=rank,
        samples=samples,
        tokens=tokens,
        structure=structure,
        dtype=dtype,
        download=download,
        store=store,
    )
    found = inspect_pair(question)
    if as_json:
        say(found.to_json())
    else:
        show(Terminal(highlight=False), found)
    if not found.can_run:
        raise typer.Exit(1)


def show(console: Terminal, found: "Inspection") -> None:
    """Print a report, readable at 80 columns."""
    console.print(_models(found))
    console.print(f"\n{_vocabulary(found)}")
    console.print(f"\nCuts (structure: {found.structure})")
    console.print(_roles(found))
    console.print("\nEstimates on this machine, one run of each step")
    console.print(_steps(found))
    _show_machine(console, found)
    _show_verdict(console, found)


def _table(*columns: str, right: tuple[int, ...] = ()) -> Table:
    table = Table(box=None, pad_edge=False)
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number in right else "left")
    return table


def _models(found: "Inspection") -> Table:
    table = _table("", "teacher", "student", right=(1, 2))
    rows: dict[str, Any] = {
        "family": lambda m: m.model_type,
        "parameters": lambda m: _count(m.num_parameters),
        "on disk": lambda m: size_text(m.weight_bytes),
        "dtype": lambda m: ", ".join(sorted({t.dtype for t in m.tensors})),
        "layers": lambda m: str(m.num_layers),
        "hidden size": lambda m: str(m.hidden_size),
        "heads, key/value heads": lambda m: f"{m.num_heads}, {m.num_kv_heads}",
        "head width": lambda m: str(m.head_dim),
        "FFN size": lambda m: str(m.intermediate_size),
        "rows of the embedding": lambda m: str(m.vocab_size),
        "head tied to embedding": lambda m: "yes" if m.tied else "no",
    }
    for name, value in rows.items():
        table.add_row(name, value(found.teacher), value(found.student))
    return table


def _vocabulary(found: "Inspection") -> str:
    words = found.vocabularies
    if words.equal:
        return f"Tokenizer: the same, {words.student_tokens:,} tokens."
    return (
        f"Tokenizers differ: teacher {words.teacher_tokens:,} tokens, student "
        f"{words.student_tokens:,}. Of the student's, the teacher has {100 * words.shared:.1f} % "
        f"by their text, {100 * words.same_row:.1f} % in the same row."
    )


def _roles(found: "Inspection") -> Table:
    table = _table("role", "teacher → student", "times", "", right=(2,))
    for report in found.pair.roles:
        theirs, mine = _shapes(report.teacher_shapes), _shapes(report.student_shapes)
        how = report.reason if report.status == "cut" else f"{report.status}: {report.reason}"
        table.add_row(report.role, f"{theirs} → {mine}", str(report.count or ""), how)
    return table


def _shapes(shapes: tuple[tuple[int, ...], ...]) -> str:
    shown = [" × ".join(map(str, shape)) for shape in shapes[:2]]
    return " or ".join(shown) + (" …" if len(shapes) > 2 else "") if shown else "none"


def _steps(found: "Inspection") -> Table:
    table = _table("step", "memory", "disk", "time", right=(1, 2, 3))
    for step in found.steps:
        sizes = [size_text(n) if n else "" for n in (step.memory_bytes, step.disk_bytes)]
        table.add_row(step.step, *sizes, "" if step.seconds is None else _time(step.seconds))
    return table


def _show_machine(console: Terminal, found: "Inspection") -> None:
    machine, question = found.machine, found.question
    console.print(
        f"\nTimes are estimates {found.rates.told}, for {question.samples} samples, 1,000 "
        f"training rows × 3 epochs and 500 test rows of {question.tokens} tokens. "
        f"{found.rates.worth}. Memory is that of tensors; a CPU's allocator may keep as much "
        "again (see README).",
    )
    console.print(
        f"Memory {size_text(machine.memory_bytes)}, free {size_text(machine.free_bytes)}. "
        f"Disk: {size_text(found.disk_bytes)} needed, {size_text(found.disk_free_bytes)} free.",
    )
    limit = f"; the limit is {found.pair.max_rank}, by {found.pair.narrowest}"
    console.print(
        f"Rank {question.rank}, delivered as {2 * question.rank}"
        f"{limit if found.pair.max_rank else ''}.\n",
    )


def _show_verdict(console: Terminal, found: "Inspection") -> None:
    for note in found.notes:
        console.print(f"Note: {note}")
    for problem in found.problems:
        console.print(f"Problem ({problem.kind}): {problem.message}", style="red")
    if found.can_run:
        console.print("Verdict: can run.", style="green")
    else:
        console.print("Verdict: cannot run; see what to change above.", style="red")


def _count(number: int) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M"), (1e3, "k")):
        if number >= size:
            return f"{number / size:.2f} {unit}"
    return str(number)


def _time(seconds: float) -> str:
    if seconds < 1:
        return "under 1 s"
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
