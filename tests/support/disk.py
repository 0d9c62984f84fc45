"""File systems of a test's own: a small one, and an ext4 one whose power can be cut."""

import contextlib
import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

# include/uapi/linux/fs.h: FS_IOC_SHUTDOWN; 2 drops what is in memory, the journal's too.
FS_IOC_SHUTDOWN = 0x8004587D
NO_LOG_FLUSH = 2


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[Path]:
    """A file system of so many MB on a new folder; skips, visibly, where none may be mounted."""
    folder.mkdir()
    size = f"size={megabytes}m,mode=755"
    try:
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", size, "tmpfs", folder],
            capture_output=True,
            text=True,
            check=False,
        )
    except FileNotFoundError:
        pytest.skip("there is no mount command; a full or read-only disk was NOT tested")
    if done.returncode:
        pytest.skip(f"may not mount a tmpfs ({done.stderr.strip()}); NOT tested")
    try:
        yield folder
    finally:
        subprocess.run(["umount", folder], check=True)


class LoopDisk:
    """Make and mount one; skips, visibly, where that is not possible."""

    def __init__(self, folder: Path, megabytes: int = 64) -> None:
        if os.geteuid() != 0:
            pytest.skip("mounting a loop device needs root; the power cuts were NOT tested")
        if shutil.which("mkfs.ext4") is None:
            pytest.skip("mkfs.ext4 is not installed; the power cuts were NOT tested")
        folder.mkdir(exist_ok=True)
        self.image, self.folder = folder / "disk.img", folder / "mounted"
        self.folder.mkdir()
        with self.image.open("wb") as image:
            image.truncate(megabytes * 1024 * 1024)
        subprocess.run(["mkfs.ext4", "-q", "-F", "-m", "0", self.image], check=True)
        if problem := self.mount():
            pytest.skip(f"may not mount a loop device ({problem}); power cuts were NOT tested")

    def mount(self) -> str:
        """Mount it, the journal replayed; returns what went wrong."""
        command = ["mount", "-o", "loop", str(self.image), str(self.folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False).stderr.strip()

    def cut_power(self) -> None:
        """Lose everything that was not made durable, and come back."""
        descriptor = os.open(self.folder, os.O_RDONLY)
        try:
            fcntl.ioctl(descriptor, FS_IOC_SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
        finally:
            os.close(descriptor)
        self.unmount()
        assert self.mount() == ""

    def unmount(self) -> None:
        subprocess.run(["umount", str(self.folder)], check=True)
