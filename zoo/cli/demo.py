"""`zoo demo`: the main job from end to end, on data that comes with an installed package."""

from pathlib import Path
from typing import Annotated, Optional

import typer

from zoo.cli._common import friendly


@friendly
def demo(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    epochs: Annotated[Optional[int], typer.Option(help="Instead of the recipe's.")] = None,  # noqa: UP045
    repo: Annotated[
        Optional[str],  # noqa: UP045
        typer.Option(help="user/name to publish to; default: a private one in your token's account."),
    ] = None,
) -> None:
    """Fine-tune a small model on real digits, evaluate, publish, load back and compare. Minutes on a CPU."""
    from zoo.demo import run_demo

    result = run_demo(out, epochs=epochs, repo=repo, say=typer.echo)
    if result.equal is False:
        typer.echo("error: the model that was loaded back predicts something else", err=True)
        raise typer.Exit(1)
