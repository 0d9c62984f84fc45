"""Experiment trackers that a training reports to, through the callbacks of Transformers."""

import importlib
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

from paraknow_core.errors import ConfigError

Tracker = Literal["tensorboard", "wandb", "mlflow"]
PLACES: Mapping[Tracker, str] = MappingProxyType(
    {
        "tensorboard": "TENSORBOARD_LOGGING_DIR",
        "wandb": "WANDB_DIR",
        "mlflow": "MLFLOW_TRACKING_URI",
    }
)
"""Tracker → the variable of the environment that says where it writes.

The tracker's name is that of its package, and Transformers' name for it.
"""


@dataclass(frozen=True)
class Reporting:
    """Where a training reports to.

    Attributes:
        to: trackers; none by default.
        folder: that they write below, where the environment names no other place.
        name: of the run.
    """

    to: Sequence[Tracker] = ()
    folder: Path = Path("reports")
    name: str = "finetune"

    @contextmanager
    def arguments(self) -> Iterator[dict[str, Any]]:
        """Give the fields of ``TrainingArguments``; what a tracker has open is closed at the end.

        A variable that the environment has, such as ``WANDB_MODE=offline``, stays as it is.
        """
        given = {PLACES[name]: self._place(name) for name in self.to}
        added = {name: place for name, place in given.items() if name not in os.environ}
        os.environ.update(added)
        if "wandb" in self.to:
            Path(os.environ[PLACES["wandb"]]).mkdir(parents=True, exist_ok=True)
        try:
            yield {"report_to": list(self.to), "run_name": self.name} if self.to else {}
        finally:
            for name in added:
                os.environ.pop(name, None)
            if "wandb" in self.to:  # else the next training of this process reports to this run
                importlib.import_module("wandb").finish()

    def _place(self, tracker: Tracker) -> str:
        folder = self.folder.absolute() / tracker
        if tracker == "mlflow":
            return folder.as_uri()
        return str(folder / self.name.replace("/", "-") if tracker == "tensorboard" else folder)


def check_reporters(trackers: Sequence[Tracker]) -> None:
    """Refuse trackers whose package is not installed, before anything runs.

    Raises:
        ConfigError: names the package.
    """
    for tracker in trackers:
        if find_spec(tracker) is None:
            raise ConfigError(
                f"run.report_to: {tracker} is not installed; run `pip install {tracker}` wherever "
                "trainings run, or leave it out"
            )
