"""The exceptions of the store: each message names the path or key, and what to do next."""


class StoreError(Exception):
    """Base of every error a user of ``artifacts`` is expected to meet."""


class StoreFormatError(StoreError):
    """The store folder is of a newer format, of another hash, or is no store at all."""


class CanonicalError(StoreError):
    """A value has no canonical JSON form, so it cannot bear identity."""


class StoreIOError(StoreError):
    """Reading or writing failed for a reason outside the store (disk, permission, descriptors)."""


class StoreFullError(StoreIOError):
    """The disk or quota under the store has no room left."""


class StoreReadOnlyError(StoreIOError):
    """The store cannot be written to."""


class CorruptObjectError(StoreError):
    """An object's bytes do not match its digest; it was moved to quarantine."""


class UnknownKeyError(StoreError):
    """No record, or more than one, matches the key or prefix that was given."""


class CorruptRecordError(StoreError):
    """A record's bytes fail its own check digest, its name, or its schema."""


class NameRefusedError(StoreError):
    """A file, role or step name is outside what the store allows."""


class StoreBusyError(StoreError):
    """Another process does what only one at a time may do."""


class RemoteError(StoreError):
    """The shared tier cannot be used: it does not answer, refuses, or is not set up."""


class RemoteDeniedError(RemoteError):
    """The shared tier refuses these credentials."""
