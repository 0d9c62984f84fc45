"""What a collection leaves alone whatever its age, in a store as in a bucket."""

from collections.abc import Collection

from artifacts.care.pins import keys_in_use, pins
from artifacts.errors import UnknownKeyError
from artifacts.names import StepKey
from artifacts.queries.lineage import Lineage, R
from artifacts.store import Store


def roots(store: Store, lineage: Lineage[R], keep: Collection[str], now: float) -> set[StepKey]:
    """What stays whatever its age, before what it was made from: pinned, in use here, or kept.

    Args:
        store: whose pins and live runs count.
        lineage: of the results that are judged.
        keep: names of steps, and first digits of keys.
        now: the store's clock, seconds since the epoch.

    Raises:
        UnknownKeyError: if there is nothing of a name that is to be kept.
    """
    found = {*pins(store).values(), *keys_in_use(store, now)[0]}
    for name in keep:
        named = {
            key for key, r in lineage.records.items() if r.step == name or key.startswith(name)
        }
        if not named:
            raise UnknownKeyError(
                f"nothing to keep is called {name!r}: give a step's name or the first digits of a "
                "key, as `paraknow store ls` shows them"
            )
        found |= named
    return found
