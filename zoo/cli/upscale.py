"""`zoo upscale`: enlarge pictures."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli import _options as o
from zoo.cli._common import echo_json, friendly, human_count
from zoo.cli.training import stoppable


@stoppable
@friendly
def upscale(
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="An image, a folder of images, or a pattern: 'a/*.png'.")
    ],
    output: Annotated[str, typer.Argument(metavar="OUTPUT", help="A file, or a folder; of several images, a folder.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Registered name with weights, run folder, local-dir: or hf-hub:.")
    ] = "pcsr_srresnet_nano_x4",
    scale: Annotated[float | None, typer.Option(help="How much larger; default what the model was made for.")] = None,
    budget: Annotated[
        float | None, typer.Option(help="FLOPs as a part of what they are with all pixels heavy, 0.6 say.")
    ] = None,
    policy: Annotated[
        str | None,
        typer.Option(help="How pixels are given to networks: argmax, adm, light or heavy; target: --budget."),
    ] = None,
    k: Annotated[float, typer.Option("--cost-exponent", "-k", help="Of argmax; larger is cheaper, -1 to 2 say.")] = 0.0,
    refine: Annotated[bool, typer.Option("--refine/--no-refine", help="Smooth the seams between classes.")] = True,
    tile: Annotated[str, typer.Option(help="Side of the pieces that are computed at a time, or auto.")] = "auto",
    max_memory: Annotated[str, typer.Option(help="What --tile auto may use.")] = "2GB",
    class_map: Annotated[
        str | None, typer.Option(help="A file for the image with its classes over it; of several images, a folder.")
    ] = None,
    on_bad: o.OnBad = "raise",
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps; default the CPU.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what each image cost as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr.")] = False,
) -> None:
    """Enlarge INPUT by a model of super-resolution, in any format that Pillow reads.

    zoo upscale photo.jpg photo4x.png --scale 4 --budget 0.6
    """
    from zoo.upscaling import upscale_files

    def told(row: dict[str, Any]) -> None:
        if not quiet and "output" in row:
            typer.echo(f"zoo: {row['output']}: {_words(row)}", err=True)

    with _bar(shown=not quiet) as tick:
        rows = upscale_files(
            model, source, output, scale, budget=budget, policy=policy, k=k, refine=refine,
            tile=int(tile) if tile.isdigit() else tile, max_memory=max_memory, class_map=class_map, on_bad=on_bad,
            overwrite=overwrite, device=device, tick=tick, tell=told, progress=not quiet,
        )  # fmt: skip
    if as_json:
        echo_json(rows if len(rows) > 1 or Path(source).expanduser().is_dir() else rows[0])


def _words(facts: dict[str, Any]) -> str:
    width, height = facts["size"]
    words = f"{width} x {height}"
    if "hard" not in facts:
        return words
    return (
        f"{words}, {facts['hard']:.1%} of the pixels hard, {human_count(int(facts['flops']))}FLOPs as the paper counts "
        f"({facts['flops_share']:.1%} of all heavy), {human_count(int(facts['true_flops']))}FLOPs in truth "
        f"({facts['true_flops_share']:.1%})"
    )


@contextmanager
def _bar(*, shown: bool) -> Iterator[Callable[[Path, int, int], None]]:
    """What shows tiles as they are done, on a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield lambda image, done, tiles: None
        return
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("tiles"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=None)
        yield lambda image, done, tiles: progress.update(task, description=image.name, completed=done, total=tiles)
