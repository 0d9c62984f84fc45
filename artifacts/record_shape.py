"""What a record may hold: types and ranges, checked once, when it is read, imported or published.

A check digest only shows that a record is as its writer left it, and anybody can write one. What
passes here may be used without another look: added up, formatted, looked into.

Every field that is read somewhere is named. Of others, as older or newer versions note them, only
the numbers are checked. All fields of the provenance may be missing: records of old versions have
few.
"""

from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

from artifacts.canonical import Json

INTEGERS: Final = range(-(2**63), 2**64)
"""What programs in other languages can hold, and far more than anything here counts."""

_Size = Annotated[int, Field(ge=0, lt=2**63)]
_Count = Annotated[int, Field(ge=0, lt=2**53)]
_Number = Annotated[float, Field(ge=-1e300, le=1e300)]
_Version = Annotated[int, Field(ge=1, lt=2**31)]


def _date(text: str) -> str:
    """Refuse what cannot be compared with now in every time zone."""
    try:
        datetime.fromisoformat(text).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} lies beyond what a date can be") from error
    return text


_Date = Annotated[str, AfterValidator(_date)]


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid")


class _Open(BaseModel):
    model_config = ConfigDict(strict=True, extra="allow")


class _File(_Strict):
    digest: str
    size: _Size


class _Payload(_Strict):
    key_format: _Version
    step: str
    version: _Version
    config: dict[str, Any]
    inputs: dict[str, str]
    seed: int | None
    numerics: dict[str, str | bool]
    epoch: _Version


class _Module(_Open):
    file: str = ""
    reached: str = ""


class _Code(_Open):
    function: str = ""
    modules: dict[str, _Module] = {}


class _Input(_Open):
    step: str = ""
    key: str = ""
    digest: str = ""
    location: str = ""


class _Provenance(_Open):
    started: _Date = ""
    finished: _Date = ""
    seconds: Annotated[float, Field(ge=0, le=1e12)] = 0.0
    label: str = ""
    device: str = ""
    threads: _Count = 0
    location: str = ""
    paraknow: str = ""
    python: str = ""
    machine: str = ""
    libraries: dict[str, str] = {}
    code: _Code = _Code()
    config: dict[str, Any] = {}
    inputs: dict[str, _Input] = {}


class _Facts(_Open):
    model_type: str = ""
    folder_name: str = ""
    parameters: _Count = 0
    steps: _Count | None = None
    rank: _Count | None = None
    items: _Count | None = None
    validation_nll: _Number | None = None
    answer_nll: _Number | None = None
    perplexity: _Number | None = None
    exact_match: _Number | None = None


class _Body(_Strict):
    format: _Version
    key: str
    generation: Annotated[int, Field(ge=0, lt=2**31)]
    payload: _Payload
    tree: str
    files: dict[str, _File]
    facts: _Facts
    provenance: _Provenance


def check_shape(body: Json) -> None:
    """Check a record's body.

    Raises:
        ValueError: that names the first field that is not what it may be.
    """
    try:
        _Body.model_validate(body)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{where}: {first['msg']}") from None
    _check_integers(body, "")


def _check_integers(value: Json, where: str) -> None:
    if isinstance(value, dict):
        for name, item in value.items():
            _check_integers(item, f"{where}.{name}")
    elif isinstance(value, list):
        for item in value:
            _check_integers(item, where)
    elif isinstance(value, int) and value not in INTEGERS:
        raise ValueError(f"{where.removeprefix('.')}: an integer of more than 64 bits")
