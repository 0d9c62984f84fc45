"""The modules whose rows are tokens, and the matrix that each computes with."""

from dataclasses import replace

from paraknow_core.models.architecture import Architecture, Matrix
from paraknow_core.models.families import Role


def token_modules(model: Architecture) -> dict[str, Matrix]:
    """Name embedding and head, the embedding first.

    Returns:
        Module → its matrix. A tied head's is the embedding's: it computes with the same rows, and
        may have an adapter of its own.
    """
    embedding = model.matrix(Role.EMBED)
    name = model.module_of(Role.HEAD)
    head = (
        replace(embedding, role=Role.HEAD, module=name) if model.tied else model.matrix(Role.HEAD)
    )
    return {embedding.module: embedding, name: head}
