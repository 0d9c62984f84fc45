"""The power fails: after a publish was acknowledged, and before each of its changes."""

import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support import publisher
from support.disk import LoopDisk
from support.strace import lay_out, mutant, require_strace, run_traced

from artifacts.care.verify import verify
from artifacts.store import Store

pytestmark = pytest.mark.faults

CUT_BEFORE = ("fsync", "rename", "link")


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[LoopDisk]:
    disk = LoopDisk(tmp_path / "disk")
    yield disk
    disk.unmount()


def content(root: Path) -> dict[str, bytes] | None:
    """The files that a lookup gives, None for a miss."""
    store = Store.open(root)
    record = store.lookup(publisher.PAYLOAD.key())
    if record is None:
        return None
    return {name: store.file_path(record, name).read_bytes() for name in record.files}


def fresh(disk: LoopDisk, name: str) -> Path:
    """A folder on the disk with everything that was there before the publish durable."""
    lay_out(disk.folder / name)
    os.sync()
    return disk.folder / name


@pytest.mark.figures(faults=3)
def test_everything_acknowledged_is_there_after_a_power_cut(disk):
    require_strace()
    for number in range(3):
        folder = fresh(disk, f"publish-{number}")
        done = run_traced(folder, mutant("none"), "-e", "trace=none")
        assert done.stdout == "acknowledged\n", done.stderr
        disk.cut_power()
        assert content(folder / "store") == publisher.CONTENT
        assert verify(Store.open(folder / "store")) == []


def test_a_power_cut_before_any_sync_rename_or_link_leaves_no_damage_and_heals(disk, figures):
    require_strace()
    folder = fresh(disk, "whole")
    done = run_traced(folder, mutant("none"), "-e", f"trace=access,{','.join(CUT_BEFORE)}")
    assert done.returncode == 0, done.stderr
    before, _, after = (folder / "trace").read_text().partition(publisher.BEGIN)
    points = [
        (name, len(re.findall(rf"^\d+ +{name}\(", before, re.MULTILINE)) + 1 + number)
        for name in CUT_BEFORE
        for number in range(len(re.findall(rf"^\d+ +{name}\(", after, re.MULTILINE)))
    ]
    assert len(points) > 15
    for name, number in points:
        folder = fresh(disk, f"{name}-{number}")
        fault = f"inject={name}:signal=KILL:when={number}"
        done = run_traced(folder, mutant("none"), "-e", f"trace={name}", "-e", fault)
        assert done.returncode == -9, done.stderr
        disk.cut_power()
        assert content(folder / "store") in (None, publisher.CONTENT), (name, number)
        assert all(p.kind != "missing" for p in verify(Store.open(folder / "store")))
        (folder / "outside").write_bytes(publisher.CONTENT["sub/copied.bin"])
        store = Store.open(folder / "store")
        store.publish(publisher.PAYLOAD, publisher.sources(store, folder / "outside"))
        disk.cut_power()
        assert content(folder / "store") == publisher.CONTENT, (name, number)
        assert verify(Store.open(folder / "store")) == []
        shutil.rmtree(folder)
    figures(kills=len(points), faults=2 * len(points))


@pytest.mark.figures(faults=1)
def test_without_the_files_fsyncs_a_power_cut_loses_what_was_acknowledged(disk):
    """The mutation that this disk shows by itself; tests/faults/test_durability.py has them all."""
    require_strace()
    folder = fresh(disk, "mutant")
    done = run_traced(folder, mutant("without-file-fsyncs"), "-e", "trace=none")
    assert done.stdout == "acknowledged\n", done.stderr
    disk.cut_power()
    assert content(folder / "store") != publisher.CONTENT
