"""The `zoo` command. Nothing here imports torch: a command imports what it needs when it runs."""

import os
from typing import Annotated

import typer

from zoo._version import __version__
from zoo.cli import catalogue, composing, demo, export, hub, report, serving, stitches, training

app = typer.Typer(
    name="zoo",
    help="Layers and models that have a paper but no library: list, compose, fine-tune, compare, publish.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

app.command("list")(catalogue.list_)
app.command("info")(catalogue.info)
app.command("create")(composing.create)
app.command("train")(training.train)
app.command("compare")(training.compare)
app.command("eval")(training.eval_)
app.command("predict")(training.predict)
app.command("report")(report.report)
app.command("app")(serving.app)
app.command("push")(hub.push)
app.command("pull")(hub.pull)
app.command("verify")(hub.verify)
app.command("convert")(hub.convert)
app.command("export")(export.export)
app.command("stitches")(stitches.stitches)
app.command("demo")(demo.demo)


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
