"""All pictures of a folder or a pattern, enlarged."""

from __future__ import annotations

import functools
import glob
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image
from torch import nn

from zoo.device import check_device
from zoo.errors import DataError
from zoo.naming import did_you_mean, known_keywords
from zoo.pictures import Picture, read_picture
from zoo.training.data.folder import image_files
from zoo.training.data.labels import some
from zoo.training.data.source import check_on_bad
from zoo.training.progress import Progress
from zoo.training.super_resolution.task import super_resolver
from zoo.upscaling.picture import How, asked_for, enlarged_picture, refuse_what_is_there

Source = str | os.PathLike[str]


class Job(NamedTuple):
    """A file that is to be enlarged, and the files to be written."""

    image: Path
    out: Path
    class_map: Path | None


@known_keywords
def upscale_files(
    model: Source | nn.Module,
    source: Source,
    out: Source,
    scale: float | None = None,
    *,
    budget: float | None = None,
    policy: str | None = None,
    k: float = 0.0,
    refine: bool = True,
    tile: int | str = "auto",
    max_memory: str | int = "2GB",
    class_map: Source | None = None,
    on_bad: str = "raise",
    overwrite: bool = False,
    device: str | None = None,
    tick: Callable[[Path, int, int], None] | None = None,
    tell: Callable[[dict[str, Any]], None] | None = None,
    progress: bool = True,
) -> list[dict[str, Any]]:
    """Enlarge all pictures of a folder or a pattern, one after the other.

    Args:
        model, scale, budget, policy, k, refine, tile, max_memory, device: as of `zoo.upscale`.
        source: a folder, with all folders below; a pattern, "scans/*.tif"; or one file.
        out: a folder, in which the files have the names, and the folders, that they had; those of a format that cannot
            be written become .png. Of one file, a file.
        class_map: a folder, or of one file a file, for the pictures with their classes over them.
        on_bad: "raise" or "skip" for files that cannot be read.
        overwrite: replace files that are there; without it nothing is begun where one is.
        tick: called with the file, the number of its tiles that are done, and of all.
        tell: called with what is returned of each file, as soon as it is written or skipped.
        progress: say on stderr what was left out.

    Returns:
        A dictionary a file: `input`, `output`, the facts and notes of `Upscaled`; of one that was skipped `input` and
        `error`.

    Raises:
        DataError: no files, none that can be read, or, with on_bad="raise", one that cannot be.
        ValueError, TypeError, FileExistsError: as of `zoo.upscale`.
    """
    how = How(scale, asked_for(policy, budget, k, refine), tile, max_memory)
    check_device(device)
    check_on_bad(on_bad)
    jobs = jobs_of(source, Path(out), None if class_map is None else Path(class_map))
    refuse_what_is_there([path for job in jobs for path in job[1:] if path is not None], overwrite=overwrite)
    net = super_resolver(model)
    net = net if device is None else net.to(device)
    note, rows = Progress(progress, 1).note, []
    for job in jobs:
        picture = _read(job.image, on_bad)
        if isinstance(picture, DataError):
            note(f"left out an unreadable image: {picture}")
            rows.append({"input": str(job.image), "error": str(picture)})
        else:
            tiles = None if tick is None else functools.partial(tick, job.image)
            made = enlarged_picture(net, picture, how, job.out, job.class_map, tick=tiles)
            for text in made.notes:
                note(text)
            rows.append({"input": str(job.image), "output": str(job.out), **made.facts, "notes": made.notes})
        if tell is not None:
            tell(rows[-1])
    _conclude(rows, note)
    return rows


def _read(image: Path, on_bad: str) -> Picture | DataError:
    try:
        return read_picture(image)
    except DataError as error:
        if on_bad == "raise":
            raise DataError(f"{error}; remove it, or pass on_bad='skip' (--on-bad skip)") from error
        return error


def _conclude(rows: list[dict[str, Any]], note: Callable[[str], None]) -> None:
    bad = [row["input"] for row in rows if "error" in row]
    if len(bad) == len(rows):
        raise DataError(f"none of the {len(rows)} image files can be read: {some(bad, 3)}")
    if bad:
        note(f"enlarged {len(rows) - len(bad)} of {len(rows)} images; left out {len(bad)}: {some(bad)}")


def jobs_of(source: Source, out: Path, class_map: Path | None) -> list[Job]:
    """Each image with the files to be written.

    Raises:
        DataError: no images.
        ValueError: several images into one file.
    """
    text = os.path.expanduser(os.fspath(source))
    root = Path(text)
    if root.is_file():
        inside = out.is_dir() or str(out).endswith(os.sep)
        return [Job(root, out / _name(root) if inside else out, class_map)]
    if root.is_dir():
        images, base = image_files(root), root
    else:
        images = sorted(Path(name) for name in glob.glob(text, recursive=True) if Path(name).is_file())
        base = Path(os.path.commonpath([image.parent for image in images])) if images else root
    if not images:
        near = [] if glob.has_magic(text) or not root.parent.is_dir() else [p.name for p in root.parent.iterdir()]
        raise DataError(f"there is no image {os.fspath(source)!r}{did_you_mean(root.name, near)}")
    if out.is_file():
        raise ValueError(f"{os.fspath(source)!r} are {len(images)} images, and {out} is a file: name a folder")
    pairs = [(image, image.relative_to(base).with_name(_name(image))) for image in images]
    if len({str(name) for _, name in pairs}) < len(pairs):
        raise ValueError(
            f"two images of {os.fspath(source)!r} would be written to one file; convert them one folder at a time"
        )
    return [
        Job(image, out / name, None if class_map is None else class_map / name.with_suffix(".png"))
        for image, name in pairs
    ]


def _name(image: Path) -> str:
    """A name in the same format, where it can be written."""
    Image.init()
    writable = Image.registered_extensions().get(image.suffix.lower()) in Image.SAVE and image.suffix.lower() != ".gif"
    return image.name if writable else f"{image.stem}.png"
