"""A stricter disk than any real one: what a trace of system calls says is durable, and no more.

Real file systems often keep more than they promise (one sync of ext4 writes the whole journal), so
a missing fsync can survive a real power cut by luck. This model keeps a file's bytes only if it was
synced after its last write, and a name only if its folder was synced after the name was made.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

# pid, call, arguments, result; strace -f -y writes descriptors as 5</path>.
_LINE = re.compile(r"^\d+ +(\w+)\((.*)\) += (-?\d+)(?:<(.*?)>)?", re.MULTILINE)
_TEXT = re.compile(r'"((?:[^"\\]|\\.)*)"')
_DESCRIPTOR = re.compile(r"(\d+)<([^>]*)>")


@dataclass
class File:
    """One inode: written and synced say whether its present bytes are durable."""

    synced: bool = False


@dataclass
class Model:
    """What is where, what of it is durable, and which promises were broken on the way."""

    names: dict[str, File] = field(default_factory=dict)
    unsynced_names: set[str] = field(default_factory=set)
    broken: list[str] = field(default_factory=list)

    def write(self, path: str) -> None:
        if path in self.names:
            self.names[path].synced = False

    def create(self, path: str) -> None:
        self.names[path] = File()
        self.unsynced_names.add(path)

    def sync(self, path: str) -> None:
        if path in self.names:
            self.names[path].synced = True
        self.unsynced_names = {n for n in self.unsynced_names if str(Path(n).parent) != path}

    def link(self, old: str, new: str) -> None:
        if "/records/" in new:
            # From here the record may reach the disk by itself at any time.
            self._demand("/objects/", f"when {Path(new).name[:8]} got its record")
            if not self.names[old].synced:
                self.broken.append("the record was linked before its bytes were synced")
        self.names[new] = self.names[old]
        self.unsynced_names.add(new)

    def rename(self, old: str, new: str) -> None:
        store, found, name = new.partition("/objects/")
        if found and any(known.startswith(f"{store}/records/") for known in self.names):
            # One key is published in a store here, so this object is one of its record's.
            self.broken.append(f"object {name} came after its record")
        if old in self.names:
            self.names[new] = self.names.pop(old)
            self.unsynced_names.add(new)
            self.unsynced_names.discard(old)

    def acknowledge(self) -> None:
        self._demand("/objects/", "when it was acknowledged")
        self._demand("/records/", "when it was acknowledged")

    def _demand(self, part: str, when: str) -> None:
        for name, file in self.names.items():
            if part in name and not file.synced:
                self.broken.append(f"{name}: bytes not durable {when}")
            if part in name and name in self.unsynced_names:
                self.broken.append(f"{name}: name not durable {when}")


def replay(trace: str, folder: Path, *, end: str) -> Model:
    """Replay a trace of ``strace -f -y``, relative paths being in ``folder``.

    Promises are checked when a record is linked, and at the last ``end`` mark if there is one.
    """
    model = Model()
    for name, arguments, result, opened in _LINE.findall(trace):
        if end in arguments:
            model.acknowledge()
        elif not result.startswith("-"):
            _apply(model, name, arguments, opened, folder)
    return model


def _apply(model: Model, name: str, arguments: str, opened: str, folder: Path) -> None:
    texts = [str(folder / text) for text in _TEXT.findall(arguments)]
    descriptor = _DESCRIPTOR.match(arguments)
    if name == "openat" and "O_CREAT" in arguments:
        model.create(opened)
    elif name in ("write", "pwrite64", "ftruncate") and descriptor:
        model.write(descriptor[2])
    elif name in ("fsync", "fdatasync") and descriptor:
        model.sync(descriptor[2])
    elif name in ("link", "linkat"):
        model.link(*texts)
    elif name in ("rename", "renameat", "renameat2"):
        model.rename(*texts)
