"""A task's file with some of its settings replaced, as ``--set`` says."""

from collections.abc import Sequence
from typing import Any

from pydantic import ValidationError

from flows.config.load import read_overrides
from flows.presets.expand import overlaid
from flows.presets.files import TaskFile
from paraknow_core.setting_errors import refusal


def task_with(task: TaskFile, overrides: Sequence[str]) -> TaskFile:
    """Return a task with other settings; rows from a file replace those of the Hub.

    Args:
        task: as its file says.
        overrides: ``key=value``, dots for nesting; the value is YAML.

    Raises:
        ConfigError: for an unknown setting or a value that is not allowed.
    """
    fields: dict[str, Any] = task.model_dump(exclude_unset=True)
    for name, value in read_overrides(overrides).items():
        above: Any = value
        for part in reversed(name.split(".")):
            above = {part: above}
        fields = overlaid(fields, above)
    try:
        return TaskFile.model_validate(fields)
    except ValidationError as error:
        raise refusal(TaskFile, error, file="the task with --set") from None
