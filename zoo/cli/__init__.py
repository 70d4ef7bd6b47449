"""The `zoo` command. Nothing here imports torch: a command imports what it needs when it runs."""

import os
from typing import Annotated

import typer

from zoo._version import __version__
from zoo.cli._commands import Group

app = typer.Typer(
    name="zoo",
    cls=Group,
    help="Layers and models that have a paper but no library: list, compose, fine-tune, compare, publish.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _version(value: bool) -> None:
    if value:
        typer.echo(f"zoo {__version__}")
        raise typer.Exit


@app.callback()
def _main(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
) -> None:
    if debug:
        os.environ["ZOO_DEBUG"] = "1"


def main() -> None:
    """Entry point of the `zoo` command."""
    app()
