"""Where the store lies unless it is said otherwise."""

import os
from pathlib import Path
from typing import Final

STORE_VARIABLE: Final = "PARAKNOW_STORE"


def default_store_root() -> Path:
    """Return ``$PARAKNOW_STORE`` if it is set, else a folder in the user's cache folder."""
    if named := os.environ.get(STORE_VARIABLE):
        return Path(named).expanduser().absolute()
    return user_cache_folder() / "store"


def user_cache_folder() -> Path:
    """Return the user's own cache folder for this program."""
    import platformdirs

    return platformdirs.user_cache_path("paraknow")


def user_data_folder() -> Path:
    """Return the user's own folder for what is kept, but belongs to no store."""
    import platformdirs

    return platformdirs.user_data_path("paraknow")
