"""``paraknow calibrate``: how long steps take on this machine, for the hours of plans."""

import json
from dataclasses import asdict
from typing import Annotated, Literal

import typer
from rich.table import Table

from flows.cli.store.options import JsonOption
from flows.terminal import Terminal, say


def calibrate_command(
    *,
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="That models are computed in.")
    ] = "float32",
    device: Annotated[
        Literal["auto", "cpu", "cuda"], typer.Option(help="auto takes a GPU if there is one.")
    ] = "auto",
    threads: Annotated[
        int,
        typer.Option(min=0, max=4096, help="Torch threads a step; 0: one per available core."),
    ] = 0,
    as_json: JsonOption = False,
) -> None:
    """Measure the steps on small models, and keep the laws that `--plan` and `inspect` then use.

    Takes a minute or two on an idle machine, and a few hundred megabytes. What is kept holds for
    this machine, device, dtype and number of threads: a comparison with run.threads=1 wants
    `--threads 1`. Without a calibration a plan measures the machine for a moment.

    Examples:
    - `paraknow calibrate --threads 1`
    """
    from flows.calibration.calibrate import calibrate
    from flows.calibration.shapes import Shape
    from tasks.engine.run import RunConfig

    console = Terminal(stderr=as_json)

    def tell(shape: Shape) -> None:
        sizes = ", ".join(f"{name} {value:,}" for name, value in asdict(shape).items())
        console.print(f"measuring a pair of {sizes}", soft_wrap=True)

    rates, path = calibrate(RunConfig(device=device, threads=threads), dtype, tell=tell)
    if as_json:
        laws = {step: asdict(law) for step, law in rates.laws.items()}
        say(json.dumps({"laws": laws, "file": str(path)}, indent=1))
        return
    shown = Table(
        "step", "seconds for one of each", "measured lie within", box=None, pad_edge=False
    )
    for step, law in rates.laws.items():
        each = ", ".join(f"{term} {value:.3g}" for term, value in law.seconds_each.items())
        shown.add_row(step, each, f"a factor of {law.factor:.2f}")
    console.print(shown)
    console.print(f"Kept in {path}; plans on this machine use it from now on.", soft_wrap=True)
