"""A record: which files a step key stands for, and where they came from."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final, cast

from artifacts.canonical import Json, canonical_bytes, parse
from artifacts.disk.digests import digest_bytes
from artifacts.errors import (
    CanonicalError,
    CorruptRecordError,
    NameRefusedError,
    StoreFormatError,
)
from artifacts.keys import KeyPayload
from artifacts.names import Digest, StepKey, check_file_names, is_hex_digest

RECORD_FORMAT: Final = 1
MAX_RECORD_BYTES: Final = 32 * 1024 * 1024

_BODY_STARTS: Final = len('{"check":"') + 64 + len('","record":')

TOMBSTONE: Final = canonical_bytes({"damaged": True, "format": RECORD_FORMAT})
"""What stands in for a damaged record, so that its generation number is never used again."""


@dataclass(frozen=True)
class FileEntry:
    """One file of an output.

    Attributes:
        digest: blake3 of its bytes.
        size: in bytes.
    """

    digest: Digest
    size: int


def tree_bytes(files: Mapping[str, FileEntry]) -> bytes:
    """Return the tree object over some files: the canonical bytes that name and digest each.

    Raises:
        NameRefusedError: for a file name that the store does not allow.
    """
    check_file_names(files)
    return _encoded(files)


def tree_digest(files: Mapping[str, FileEntry]) -> Digest:
    """Return the one digest that stands for a folder of files: that of its tree object."""
    return digest_bytes(tree_bytes(files))


def folder_digest(files: Mapping[str, FileEntry]) -> Digest:
    """Return the same digest for a folder outside the store, whose names are free."""
    return digest_bytes(_encoded(files))


def _encoded(files: Mapping[str, FileEntry]) -> bytes:
    entries = {name: {"digest": e.digest, "size": e.size} for name, e in files.items()}
    return canonical_bytes({"files": entries, "format": 1, "kind": "tree"})


@dataclass(frozen=True, kw_only=True)
class Record:
    """One published result.

    Attributes:
        key: the step key.
        payload: what the key is the digest of.
        tree: digest of the tree object over ``files``; the result's own identity, on which
            everything downstream is keyed.
        files: name -> entry.
        facts: a few small values that are wanted without opening a file.
        provenance: how it came about; bears no identity.
        generation: 0, or how often a lost or rebuilt result was published anew.
        format: RECORD_FORMAT at the time of writing.
    """

    key: StepKey
    payload: KeyPayload
    tree: Digest
    files: dict[str, FileEntry]
    facts: dict[str, Json] = field(default_factory=dict)
    provenance: dict[str, Json] = field(default_factory=dict)
    generation: int = 0
    format: int = RECORD_FORMAT

    @property
    def step(self) -> str:
        """The name of the step that made it."""
        return self.payload.step

    @property
    def size(self) -> int:
        """The bytes of all its files together."""
        return sum(entry.size for entry in self.files.values())

    @property
    def inputs(self) -> dict[str, Digest]:
        """Role -> content digest of what it was made from."""
        return self.payload.inputs

    @property
    def named_inputs(self) -> dict[str, dict[str, Json]]:
        """Role -> what its provenance says of that input, such as the key of its record."""
        said = self.provenance.get("inputs")
        named = said.items() if isinstance(said, dict) else ()
        return {role: value for role, value in named if isinstance(value, dict)}

    def objects(self) -> dict[Digest, int]:
        """Return digest -> size of every object it needs, its tree object included."""
        sizes = {entry.digest: entry.size for entry in self.files.values()}
        return {**sizes, self.tree: len(tree_bytes(self.files))}

    def as_json(self) -> dict[str, Json]:
        """Return the record as plain JSON values."""
        return {
            "format": self.format,
            "key": self.key,
            "generation": self.generation,
            "payload": self.payload.as_json(),
            "tree": self.tree,
            "files": {n: {"digest": e.digest, "size": e.size} for n, e in self.files.items()},
            "facts": self.facts,
            "provenance": self.provenance,
        }

    def check(self) -> None:
        """Make sure, before anything of it is stored, that it can be read again.

        Raises:
            CanonicalError: if facts or provenance are not plain JSON, or a field that others read
                is not what they expect.
        """
        self.encode()
        try:
            _check_shape(self.as_json())
        except ValueError as error:
            raise CanonicalError(f"the result of {self.step} cannot be stored: {error}") from error

    def encode(self) -> bytes:
        """Return the bytes that are stored: canonical JSON with a check digest over the body."""
        body = self.as_json()
        return canonical_bytes({"record": body, "check": digest_bytes(canonical_bytes(body))})


def decode_record(data: bytes | None, *, key: StepKey, generation: int) -> Record:
    """Decode a stored record and check it against its digest, its key and its name.

    Raises:
        CorruptRecordError: if any of these disagrees.
        StoreFormatError: if it is intact but of a newer format.
    """
    try:
        body = _checked_body(data)
        version = body.get("format")
        if type(version) is int and RECORD_FORMAT < version < 2**31:
            raise StoreFormatError(
                f"record {key} has format {version}; this version of paraknow reads "
                f"{RECORD_FORMAT}. Upgrade paraknow, or use another store"
            )
        if version != RECORD_FORMAT:
            raise ValueError("no format that there ever was")
        _check_shape(body)
        record = _record(body)
    except (CanonicalError, NameRefusedError, KeyError, TypeError, ValueError) as error:
        raise CorruptRecordError(f"record {key} is damaged: {error}") from error
    said = (record.key, record.generation, record.payload.key(), tree_digest(record.files))
    if said != (key, generation, key, record.tree):
        raise CorruptRecordError(f"record {key} is damaged: it does not belong to its name")
    return record


def _check_shape(body: dict[str, Json]) -> None:
    from artifacts.record_shape import check_shape  # pydantic takes a while to import

    check_shape(body)


def _checked_body(data: bytes | None) -> dict[str, Json]:
    if data is None:
        raise ValueError("no regular file, or too long")
    outer = parse(data)
    if not isinstance(outer, dict) or set(outer) != {"record", "check"}:
        raise ValueError("not a record")
    body = outer["record"]
    # The record is canonical, so this part of it is too: it can be hashed as it stands.
    if not isinstance(body, dict) or digest_bytes(data[_BODY_STARTS:-1]) != outer["check"]:
        raise ValueError("its check digest does not match")
    return body


def _record(body: dict[str, Json]) -> Record:
    # Its shape was checked, so the casts hold.
    payload = cast("dict[str, object]", body["payload"])
    files = cast("dict[str, dict[str, object]]", body["files"])
    return Record(
        key=StepKey(cast("str", body["key"])),
        payload=KeyPayload(**payload),  # type: ignore[arg-type]
        tree=Digest(cast("str", body["tree"])),
        files={name: _entry(entry) for name, entry in files.items()},
        facts=cast("dict[str, Json]", body["facts"]),
        provenance=cast("dict[str, Json]", body["provenance"]),
        generation=cast("int", body["generation"]),
        format=cast("int", body["format"]),
    )


def _entry(entry: dict[str, object]) -> FileEntry:
    digest, size = entry["digest"], entry["size"]
    if not is_hex_digest(digest) or type(size) is not int or size < 0:
        raise ValueError("a file entry has no digest or size")
    return FileEntry(Digest(cast("str", digest)), size)
