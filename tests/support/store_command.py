"""``paraknow store`` as a test calls it."""

from typer.testing import CliRunner

from artifacts.store import Store
from flows.cli.store.look import store_app


def run(store: Store, *arguments: str, code: int = 0) -> str:
    """Run a command on a store, which must end with this code; return what it printed."""
    result = CliRunner().invoke(
        store_app, [*arguments, "--store", str(store.root)], catch_exceptions=False
    )
    assert result.exit_code == code, result.output
    return result.output
