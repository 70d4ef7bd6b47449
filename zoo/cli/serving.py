"""`zoo app`: a page in the web browser on which one tries a model."""

import signal
import threading
from pathlib import Path
from typing import Annotated

import typer

from zoo.cli import _options as o
from zoo.cli._common import friendly
from zoo.cli.training import stoppable


@stoppable
@friendly
def app(
    model: o.Model,
    host: Annotated[
        str, typer.Option(help="Address to answer at; 0.0.0.0 lets other machines in, without a password.")
    ] = "127.0.0.1",
    port: Annotated[int | None, typer.Option(help="Default: the first free one from 7860.")] = None,
    top: Annotated[int, typer.Option(help="How many classes to name.")] = 5,
    title: Annotated[str | None, typer.Option(help="Of the page; default the model's name.")] = None,
    examples: Annotated[Path | None, typer.Option(help="Image file, or folder of images, to try.")] = None,
    multi_label: Annotated[bool, typer.Option("--multi-label", help="Independent probabilities (sigmoid).")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps; default the CPU.")] = None,
    share: Annotated[
        bool, typer.Option("--share", help="Also a public address, through Gradio's servers: images go over them.")
    ] = False,
    open_: Annotated[bool, typer.Option("--open", help="Show it in the web browser.")] = False,
    save: Annotated[
        Path | None,
        typer.Option("--save", metavar="FOLDER", help="Only write the files of a Space for an hf-hub: MODEL."),
    ] = None,
) -> None:
    """Serve a page on which an image is dropped and MODEL's answer is read. Ctrl-C ends it."""
    from zoo import serving

    if save is not None:
        for path in serving.save_space(model, save, title=title):
            typer.echo(path)
        return
    page = serving.app(model, title=title, examples=examples, top=top, multi_label=multi_label or None, device=device)
    ended, received = threading.Event(), []

    def end(number: int, frame: object) -> None:
        received.append(number)
        ended.set()

    # Also for Ctrl-C: a shell starts what runs in the background with that signal ignored.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, end)
    try:
        _, local, public = page.launch(
            server_name=host, server_port=port, share=share, inbrowser=open_, quiet=True, prevent_thread_lock=True
        )
    except OSError as error:
        if "empty port" not in str(error):
            raise
        which = "the ports from 7860 are" if port is None else f"port {port} is"
        other = "" if port is None else ", or leave it out for the first free one from 7860"
        raise OSError(f"{which} taken at {host}; choose another (--port){other}") from error
    typer.echo(f"{model} at {local}")
    if public:
        typer.echo(f"and, for everybody who knows it, at {public}")
    try:
        ended.wait()
    finally:
        page.close(verbose=False)
    if received[0] == signal.SIGINT:
        raise KeyboardInterrupt("stopped")
    raise typer.Exit(128 + signal.SIGTERM)
