"""The types of settings that several steps share: what a seed, a rate or a rank may be, once.

Every number has a least and a greatest value, and none is NaN or infinite. So a setting that no
step could use is refused while the settings are read, before anything runs; and a key, which holds
no NaN, can be made of whatever is accepted.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar

from pydantic import AfterValidator, Field, GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic_core import CoreSchema, core_schema

from paraknow_core.errors import ParaknowError
from paraknow_core.learning_rates import LARGEST
from paraknow_core.registry import Registry

T = TypeVar("T")


def _a_place(text: str) -> str:
    """Refuse what no file system takes, and homes of users that are not here."""
    if "\0" in text or any(len(part.encode()) > 255 for part in text.split("/")):
        msg = "a path has no zero characters, and no part of it is longer than 255 bytes"
        raise ValueError(msg)
    try:
        Path(text).expanduser()
    except RuntimeError as error:
        msg = f"there is no user whose home {text.partition('/')[0]} could be"
        raise ValueError(msg) from error
    return text


Text = Annotated[str, Field(max_length=4096)]
"""The limit also makes pydantic refuse what UTF-8 cannot hold, such as half a surrogate pair."""
PathOrHubId = Annotated[Text, AfterValidator(_a_place)]
"""A path, or a Hub id."""

Seed = Annotated[int, Field(ge=0, le=2**63 - 1)]
"""For random draws by torch's or our own generators, which take 64 bits."""
TrainingSeed = Annotated[int, Field(ge=0, le=2**32 - 1)]
"""For a training, which seeds NumPy's generator too: that takes 32 bits."""

LearningRate = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]
"""What float32 can hold with room for AdamW's own factors; such a rate can be tried, if in vain."""
Limit = Annotated[float, Field(gt=0, le=LARGEST, allow_inf_nan=False)]
"""A bound on something; one that is large enough switches it off."""
WeightDecay = Annotated[float, Field(ge=0, le=1e6, allow_inf_nan=False)]
Scale = Annotated[float, Field(ge=1e-9, le=1e9, allow_inf_nan=False)]
"""A factor whose square and inverse float32 can still hold."""
Share = Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]
Seconds = Annotated[float, Field(ge=0, le=1e9, allow_inf_nan=False)]
"""Up to thirty years."""

Count = Annotated[int, Field(ge=1, le=10**9)]
CountOrNone = Annotated[int, Field(ge=0, le=10**9)]
"""A count of which 0 means that there are none, or no limit."""
BatchSize = Annotated[int, Field(ge=1, le=10**6)]
Epochs = Annotated[int, Field(ge=1, le=10**5)]
Tokens = Annotated[int, Field(ge=8, le=10**9)]
"""At which a text is cut off."""
Rank = Annotated[int, Field(ge=1, le=2**17)]
"""No model is wider than that (``paraknow_core.models.config_fields``)."""
Layer = Annotated[int, Field(ge=0, lt=1024)]
"""Number of a layer; no model has more of them (``paraknow_core.models.config_fields``)."""


@dataclass(frozen=True)
class OneOf:
    """Annotation of a text that must be a registered name; an error names the nearest one.

    Attributes:
        kind: what is chosen, for the error.
        known: name → what it stands for.
        fits: of these, which may be chosen; None: all. Asked anew each time, so that what is
            registered later can be chosen as well.
    """

    kind: str
    known: Mapping[str, Any]
    fits: Callable[[Any], bool] | None = None

    def __get_pydantic_core_schema__(
        self, source: type[Any], handler: GetCoreSchemaHandler
    ) -> CoreSchema:
        """Look the name up after it was found to be a text."""
        return core_schema.no_info_after_validator_function(self._check, handler(source))

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Let forms offer the names, beside those of a form that may stand for a choice too."""
        named = {**handler(schema), "enum": list(self._choices())}
        form = self.known.form if isinstance(self.known, Registry) and self.fits is None else ""
        return {"anyOf": [named, {**handler(schema), "pattern": form}]} if form else named

    def _check(self, name: str) -> str:
        if not self._is_choice(name):
            choose_setting(self.kind, name, self._choices())
        return name

    def _is_choice(self, name: str) -> bool:
        return name in self.known and (self.fits is None or self.fits(self.known[name]))

    def _choices(self) -> Mapping[str, Any]:
        if self.fits is None:
            return self.known
        return {name: choice for name, choice in self.known.items() if self.fits(choice)}


def choose_setting(kind: str, name: str, known: Mapping[str, T]) -> T:
    """As ``Registry.choose``, with the kind of error that a setting's validator raises.

    Raises:
        ValueError: if there is none of that name; names the known ones and the nearest.
    """
    table = known if isinstance(known, Registry) else Registry(kind, known)
    try:
        return table.choose(name)
    except ParaknowError as error:
        raise ValueError(str(error)) from error


def _different(given: tuple[T, ...]) -> tuple[T, ...]:
    doubles = [str(value) for value, times in Counter(given).items() if times > 1]
    if doubles:
        msg = f"each may be given once; given twice: {', '.join(doubles)}"
        raise ValueError(msg)
    return given


EachOnce = AfterValidator(_different)
"""Annotation of a list without doubles."""
