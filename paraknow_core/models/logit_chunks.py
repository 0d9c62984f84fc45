"""How many logits are in memory at a time. Needs no torch."""

from collections.abc import Iterator

CHUNK_ELEMENTS = 2**24
"""Logits in memory at a time: 64 MiB of float32, and as much again for log-probabilities and
gradient. Enough places for a matrix product to be a fast one: 131 of a vocabulary of 128,000."""


def are_many(places: int, vocabulary: int) -> bool:
    """Whether so many logits are computed in chunks."""
    return places * vocabulary > CHUNK_ELEMENTS


def places_at_once(vocabulary: int) -> int:
    """How many places a chunk has."""
    return max(1, CHUNK_ELEMENTS // vocabulary)


def chunks(places: int, vocabulary: int) -> Iterator[slice]:
    """Cut N places into chunks of at most ``CHUNK_ELEMENTS`` logits, one place at least."""
    step = places_at_once(vocabulary)
    return (slice(start, min(start + step, places)) for start in range(0, places, step))
