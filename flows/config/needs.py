"""What a method needs of the settings; without it there is nothing for the method to do."""

from collections.abc import Callable
from typing import TYPE_CHECKING

from paraknow_core.alignment.matrices import VOCABULARY_ROLES
from paraknow_core.registry import Registry

if TYPE_CHECKING:
    from flows.config.transfer import TransferConfig

Need = Callable[["TransferConfig", str], str]
"""Takes settings and the name of a method; says what the method lacks, "" if nothing."""


def _other_data(config: "TransferConfig", method: str) -> str:
    if config.other_data or config.other_problems:
        return ""
    return f"{method} needs data of another task: set other_data or other_problems"


def _vocabulary_roles(config: "TransferConfig", method: str) -> str:
    if set(VOCABULARY_ROLES) & set(config.extract.roles):
        return ""
    return (
        f"{method} permutes rows of embedding and head, but extract.roles are "
        f"{', '.join(config.extract.roles)}; add embed or head, or leave {method} out"
    )


NEEDS: Registry[Need] = Registry(
    "need of a method", {"other data": _other_data, "vocabulary roles": _vocabulary_roles}
)
"""Every need, by its name in ``Method.needs``."""
