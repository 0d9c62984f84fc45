"""What all parts of a page's data have in common."""

from typing import ClassVar


class Part:
    """Base of the dataclasses; an unknown field is refused on reading."""

    __pydantic_config__: ClassVar[dict[str, str]] = {"extra": "forbid"}
