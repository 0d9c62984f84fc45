"""The words of a printed page: a template that is filled in with numbers, and with nothing else."""

from pathlib import Path

import jinja2


def words(folder: Path) -> jinja2.Environment:
    """The templates of a folder; a name that has no number is an error.

    Args:
        folder: with ``page.md.jinja``.
    """
    return jinja2.Environment(
        loader=jinja2.FileSystemLoader(folder),
        undefined=jinja2.StrictUndefined,
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
