"""`zoo upscale`: enlarge pictures."""

import glob
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer

from zoo.cli._common import echo_json, friendly, human_count
from zoo.cli.training import stoppable


@stoppable
@friendly
def upscale(
    source: Annotated[
        str, typer.Argument(metavar="INPUT", help="An image, a folder of images, or a pattern: 'a/*.png'.")
    ],
    output: Annotated[Path, typer.Argument(metavar="OUTPUT", help="A file; of several images, a folder.")],
    model: Annotated[
        str, typer.Option("--model", "-m", help="Registered name with weights, run folder, local-dir: or hf-hub:.")
    ] = "pcsr_srresnet_nano_x4",
    scale: Annotated[float | None, typer.Option(help="How much larger; default what the model was made for.")] = None,
    budget: Annotated[
        float | None, typer.Option(help="FLOPs as a part of what they are with all pixels heavy, 0.6 say.")
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="How pixels are given to networks: argmax, adm, light or heavy.")
    ] = None,
    k: Annotated[float, typer.Option("--cost-exponent", "-k", help="Of argmax; larger is cheaper, -1 to 2 say.")] = 0.0,
    refine: Annotated[bool, typer.Option("--refine/--no-refine", help="Smooth the seams between classes.")] = True,
    tile: Annotated[str, typer.Option(help="Side of the pieces that are computed at a time, or auto.")] = "auto",
    max_memory: Annotated[str, typer.Option(help="What --tile auto may use.")] = "2GB",
    class_map: Annotated[
        Path | None, typer.Option(help="A file for the image with its classes over it; of several images, a folder.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that are there.")] = False,
    device: Annotated[str | None, typer.Option(help="cpu, cuda or mps; default the CPU.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print what each image cost as JSON.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr.")] = False,
) -> None:
    """Enlarge INPUT by a model of super-resolution, in any format that Pillow reads.

    zoo upscale photo.jpg photo4x.png --scale 4 --budget 0.6
    """
    jobs = _jobs(source, output, class_map)
    if not overwrite:
        there = [str(path) for _, *targets in jobs for path in targets if path is not None and path.exists()]
        if there:
            raise FileExistsError(
                f"{len(there)} file(s) are there already, {there[0]} first; --overwrite replaces them"
            )
    from zoo.training.model_source import ready_model
    from zoo.upscaling import upscale as enlarge

    net = ready_model(model)
    told = []
    for image, target, overlay in jobs:
        with _bar(image.name, shown=not quiet) as tick:
            made = enlarge(
                net, image, scale, out=target, budget=budget, policy=policy, k=k, refine=refine,
                tile=int(tile) if tile.isdigit() else tile, max_memory=max_memory, class_map=overlay,
                overwrite=overwrite, device=device, tick=tick,
            )  # fmt: skip
        told.append({"input": str(image), "output": str(target), **made.facts})
        if not quiet:
            for note in made.notes:
                typer.echo(f"zoo: {note}", err=True)
            typer.echo(f"zoo: {target}: {_words(made.facts)}", err=True)
    if as_json:
        echo_json(told if len(told) > 1 or Path(source).is_dir() else told[0])


def _jobs(source: str, output: Path, class_map: Path | None) -> list[tuple[Path, Path, Path | None]]:
    """Each image with the files to be written."""
    root = Path(source).expanduser()
    if root.is_file():
        inside = output.is_dir() or str(output).endswith(os.sep)
        return [(root, output / _name(root) if inside else output, class_map)]
    if root.is_dir():
        from zoo.training.data.folder import image_files

        images, base = image_files(root), root
    else:
        images = sorted(
            Path(name) for name in glob.glob(os.path.expanduser(source), recursive=True) if Path(name).is_file()
        )
        base = Path(os.path.commonpath([image.parent for image in images])) if images else root
    if not images:
        from zoo.errors import DataError

        raise DataError(f"there is no image {source!r}")
    if output.is_file():
        raise ValueError(f"{source!r} are {len(images)} images, and {output} is a file: name a folder")
    pairs = [(image, (image.relative_to(base)).with_name(_name(image))) for image in images]
    same = {str(name) for _, name in pairs}
    if len(same) < len(pairs):
        raise ValueError(f"two images of {source!r} would be written to one file; convert them one folder at a time")
    return [
        (image, output / name, None if class_map is None else class_map / name.with_suffix(".png"))
        for image, name in pairs
    ]


def _name(image: Path) -> str:
    """A name in the same format, where it can be written."""
    from PIL import Image

    Image.init()
    writable = Image.registered_extensions().get(image.suffix.lower()) in Image.SAVE and image.suffix.lower() != ".gif"
    return image.name if writable else f"{image.stem}.png"


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
def _bar(name: str, *, shown: bool) -> Iterator[Callable[[int, int], None]]:
    """What shows tiles as they are done, on a terminal."""
    from rich.console import Console

    console = Console(stderr=True)
    if not shown or not console.is_terminal:
        yield lambda done, tiles: None
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
        task = progress.add_task(name, total=None)
        yield lambda done, tiles: progress.update(task, completed=done, total=tiles)
