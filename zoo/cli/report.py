"""`zoo report`: a run, or a comparison, as one HTML page."""

from pathlib import Path
from typing import Annotated

import typer

from zoo.cli import _options as o
from zoo.cli._common import friendly


@friendly
def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of zoo train or of zoo compare.")],
    out: Annotated[Path | None, typer.Option("--out", "-o", help="The file; default RUN/report.html.")] = None,
    data: Annotated[
        str | None,
        typer.Option("--data", metavar="DATA", help="The run's data; default where the run says that it was."),
    ] = None,
    no_data: Annotated[
        bool, typer.Option("--no-data", help="Do without: no images, nothing counted from single answers.")
    ] = False,
    val: o.Val = None,
    worst: Annotated[int, typer.Option(help="How many wrongly answered images to show.")] = 24,
    batch_size: Annotated[int, typer.Option(help="Images at a time.")] = 64,
    device: o.Device = None,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the web browser.")] = False,
) -> None:
    """Write RUN as one HTML page: what was trained and how, curves, metrics, confusion matrix, the worst mistakes."""
    if no_data and data is not None:
        raise typer.BadParameter("give --data or --no-data, not both", param_hint="--no-data")
    from zoo.training.reporting import report as write

    page = write(
        run,
        out,
        data=False if no_data else data,
        val=o.read_val(val),
        worst=worst,
        batch_size=batch_size,
        device=device,
    )
    typer.echo(page)
    if open_:
        import webbrowser

        if not webbrowser.open(page.resolve().as_uri()):
            typer.echo(f"no web browser could be started; open {page}", err=True)
