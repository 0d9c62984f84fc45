"""``paraknow store push``, ``pull``, ``sync``, ``gc --remote``: the tier that stores share."""

from collections.abc import Iterable
from typing import Annotated, Final

import typer

from artifacts.canonical import Json
from artifacts.disk.locations import default_store_root
from artifacts.disk.sizes import size_text
from artifacts.errors import RemoteError, UnknownKeyError
from artifacts.live import keeping
from artifacts.names import StepKey
from artifacts.queries.find import find_record
from artifacts.remote.backends import open_backend
from artifacts.remote.bucket import Bucket
from artifacts.remote.collect import RemotePolicy, collect_remote, plan_remote
from artifacts.remote.sync import Moved, find_there, pull, push
from artifacts.remote.tier import REMOTE_VARIABLE, remote_url
from artifacts.store import Store
from flows.cli.store.options import StoreOption, open_store, print_json, print_table
from flows.terminal import say
from flows.text import SHOWN, name_of

remote_app = typer.Typer()

RemoteOption = Annotated[
    str,
    typer.Option(
        "--remote",
        envvar=REMOTE_VARIABLE,
        metavar="URL",
        help="Of the shared tier, such as s3://bucket/folder or file:///mnt/shared.",
    ),
]
KeysArgument = Annotated[list[str], typer.Argument(help="Keys, or the first digits of them.")]
_SAID: Final = {"new": "is new", "present": "is already"}


@remote_app.command("push")
def push_results(keys: KeysArgument, remote: RemoteOption = "", store: StoreOption = None) -> None:
    """Put results, with all they were made from, into the shared tier.

    A result that is there already under the same key stays as it is.
    """
    bucket, opened = _bucket(remote), open_store(store)
    with keeping():
        found = [find_record(opened, prefix).key for prefix in keys]
        _tell(push(opened, bucket, found), f"in {bucket.backend.url}")


@remote_app.command("pull")
def pull_results(keys: KeysArgument, remote: RemoteOption = "", store: StoreOption = None) -> None:
    """Bring results, with all they were made from, from the shared tier into the store.

    A result that is here already under the same key stays as it is.
    """
    bucket = _bucket(remote)
    found = [find_there(bucket, prefix) for prefix in keys]
    opened = Store.open(store or default_store_root())
    with keeping():
        _tell(pull(opened, bucket, found), f"in {opened.root}")


@remote_app.command("sync")
def sync_results(keys: KeysArgument, remote: RemoteOption = "", store: StoreOption = None) -> None:
    """Have results, with all they were made from, both in the store and in the shared tier.

    As pull and push one after the other; what only one side has is enough.
    """
    bucket = _bucket(remote)
    opened = Store.open(store or default_store_root())
    with keeping():
        here, there = _sides(opened, bucket, keys)
        _tell(pull(opened, bucket, there), f"in {opened.root}")
        _tell(push(opened, bucket, [*here, *there]), f"in {bucket.backend.url}")


def collect_in_remote(
    remote: str, opened: Store, policy: RemotePolicy, *, apply: bool, as_json: bool
) -> None:
    """Say what could be removed from the shared tier, or remove it."""
    bucket = _bucket(remote)
    made = (collect_remote if apply else plan_remote)(opened, bucket, policy)
    if as_json:
        said: dict[str, Json] = {"applied": apply, **made.as_json()}
        print_json(said)
        return
    if made.records:
        rows = [(r.key[:SHOWN], r.step, size_text(r.size)) for r, _number in made.records]
        print_table(("key", "step", "size"), rows)
    say(f"{bucket.backend.url}: {len(made.records)} results go, {made.kept} stay")
    freed = size_text(sum(made.objects.values()))
    done = "were removed" if apply else "would go; nothing was removed without --apply"
    say(f"{len(made.objects)} objects with {freed}, {len(made.leftovers)} old leases {done}")


def _bucket(remote: str) -> Bucket:
    url = remote_url(remote)
    if not url:
        raise RemoteError(
            f"no shared tier is given: set {REMOTE_VARIABLE}, or give --remote s3://bucket/folder"
        )
    return Bucket(open_backend(url))  # whoever asks is told of every failure at once


def _sides(
    opened: Store, bucket: Bucket, prefixes: Iterable[str]
) -> tuple[list[StepKey], list[StepKey]]:
    """Find each key here, there, or on both sides.

    Raises:
        UnknownKeyError: if neither side has it.
    """
    here: list[StepKey] = []
    there: list[StepKey] = []
    for prefix in prefixes:
        try:
            here.append(find_record(opened, prefix).key)
        except UnknownKeyError:
            there.append(find_there(bucket, prefix))
        else:
            if bucket.current(here[-1]) is not None:
                there.append(here[-1])
    return here, there


def _tell(moved: Iterable[Moved], where: str) -> None:
    for result in moved:
        if result.how == "kept":
            say(f"{name_of(result.record)} is {where} with other content, which stays")
        else:
            say(f"{name_of(result.record)} {_SAID[result.how]} {where}")
