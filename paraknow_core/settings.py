"""Which settings bear identity: every field of a step's config that is not marked otherwise."""

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class Settings(BaseModel):
    """Base of every config: frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def execution(default: Any, **options: Any) -> Any:
    """Declare a field that changes how a step runs, never what it means, so no key holds it."""
    return Field(default, json_schema_extra={"execution_only": True}, **options)


def later(default: Any, **options: Any) -> Any:
    """Declare a field added after results were stored: left out of the key while it is ``default``.

    So the results that people have stay valid when a step learns something new.
    """
    return Field(default, json_schema_extra={"added_later": True}, **options)


def identity_of(config: BaseModel) -> dict[str, Any]:
    """Return what of ``config`` bears identity, defaults written out, as plain JSON values.

    A field counts unless it is marked: forgetting a mark costs a recomputation, never a wrong hit.
    """
    found: dict[str, Any] = {}
    for name, field in type(config).model_fields.items():
        marks = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        value = getattr(config, name)
        unchanged = marks.get("added_later") and value == field.get_default()
        if marks.get("execution_only") or unchanged:
            continue
        found[name] = identity_of(value) if isinstance(value, BaseModel) else _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [identity_of(item) if isinstance(item, BaseModel) else item for item in value]
    return value
