"""How a run is carried out: store, device, threads. None of it is identity."""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from artifacts.disk.locations import default_store_root
from artifacts.remote.tier import remote_url
from artifacts.store import Store
from paraknow_core.finetuning.reporters import Tracker
from paraknow_core.setting_types import EachOnce, PathOrHubId, Text
from paraknow_core.settings import Settings, execution

DriftMode = Literal["warn", "strict", "rebuild"]


class RunConfig(Settings):
    """Execution only: the same settings elsewhere give the same keys and meet the same results."""

    store: PathOrHubId = Field(
        "",
        title="Store",
        description="Folder of the artifact store; empty: $PARAKNOW_STORE, else a per-user folder.",
    )
    remote: Text = execution(
        "",
        title="Shared tier",
        description="URL of a bucket or folder that stores of several machines share, such as "
        "s3://bucket/folder; empty: $PARAKNOW_REMOTE, else none; none: none whatever that says.",
    )
    device: Literal["auto", "cpu", "cuda"] = Field(
        "auto",
        title="Device",
        description="auto takes a GPU if there is one; choose which by CUDA_VISIBLE_DEVICES.",
    )
    download: bool = Field(
        True,
        title="May download",
        description="Whether models and data sets of the Hub may be downloaded.",
    )
    threads: int = Field(
        0,
        ge=0,
        le=4096,
        title="Threads",
        description="Torch threads a step; 0: one per available core.",
    )
    drift: DriftMode = Field(
        "warn",
        title="Drift",
        description="Stored results that other code or library versions made are used with a "
        "warning (warn), refused (strict), or computed again into a new generation (rebuild).",
    )

    task_runner: Literal["threads", "ray"] = execution(
        "threads",
        title="Task runner",
        description="Where steps are carried out: in the run's own process (threads), or on the "
        "nodes of a Ray cluster (ray).",
    )
    ray_address: Text = execution(
        "",
        title="Ray cluster",
        description="ray://HOST:10001; empty: the one of this node, or one that is started here.",
    )

    report_to: Annotated[tuple[Tracker, ...], EachOnce] = execution(
        (),
        title="Report to",
        description="Experiment trackers that trainings report to, such as [tensorboard]; each is "
        "a package of its own to install.",
    )
    report_folder: PathOrHubId = execution(
        "",
        title="Reports",
        description="Where trackers write, unless their own variables say otherwise; empty: the "
        "folder reports where the command runs.",
    )

    def open_store(self) -> Store:
        """Open the store, creating it at first use."""
        root = Path(self.store).expanduser() if self.store else default_store_root()
        return Store.open(root, remote=remote_url(self.remote))

    def thread_count(self) -> int:
        """Return the threads to use: as given, or the cores that this process may run on."""
        return self.threads or len(os.sched_getaffinity(0))

    def device_type(self) -> str:
        """Return ``cpu`` or ``cuda``: part of the numerics class, unlike the device's number."""
        if self.device == "cpu":
            return "cpu"  # without a look at what torch sees, which takes its import
        from paraknow_core.models.load import pick_device

        return pick_device(self.device).partition(":")[0]
