"""Settings: which of them are part of a key, and recipes, which are passed on to the core."""

from collections.abc import Mapping
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from paraknow_core.setting_errors import refusal


class Settings(BaseModel):
    """Base of every config: frozen, and unknown fields are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class Recipe(Settings):
    """Base of settings that a function of the core takes together, as one object.

    A section of a settings file is this object, or a subclass of it with more fields. So a setting
    is declared once, with its range, default, meaning and mark (``execution``, ``later``), and is
    checked however the recipe is made.

    Raises:
        ConfigError: if a setting is not allowed; says which, what is allowed and what was given.
            Inside other settings pydantic's own error is raised, which knows the place in them.
    """

    def __init__(self, /, **given: Any) -> None:
        try:
            super().__init__(**given)
        except ValidationError as error:
            raise refusal(type(self), error) from None

    # Without this mark pydantic calls ``__init__`` for a recipe inside other settings as well; the
    # error would then leave out where in them it stands.
    __init__.__pydantic_base_init__ = True  # type: ignore[attr-defined]

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """As pydantic's, which does not check what it is given; this does.

        Raises:
            ConfigError: as for a new recipe.
        """
        copied = super().model_copy(update=update, deep=deep)
        return type(self)(**dict(copied)) if update else copied


def execution(default: Any, **options: Any) -> Any:
    """Declare a field that changes how a step runs, but not its result: no key holds it."""
    return Field(default, json_schema_extra={"execution_only": True}, **options)


def later(default: Any, **options: Any) -> Any:
    """Declare a field added after results were stored: left out of the key while it is ``default``.

    So stored results stay valid when a step gets a new setting.
    """
    return Field(default, json_schema_extra={"added_later": True}, **options)


def identity_of(config: BaseModel) -> dict[str, Any]:
    """Return the settings that are part of the key, defaults included, as plain JSON values.

    Every field without a mark is: a forgotten mark costs a recomputation, never a wrong hit.
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
