"""One record by the first digits of its key."""

from artifacts.errors import UnknownKeyError
from artifacts.live import mark
from artifacts.records import Record
from artifacts.store import Store


def find_record(store: Store, prefix: str) -> Record:
    """Return the one record whose key starts with ``prefix``; inside ``keeping`` it stays.

    Raises:
        UnknownKeyError: if there is none, or more than one.
    """
    keys = list(store.ledger.all_keys(prefix)) if prefix else []
    if len(keys) > 1:
        shown = ", ".join(key[:16] for key in keys[:5])
        raise UnknownKeyError(f"{prefix!r} begins {len(keys)} keys ({shown} …); give more digits")
    if keys and not store.read_only:
        mark(store.root, keys)  # before the look at it: what is found must not be collected
    record = store.lookup_record(keys[0]) if keys else None
    if record is None:
        raise UnknownKeyError(
            f"no record in {store.root} has a key that starts with {prefix!r}; "
            "`paraknow store ls` lists them"
        )
    return record
