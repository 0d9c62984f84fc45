"""The ``paraknow`` command. Imports little at the top, so that ``--help`` comes at once."""

import os
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NoReturn

import typer

from artifacts.disk.files import full_error
from artifacts.errors import StoreError
from artifacts.live import keeping
from flows.cli.calibrate import calibrate_command
from flows.cli.compare import compare_command
from flows.cli.deliver import deliver_command
from flows.cli.doctor import doctor_command
from flows.cli.guard import guard
from flows.cli.init_server import init_server_command
from flows.cli.inspect import inspect_command
from flows.cli.options import Rebuild, Strict
from flows.cli.output import open_standard_descriptors, surviving_output
from flows.cli.reproduce import reproduce_command
from flows.cli.results import results_command
from flows.cli.store.look import store_app
from flows.cli.streams import encoding_hint, prepare_streams
from flows.cli.submit import submit_command
from flows.cli.tasks import tasks_app
from flows.cli.up import up_command
from flows.server.prefect_home import replace_unusable_home
from flows.server.server_settings import NO_ADDRESS, ServerError, shown_address, wrong_settings
from flows.terminal import Terminal, say, store_warnings, warn
from paraknow_core.errors import ConfigError, ParaknowError
from paraknow_core.printable import printable
from tasks.engine.stage import Stage

if TYPE_CHECKING:
    from artifacts.canonical import Json
    from flows.config.transfer import TransferConfig
    from flows.planning.transfer import Plan
    from flows.transfer import TransferResult

app = typer.Typer(
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    help="Move knowledge from a large language model to a smaller one through its parameters, and "
    "find out honestly whether anything moved.",
)
app.add_typer(store_app, name="store")
app.add_typer(tasks_app, name="tasks")
app.command("compare")(compare_command)
app.command("reproduce")(reproduce_command)
app.command("results")(results_command)
app.command("doctor")(doctor_command)
app.command("inspect")(inspect_command)
app.command("calibrate")(calibrate_command)
app.command("deliver")(deliver_command)
app.command("init-server")(init_server_command)
app.command("submit")(submit_command)
app.command("up")(up_command)

QUIET = {
    # The embedded server's first start migrates its database; 20 s, the default, can be too short.
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    # A shared machine may stand still for a minute, and a run of hours should outlast that.
    "PREFECT_API_REQUEST_TIMEOUT": "300",
    # On a server that marks silent runs Crashed, three beats must fit into its patience.
    "PREFECT_FLOWS_HEARTBEAT_FREQUENCY": "30",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL": "CRITICAL",
    # Attaches the steps' lines to their task runs in the UI.
    "PREFECT_LOGGING_EXTRA_LOGGERS": "paraknow",
    "PREFECT_LOGGING_TO_API_WHEN_MISSING_FLOW": "ignore",  # reproduce computes outside of a flow
}

NEEDS_SERVER = ("transfer", "compare", "submit")

KEEPS_SITE = ("up",)
"""Commands that wait for signals themselves, and need longer to end well than the guard gives."""

INTERRUPTED = 130
"""Typer's exit code after a KeyboardInterrupt."""


@app.callback()
def _main(context: typer.Context) -> None:
    """Commands of paraknow."""
    _check_working_folder()
    context.with_resource(keeping())  # until the command ends
    context.with_resource(store_warnings())
    for name, value in QUIET.items():  # before Prefect is imported
        os.environ.setdefault(name, value)
    unusable = replace_unusable_home(os.environ)
    if unusable is not None and context.invoked_subcommand in KEEPS_SITE:
        raise ServerError(
            f"Prefect's folder {unusable} cannot be written: set PREFECT_HOME to one that can"
        )
    if context.invoked_subcommand in NEEDS_SERVER:
        url = os.environ.get("PREFECT_API_URL")
        if url and not shown_address(url):  # said here, it is said before slow imports
            raise ServerError(NO_ADDRESS)
        if unusable is not None:
            warn(
                f"Prefect's folder {unusable} cannot be written, so its history of this run is not "
                "kept. To keep it, set PREFECT_HOME to a folder that can."
            )


def _check_working_folder() -> None:
    """Libraries that are asked for a relative path, or for none, otherwise end the process."""
    try:
        Path.cwd()
    except OSError as error:
        raise ConfigError(
            "the working directory is gone, or may not be read: change to a folder that is there "
            "(`cd`), then run the command again"
        ) from error


@app.command("transfer")
def transfer_command(
    *,
    config: Annotated[
        Path | None, typer.Argument(help="Experiment as YAML, such as configs/demo.yaml.")
    ] = None,
    task: Annotated[
        str, typer.Option(help="Task, by its name (`paraknow tasks`) or its YAML file.")
    ] = "",
    recipe: Annotated[
        str, typer.Option(help="Settings of the steps: seeking, or a YAML file.")
    ] = "",
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Override a setting, such as finetune.seed=3."
        ),
    ] = None,
    plan: Annotated[
        bool, typer.Option("--plan", help="Print which steps would hit or run; run nothing.")
    ] = False,
    explain: Annotated[
        bool,
        typer.Option(
            "--explain",
            help="Print the plan, and of each step that would run how it differs from the nearest "
            "stored result.",
        ),
    ] = False,
    strict: Strict = False,
    rebuild: Rebuild = False,
    until: Annotated[Stage, typer.Option(help="Stop after this stage.")] = Stage.REPORT,
    json_: Annotated[
        bool, typer.Option("--json", help="Print steps, keys, seconds and file paths as JSON.")
    ] = False,
) -> None:
    """Run one teacher/student pair end to end; what is in the store is not computed again.

    The student is measured untouched, after plain LoRA, and after LoRA that starts from the
    teacher's most sensitive parameters (SeeKing, arXiv 2310.11451). A killed run goes on where it
    was: just run it again.

    Examples:
    - `paraknow transfer configs/demo.yaml --plan --explain`
    - `paraknow transfer configs/demo.yaml --set lora.rank=4 --set finetune.seed=1`
    - `paraknow transfer configs/demo.yaml --until lora --json`
    - `paraknow transfer --task gsm8k --recipe seeking --set teacher.model=./big --set
      student.model=./small`
    """
    from flows.config.load import drift_overrides, load_config
    from flows.config.transfer import TransferConfig
    from flows.planning.rates import rates_for
    from flows.planning.transfer import make_plan

    overrides = [*(set_ or []), *drift_overrides(strict=strict, rebuild=rebuild)]
    if config is None and not task:
        raise ConfigError(
            "say what to run: an experiment as YAML (paraknow transfer configs/demo.yaml), or a "
            "task (paraknow transfer --task gsm8k --set teacher.model=… --set student.model=…)"
        )
    presets = {"task": task} if task else {}
    presets |= {"recipe": recipe} if recipe else {}
    settings = load_config(TransferConfig, config, overrides, presets=presets)
    console = Terminal(stderr=json_)
    rates = partial(rates_for, settings.budget, settings.run, settings.finetune.compute_dtype)
    planned = make_plan(settings, until, rates if plan or explain else None)
    if plan or explain:
        _print_plan(console, planned, as_json=json_, explain=explain)
        planned.check_drift()
        return
    planned.check()
    result = _execute(console, settings, until, planned)
    _print_result(console, result, as_json=json_)


def _execute(
    console: Terminal, settings: "TransferConfig", until: Stage, planned: "Plan"
) -> "TransferResult":
    from flows.cli.console import watching
    from flows.cli.hits import goes_without_server
    from flows.server.server import ensure_server
    from flows.transfer import collect, transfer

    if goes_without_server(console, planned):
        return collect(settings.run, planned.refs())
    ensure_server()
    with watching(console):
        return transfer(settings, until)


def _print_plan(console: Terminal, planned: "Plan", *, as_json: bool, explain: bool) -> None:
    from flows.cli.console import show_plan
    from flows.planning.explain import why_missed

    misses = why_missed(planned) if explain else {}
    if as_json:
        why: dict[str, Json] = {label: miss.as_json() for label, miss in misses.items()}
        say(planned.to_json(why if explain else None))
        return
    show_plan(console, planned)
    for label, miss in misses.items():
        say("\n".join([label, *miss.lines()]))


def _print_result(console: Terminal, result: "TransferResult", *, as_json: bool) -> None:
    from flows.cli.console import show_result

    if as_json:
        say(result.model_dump_json(indent=1))
    else:
        show_result(console, result)


def _fail(message: str) -> NoReturn:
    text = f"error: {printable(message)}{encoding_hint(message)}"
    Terminal(stderr=True).print(text, style="red", soft_wrap=True)
    sys.exit(2)


def main() -> None:
    """Run the command so that a signal ends it within seconds, whatever it is doing."""
    open_standard_descriptors()
    if sys.argv[1:2] != [*KEEPS_SITE]:
        guard()
    try:
        run_command()
    except SystemExit as end:
        if end.code == INTERRUPTED:
            os._exit(INTERRUPTED)  # Python would wait for the threads that still compute
        raise


def run_command() -> None:
    """Run the command; an expected error is one clear message and exit code 2."""
    with surviving_output():
        prepare_streams()
        try:
            app()
        except (ParaknowError, StoreError) as error:
            _fail(str(error))
        except UnicodeEncodeError as error:  # a name that the file system's encoding lacks
            if error.encoding != sys.getfilesystemencoding():
                raise
            _fail(f"The name {error.object!r} cannot be used")
        except ValueError as error:  # pydantic's are such; its import takes longer than --help
            sentence = wrong_settings(error)
            if not sentence:
                raise
            _fail(sentence)
        except OSError as error:
            full = full_error(error, Path.cwd())
            if full is None:
                raise
            _fail(str(full))
