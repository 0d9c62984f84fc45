"""``paraknow store``: look into the artifact store."""

from collections.abc import Iterable
from dataclasses import asdict
from typing import Annotated

import typer

from artifacts.canonical import Json
from artifacts.disk.sizes import size_text
from artifacts.queries.explain import explain
from artifacts.queries.find import find_record
from artifacts.queries.index import summaries
from artifacts.queries.lineage import Input, Lineage, model_name
from artifacts.queries.summary import Summary
from artifacts.queries.usage import GroupUsage, usage
from artifacts.records import Record
from flows.cli.store.care import care_app
from flows.cli.store.options import (
    JsonOption,
    KeyArgument,
    StoreOption,
    open_store,
    parse_age,
    parse_size,
    print_fields,
    print_json,
    print_table,
)
from flows.cli.store.remote import remote_app
from flows.terminal import say
from flows.text import SHOWN, age_of, explanation_lines, human_age, name_of
from paraknow_core.printable import one_line
from tasks.engine.step_names import MODEL_STEP

store_app = typer.Typer(
    name="store",
    help="Look into the artifact store and take care of it: list, compare, check, clean up.",
    no_args_is_help=True,
)
store_app.add_typer(care_app)
store_app.add_typer(remote_app)


@store_app.command("ls")
def list_records(
    *,
    step: Annotated[str | None, typer.Option(help="Only results of this step.")] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Only what depends on this model: part of its kind, or key digits."),
    ] = None,
    older_than: Annotated[
        float | None,
        typer.Option(parser=parse_age, metavar="AGE", help="Only older ones: 90min, 12h, 30d, 2w."),
    ] = None,
    newer_than: Annotated[
        float | None, typer.Option(parser=parse_age, metavar="AGE", help="Only newer ones.")
    ] = None,
    larger_than: Annotated[
        int | None,
        typer.Option(parser=parse_size, metavar="SIZE", help="Only larger ones: 500MB, 1.5GB."),
    ] = None,
    as_json: JsonOption = False,
    store: StoreOption = None,
) -> None:
    """List the results in the store, the newest first."""
    listed = list(summaries(open_store(store)))
    found = [r for r in listed if step is None or r.step == step]
    if model is not None:
        found = _of_model(Lineage(listed), found, model)
    if older_than is not None or newer_than is not None:
        low, high = older_than or 0.0, newer_than if newer_than is not None else float("inf")
        found = [r for r in found if (age := age_of(r.finished)) is not None and low <= age <= high]
    if larger_than is not None:
        found = [r for r in found if r.size > larger_than]
    found.sort(key=lambda record: (record.finished, record.key), reverse=True)
    if as_json:
        print_json([_summary(record) for record in found])
        return
    rows = [(r.key[:SHOWN], r.step, _age(r), size_text(r.size), _seconds(r)) for r in found]
    print_table(("key", "step", "age", "size", "seconds"), rows)
    say(f"{len(rows)} results, {size_text(sum(r.size for r in found))} before sharing")


def _of_model(lineage: Lineage[Summary], records: list[Summary], wanted: str) -> list[Summary]:
    def fits(model: Summary) -> bool:
        return model.key.startswith(wanted) or wanted.lower() in model_name(model).lower()

    return [r for r in records if any(fits(model) for model in lineage.depends_on(r, MODEL_STEP))]


@store_app.command()
def show(key: KeyArgument, as_json: JsonOption = False, store: StoreOption = None) -> None:
    """Show one result: what went in, what came out, where its files lie, and who uses it."""
    opened = open_store(store)
    record = find_record(opened, key)
    folder = opened.tree_path(record)
    users = Lineage.of(opened).users(record)
    if as_json:
        paths: dict[str, Json] = {name: str(folder / name) for name in sorted(record.files)}
        used_by: list[Json] = [{"key": user.key, "step": user.step} for user in users]
        print_json({**record.as_json(), "paths": paths, "used_by": used_by})
        return
    say(f"{record.step} (version {record.payload.version})\n")
    print_fields("identity", {"key": record.key, "output": record.tree})
    print_fields("inputs", dict(record.payload.inputs))
    print_fields("settings", {**record.payload.config, "seed": record.payload.seed})
    print_fields("numerics", dict(record.payload.numerics))
    print_fields("facts", record.facts)
    print_fields("provenance", _provenance(record))
    say(f"files in {folder}")
    for name, entry in sorted(record.files.items()):
        say(f"  {name}  {size_text(entry.size)}  {entry.digest[:SHOWN]}")
    say("used by " + (", ".join(name_of(user) for user in users) or "no stored result"))


@store_app.command("lineage")
def show_lineage(key: KeyArgument, as_json: JsonOption = False, store: StoreOption = None) -> None:
    """Show what a result was made from, as a tree up to models and data."""
    opened = open_store(store)
    record, lineage = find_record(opened, key), Lineage.of(opened)
    if as_json:
        rows = [{"depth": depth, **_input_json(found)} for depth, found in lineage.walk(record)]
        print_json({"key": record.key, "step": record.step, "inputs": list(rows)})
        return
    say(name_of(record))
    for depth, found in lineage.walk(record):
        say("  " * depth + _input_text(found))


def _input_json(found: Input[Record]) -> dict[str, Json]:
    return {
        "role": found.role,
        "digest": found.digest,
        "step": found.step or None,
        "key": found.key,
        "stored": found.record is not None,
    }


def _input_text(found: Input[Record]) -> str:
    role = one_line(found.role)
    if found.record is not None:
        return f"{role}: {name_of(found.record)}"
    if found.key is not None:
        return f"{role}: {one_line(found.step)} {found.key[:SHOWN]} (no longer stored)"
    return f"{role}: content {found.digest[:SHOWN]} (from outside the store)"


@store_app.command("du")
def disk_usage(as_json: JsonOption = False, store: StoreOption = None) -> None:
    """Say where the store's bytes are, by step and by model."""
    found = usage(open_store(store), model_step=MODEL_STEP)
    if as_json:
        print_json(asdict(found))
        return
    _print_shares("step", found.by_step)
    say("")
    _print_shares("model", found.by_model)
    unused = size_text(found.unused_bytes)
    say(f"\n{size_text(found.object_bytes)} on disk; no result needs {unused} of it")


def _print_shares(what: str, shares: Iterable[GroupUsage]) -> None:
    rows = [(s.name, str(s.results), size_text(s.bytes), size_text(s.own_bytes)) for s in shares]
    print_table((what, "results", "size", "of its own"), rows)


@store_app.command("explain")
def explain_keys(a: KeyArgument, b: KeyArgument, store: StoreOption = None) -> None:
    """Say in which settings or inputs two results differ, and what made those inputs differ."""
    opened = open_store(store)
    first, second = find_record(opened, a), find_record(opened, b)
    say(f"A: {name_of(first)}\nB: {name_of(second)}")
    found = explain(opened, first, second)
    if not found:
        say("the two keys are equal")
    for line in explanation_lines(found, ("in A", "in B")):
        say(line)


def _summary(record: Summary) -> dict[str, Json]:
    return {
        "key": record.key,
        "step": record.step,
        "output": record.tree,
        "size": record.size,
        "finished": record.finished or None,
        "seconds": record.seconds,
    }


def _provenance(record: Record) -> dict[str, Json]:
    """Leave out what is long and of use to programs only; --json has it."""
    said = dict(record.provenance)
    match said.get("code"):
        case {"function": function, "modules": dict(modules)}:
            said["code"] = f"{function} and what it reaches in {len(modules)} modules"
    said.pop("config", None)
    return said


def _age(record: Summary) -> str:
    age = age_of(record.finished)
    return human_age(age) if age is not None else "-"


def _seconds(record: Summary) -> str:
    return f"{record.seconds:.1f}" if record.seconds is not None else "-"
