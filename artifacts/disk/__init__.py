"""The lowest level of the store: bytes on a disk, their digests and sizes."""
