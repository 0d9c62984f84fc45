"""``paraknow deliver``: an adapter out of the store, as a folder that others can use."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from flows.cli.store.options import JsonOption, StoreOption, open_store
from flows.terminal import Terminal, say

if TYPE_CHECKING:
    from flows.delivery.deliver import Delivery


def deliver_command(
    key: Annotated[str, typer.Argument(help="Key of a finetune result, or its first digits.")],
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A new or empty folder.")],
    *,
    compress: Annotated[
        int,
        typer.Option(min=0, max=2**17, metavar="R", help="Reduce to rank R; 0: exact, rank 2r."),
    ] = 0,
    serving: Annotated[
        bool, typer.Option("--serving", help="Leave embedding and head out, for servers.")
    ] = False,
    merged: Annotated[
        bool, typer.Option("--merged", help="A full checkpoint in place of an adapter.")
    ] = False,
    max_shard_size: Annotated[
        str, typer.Option(metavar="SIZE", help="Largest file of a merged checkpoint.")
    ] = "5GB",
    student: Annotated[
        str, typer.Option(metavar="MODEL", help="The student: folder or Hub id.")
    ] = "",
    teacher: Annotated[
        str, typer.Option(metavar="MODEL", help="The teacher, to name it in the card.")
    ] = "",
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Write an adapter of the store as an ordinary PEFT folder with a model card.

    Without options it is exact, at rank 2r on the unmodified student. DIR appears complete or
    not at all.

    Examples:
    - `paraknow deliver 3f2a my-adapter --student meta-llama/Llama-3.2-1B`
    - `paraknow deliver 3f2a for-a-server --serving --compress 16`
    - `paraknow deliver 3f2a checkpoint --merged --student ./models/student`
    """
    from flows.delivery.deliver import Wish, deliver

    wish = Wish(folder, compress, serving, merged, max_shard_size, student, teacher)
    found = deliver(open_store(store), key, wish)
    if as_json:
        say(json.dumps(asdict(found), indent=1))
    else:
        _show(Terminal(), found)


def _show(console: Terminal, found: "Delivery") -> None:
    what = "merged checkpoint" if found.form == "merged" else f"adapter of rank {found.rank}"
    console.print(f"{what} in {found.folder}", soft_wrap=True)
    for name in found.files:
        console.print(f"  {name}", highlight=False)
    for sentence in found.losses:
        console.print(sentence, highlight=False)
    if found.kept:
        from rich.table import Table

        table = Table("module", "kept of ‖ΔW‖²", box=None, pad_edge=False)
        for module, share in found.kept.items():
            table.add_row(module, f"{share:.6f}")
        console.print(table)
