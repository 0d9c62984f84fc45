"""Settings of steps that all methods of a comparison share: which, and how a form shows them."""

from dataclasses import dataclass
from typing import Any, Final

from pydantic import ConfigDict, GetJsonSchemaHandler, TypeAdapter, create_model
from pydantic_core import CoreSchema

from flows.config.transfer import TransferConfig

STEPS: Final = (
    *("sensitivity", "align", "extract", "decompose", "lora", "finetune", "evaluate"),
    *("starts", "novel", "signals", "transport", "by_role", "random_teacher"),
)
"""Sections of `TransferConfig` that a comparison and its methods may set."""


@dataclass(frozen=True)
class StepSettingsForm:
    """Annotation of such settings: a form shows each step's fields, in place of a box of JSON.

    A form may send defaults of what was left alone. That changes nothing here, where defaults would
    stand anyway. It would in a method's own settings, which lie over these: they stay a box.
    """

    def __get_pydantic_json_schema__(
        self, schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> dict[str, Any]:
        """Describe the steps' own settings, none of them required."""
        sections = {name: TransferConfig.model_fields[name] for name in STEPS}
        fields: dict[str, Any] = {n: (one.rebuild_annotation(), one) for n, one in sections.items()}
        forbid = ConfigDict(extra="forbid")
        shown = create_model("StepSettings", __config__=forbid, **fields)
        return handler.resolve_ref_schema(handler(TypeAdapter(shown).core_schema))
