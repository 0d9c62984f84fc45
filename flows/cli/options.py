"""Options that several commands have."""

from typing import Annotated

import typer

Strict = Annotated[
    bool, typer.Option("--strict", help="Refuse results that other code or libraries made.")
]
Rebuild = Annotated[
    bool,
    typer.Option("--rebuild", help="Compute results that other code or libraries made again."),
]
