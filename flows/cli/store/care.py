"""``paraknow store``: check, clean up, pin, and carry results in and out."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from artifacts.canonical import Json
from artifacts.care.gc import GRACE_SECONDS, Collected, CollectionPlan, Policy, collect, plan
from artifacts.care.pins import pin, pins, unpin
from artifacts.care.verify import StoreProblem, repair, verify
from artifacts.disk.locations import default_store_root
from artifacts.disk.sizes import size_text
from artifacts.errors import StoreFormatError
from artifacts.queries.find import find_record
from artifacts.remote.collect import GRACE_SECONDS as REMOTE_GRACE_SECONDS
from artifacts.remote.collect import RemotePolicy
from artifacts.store import Store
from artifacts.transport import export, import_results
from flows.cli.store.options import (
    JsonOption,
    KeyArgument,
    StoreOption,
    open_store,
    parse_age,
    parse_size,
    print_json,
    print_table,
)
from flows.cli.store.remote import collect_in_remote
from flows.terminal import say
from flows.text import SHOWN, human_age, name_of

care_app = typer.Typer()


@care_app.command("create")
def create_store(
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    *,
    shared: Annotated[
        bool,
        typer.Option("--shared", help="For all users of the folder's group; they must be trusted."),
    ] = False,
) -> None:
    """Make a store, which is otherwise made at first use, private to you.

    In a shared one every member of the group can put wrong results into it: docs/store.md says
    what is checked, and what is not.
    """
    if (folder / "store.json").exists():
        raise StoreFormatError(f"there is a store at {folder} already; choose a new folder")
    made = Store.open(folder, shared=shared)
    say(f"{made.root}: {'for its group' if shared else 'for you alone'}")


@care_app.command("verify")
def verify_store(
    repair_: Annotated[
        bool, typer.Option("--repair", help="Take away what is broken; its steps run again.")
    ] = False,
    store: StoreOption = None,
) -> None:
    """Read every object and record again; exit with 1 if anything is (still) wrong."""
    opened = open_store(store)
    problems = verify(opened)
    for problem in problems:
        say(f"{problem.kind} {problem.name}: {problem.detail}\n  -> {problem.advice}")
    if problems:
        say(f"{len(problems)} problems in {opened.root}")
        problems = _repair(opened, problems) if repair_ else problems
    if problems:
        raise typer.Exit(1)
    say(f"{opened.root}: every object and record is intact")


def _repair(store: Store, problems: list[StoreProblem]) -> list[StoreProblem]:
    for line in repair(store, problems):
        say(line)
    left = verify(store)
    say(f"{len(problems) - len(left)} repaired, {len(left)} left")
    return left


@care_app.command("gc")
def collect_garbage(
    *,
    keep: Annotated[
        list[str] | None,
        typer.Option(
            help="A step, or the first digits of a key: such results stay, with all they were "
            "made from. May be repeated."
        ),
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option(parser=parse_age, metavar="AGE", help="Remove results unused so long: 30d."),
    ] = None,
    max_size: Annotated[
        int | None,
        typer.Option(
            parser=parse_size,
            metavar="SIZE",
            help="Remove the least recently used results until the rest fits: 50GB.",
        ),
    ] = None,
    grace: Annotated[
        float | None,
        typer.Option(
            parser=parse_age, metavar="AGE", help="Leave alone what is younger; 1h if not given."
        ),
    ] = None,
    in_remote: Annotated[
        bool,
        typer.Option(
            "--remote",
            help="Collect in the shared tier, $PARAKNOW_REMOTE, by age alone. What this store pins "
            "stays; the grace period is 1d if not given, and less is safe only while nobody "
            "publishes.",
        ),
    ] = False,
    apply: Annotated[
        bool, typer.Option("--apply", help="Do it; without this it is only said.")
    ] = False,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """Say what could be removed and how much that frees; remove it with --apply.

    Without a limit of age or size every result stays, and what goes is what no result needs:
    objects of replaced results, drafts, abandoned work. Pinned results, what runs read that are
    under way, and everything these were made from always stay.

    Examples:
    - `paraknow store gc --older-than 30d`
    - `paraknow store gc --max-size 50GB --keep sensitivity --apply`
    """
    opened = open_store(store)
    if in_remote:
        if max_size is not None:
            raise typer.BadParameter("the shared tier is collected by age: give --older-than")
        by_age = RemotePolicy(
            keep=frozenset(keep or ()),
            older_than=older_than,
            grace=REMOTE_GRACE_SECONDS if grace is None else grace,
        )
        collect_in_remote("", opened, by_age, apply=apply, as_json=as_json)
        return
    policy = Policy(
        keep=frozenset(keep or ()),
        older_than=older_than,
        max_bytes=max_size,
        grace=GRACE_SECONDS if grace is None else grace,
    )
    made, done = collect(opened, policy) if apply else (plan(opened, policy), None)
    if as_json:
        print_json(_gc_json(made, done))
        return
    _print_plan(made)
    if done is None:
        say(f"{size_text(made.bytes)} would be freed; nothing was removed without --apply")
        return
    say(f"removed {done.records} results and {done.objects} objects, freed {size_text(done.bytes)}")
    if done.restored:
        say(f"{done.restored} were needed again meanwhile and put back")


def _print_plan(made: CollectionPlan) -> None:
    rows = [
        (d.record.key[:SHOWN], d.record.step, human_age(made.now - d.used), d.why)
        for d in made.records
    ]
    if rows:
        print_table(("key", "step", "unused for", "because of"), rows)
    say(f"{len(made.records)} results go, {made.kept} stay with {size_text(made.kept_bytes)}")
    say(f"{len(made.objects)} objects: {size_text(sum(made.objects.values()))}")
    for kind in sorted({item.kind for item in made.leftovers}):
        sizes = [item.bytes for item in made.leftovers if item.kind == kind]
        say(f"{len(sizes)} in {kind}/: {size_text(sum(sizes))}")
    if made.excess:
        say(
            f"still {size_text(made.excess)} too much: the rest is pinned, kept, in use, or "
            "within the grace period"
        )


def _gc_json(made: CollectionPlan, done: Collected | None) -> dict[str, Json]:
    records: list[Json] = [
        {"key": d.record.key, "step": d.record.step, "used": d.used, "why": d.why}
        for d in made.records
    ]
    leftovers: list[Json] = [
        {"kind": item.kind, "path": str(item.path), "bytes": item.bytes} for item in made.leftovers
    ]
    return {
        "applied": done is not None,
        "records": records,
        "objects": {str(digest): size for digest, size in made.objects.items()},
        "leftovers": leftovers,
        "kept": made.kept,
        "kept_bytes": made.kept_bytes,
        "excess": made.excess,
        "bytes": made.bytes,
        "done": asdict(done) if done is not None else None,
    }


@care_app.command("pin")
def set_pin(
    key: Annotated[str | None, typer.Argument(help="A key, or its first digits.")] = None,
    name: Annotated[
        str | None, typer.Argument(help="The pin's name; the key's first digits if not given.")
    ] = None,
    store: StoreOption = None,
) -> None:
    """Keep a result, and all it was made from, in every collection; without a key, list pins."""
    opened = open_store(store)
    if key is None:
        for known, pinned in sorted(pins(opened).items()):
            say(f"{known}  {name_of(opened.lookup_record(pinned))}  {pinned}")
        return
    record = find_record(opened, key)
    name = name or record.key[:SHOWN]
    pin(opened, name, record.key)
    say(f"{name_of(record)} is pinned as {name}")


@care_app.command("unpin")
def remove_pin(
    name: Annotated[str, typer.Argument(help="The pin's name.")], store: StoreOption = None
) -> None:
    """Take a pin away; the result stays until a collection finds it unwanted."""
    key = unpin(open_store(store), name)
    say(f"{key[:SHOWN]} is no longer pinned as {name}")


@care_app.command("export")
def export_result(
    key: KeyArgument,
    folder: Annotated[Path, typer.Argument(help="A new or empty folder.")],
    store: StoreOption = None,
) -> None:
    """Copy a result into a folder of ordinary files, to use or to import elsewhere."""
    opened = open_store(store)
    record = find_record(opened, key)
    export(opened, record, folder)
    say(f"{name_of(record)}: {len(record.files)} files in {folder}")


@care_app.command("import")
def import_folder(
    source: Annotated[Path, typer.Argument(help="An exported folder, or another store.")],
    key: Annotated[
        list[str] | None,
        typer.Option(help="Of a store: only this result and all it was made from; repeatable."),
    ] = None,
    store: StoreOption = None,
) -> None:
    """Take over results from an exported folder or another store; every digest is checked."""
    target = Store.open(store or default_store_root())
    keys = None
    if key:
        other = Store.open(source, read_only=True)
        keys = [find_record(other, prefix).key for prefix in key]
    for taken in import_results(target, source, keys=keys):
        said = {"present": "is here already", "kept": "is here with other content, which stays"}
        say(f"{name_of(taken.record)} {said.get(taken.how, 'is new')}")
