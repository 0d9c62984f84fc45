"""``paraknow tasks``: the tasks that are shipped, and whether one's own is in order."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from flows.terminal import Terminal, say

if TYPE_CHECKING:
    from flows.presets.check import TaskCheck
    from flows.presets.files import TaskFile

tasks_app = typer.Typer(
    help="Tasks as files: list those that are shipped, show one, check one of your own.",
    invoke_without_command=True,
)

JsonFlag = Annotated[bool, typer.Option("--json", help="Print JSON.")]


@tasks_app.callback()
def list_command(context: typer.Context, *, json_: JsonFlag = False) -> None:
    """List the tasks that are shipped; each of them is read and validated.

    Examples:
    - `paraknow tasks`
    - `paraknow tasks show gsm8k`
    - `paraknow tasks check mine.yaml --tokenizer ./models/student`
    """
    if context.invoked_subcommand is not None:
        return
    from flows.presets.files import TaskFile, read_preset, shipped

    tasks = {name: read_preset(TaskFile, name) for name in shipped(TaskFile)}
    if json_:
        _say_json([{"name": name, **_about(task)} for name, task in tasks.items()])
        return
    table = Table("task", "what", "seeds", "train", "valid.", "test", "primary metric", "harness")
    for name, task in tasks.items():
        about = _about(task)
        sizes = [str(size) for size in about["sizes"].values()]
        table.add_row(name, task.title, *sizes, about["primary"], task.harness)
    console = Terminal(highlight=False)
    console.print(table)
    console.print(
        "paraknow transfer --task NAME --recipe seeking --set teacher.model=… --set "
        "student.model=…; a task of your own is a file like those: paraknow tasks show NAME",
        soft_wrap=True,
    )


@tasks_app.command("show")
def show_command(
    name: Annotated[str, typer.Argument(help="Name of a task, or its YAML file.")],
    *,
    json_: JsonFlag = False,
) -> None:
    """Print a task's file, which is also a pattern for one of your own."""
    from flows.presets.files import TaskFile, find, read_preset

    task, path = read_preset(TaskFile, name), find(TaskFile, name)
    if json_:
        _say_json({"name": path.stem, "file": str(path), **task.model_dump(mode="json")})
        return
    say(f"# {path}\n{path.read_text(encoding='utf-8').rstrip()}")


@tasks_app.command("check")
def check_command(
    name: Annotated[str, typer.Argument(help="Name of a task, or its YAML file.")],
    *,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override, such as data.rows.path=rows.jsonl."
        ),
    ] = None,
    tokenizer: Annotated[
        str, typer.Option(help="A model's folder or Hub id; without it no tokens are counted.")
    ] = "",
    cutoff: Annotated[int, typer.Option(min=8, max=10**9, help="Tokens kept of a row.")] = 2048,
    store: Annotated[
        Path | None, typer.Option(help="The store; the usual one if not given.")
    ] = None,
    json_: JsonFlag = False,
) -> None:
    """Read a task's rows: how many there are, how long, what is cut, and what the splits share.

    Exit code 0: a comparison could run on them; 1: it would be refused, or rows lose their whole
    answer at the cut-off; 2: the file or the rows cannot be read.
    """
    from flows.presets.check import check_task
    from flows.presets.files import TaskFile, read_preset
    from flows.presets.overrides import task_with
    from tasks.engine.run import RunConfig

    task = task_with(read_preset(TaskFile, name), set_ or [])
    run = RunConfig() if store is None else RunConfig(store=str(store))
    found = check_task(task, run=run, tokenizer=tokenizer, cutoff=cutoff)
    if json_:
        _say_json(found.as_json())
    else:
        _show(Terminal(highlight=False), found, cutoff)
    if not found.is_fine:
        raise typer.Exit(1)


def _about(task: "TaskFile") -> dict[str, Any]:
    return {
        "title": task.title,
        "source": task.source,
        "harness": task.harness,
        "sizes": task.data.sizes.model_dump(),
        "primary": task.evaluate.primary,
        "metrics": list(task.evaluate.metrics),
    }


def _show(console: Terminal, found: "TaskCheck", cutoff: int) -> None:
    table = Table("split", "rows", "tokens: median", "longest", "lose their end", "lose the answer")
    for name, rows in found.rows.items():
        tokens = found.tokens.get(name)
        said = (
            [f"{tokens.median:g}", str(tokens.longest), str(tokens.truncated), str(tokens.dropped)]
            if tokens
            else [""] * 4
        )
        table.add_row(name, str(rows), *said)
    console.print(table)
    told = [f"{found.references} test rows have several right answers."] * bool(found.references)
    if found.unanswered:
        told.append(f"{found.unanswered} test rows have no answer: they are not scored.")
    if found.unmatched:
        shown = ", ".join(found.unmatched[:5])
        told.append(
            f"In the answers of {len(found.unmatched)} test rows evaluate.match finds nothing to "
            f"compare: {shown}"
        )
    if found.tokens:
        told.append(f"The cut-off is {cutoff} tokens.")
    shared = [entry for entry in found.overlap if entry.hits]
    refused = found.refused
    for entry in shared:
        told.append(f"{entry.describe()}{'' if entry in refused else ' (allowed)'}")
    if not shared:
        told.append("No two splits share rows.")
    for line in told:
        console.print(line, soft_wrap=True)
    if found.shown is not None:
        prompt, answer = found.shown.prompt, found.shown.answer
        console.print(f"\nThe first test row, {found.shown.id}:", soft_wrap=True)
        say(f"{prompt[-2000:]}[{answer[:500]}]")


def _say_json(value: Any) -> None:
    say(json.dumps(value, indent=1))
