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
from zoo.pictures import Picture, check_writable, read_picture, readable_endings, shortfall
from zoo.training.data.folder import files_below
from zoo.training.data.labels import some
from zoo.training.data.source import check_on_bad
from zoo.training.progress import Progress
from zoo.training.super_resolution.task import super_resolver
from zoo.upscaling.picture import (
    How,
    asked_for,
    check_fits,
    enlarged_picture,
    enlarged_size,
    refuse_what_is_there,
)

Source = str | os.PathLike[str]


class Job(NamedTuple):
    """A file that is to be enlarged, and the files to be written.

    Attributes:
        image: the file.
        out: where it goes.
        class_map: where the picture with its classes over it goes.
        named: whether `out` was named, rather than made of the name of the image.
    """

    image: Path
    out: Path
    class_map: Path | None
    named: bool = False

    def targets(self) -> list[Path]:
        """What is to be written."""
        return [self.out] if self.class_map is None else [self.out, self.class_map]


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
        source: a folder, with all folders below; a pattern, "scans/*.tif"; or one file. Of a folder every file is taken
            whose ending is that of a format which Pillow reads; how many others there are is told. What lies in `out`
            or `class_map` is not taken.
        out: a folder, in which the files have the names, and the folders, that they had; those of a format that cannot
            be written, or does not hold the picture, become .png or, of real numbers, .tif. Of one file, a file, or a
            folder that is there or whose name ends in a slash.
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
    note, rows = Progress(progress, 1).note, []
    jobs = jobs_of(source, out, class_map, note)
    refuse_what_is_there([path for job in jobs for path in job.targets()], overwrite=overwrite)
    net = super_resolver(model)
    check_fits(net, how)
    net = net if device is None else net.to(device)
    taken = {path for job in jobs for path in job.targets()}
    for job in jobs:
        picture = _read(job.image, on_bad)
        if isinstance(picture, DataError):
            note(f"left out an unreadable image: {picture}")
            rows.append({"input": str(job.image), "error": str(picture)})
        else:
            job = _held(job, picture, enlarged_size(net, picture, how), taken, overwrite)
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


def _held(job: Job, picture: Picture, size: tuple[int, int], taken: set[Path], overwrite: bool) -> Job:
    """The job, whose file is of another format if its own, which nobody asked for, does not hold the picture."""
    if job.named:
        return job
    endings = (job.out.suffix, ".png", ".tif")
    for ending in endings:
        out = job.out.with_suffix(ending)
        try:
            check_writable(picture, out, size)
        except ValueError:
            if ending == endings[-1]:
                raise
            continue
        if out != job.out:
            if out in taken:
                raise ValueError(f"{job.image} would be written to {out}, as another image is: rename one of the two")
            refuse_what_is_there([out], overwrite=overwrite)
            taken.add(out)
            picture.notes.append(f"{job.image} becomes {out.name}, as its own format does not hold it")
        return job._replace(out=out)
    return job


def jobs_of(source: Source, out: Source, class_map: Source | None, note: Callable[[str], None]) -> list[Job]:
    """Each image with the files to be written.

    Args:
        source, out, class_map: as of `upscale_files`.
        note: told what of a folder is passed over.

    Raises:
        DataError: no images.
        ValueError: several images into one file.
    """
    root, target = Path(source).expanduser(), Path(out).expanduser()
    classes = None if class_map is None else Path(class_map).expanduser()
    if root.is_file():
        if classes is not None and _is_folder(classes, class_map):
            classes = classes / f"{root.stem}.png"
        inside = _is_folder(target, out)
        return [Job(root, target / _name(root) if inside else target, classes, named=not inside)]
    base, text = root, os.path.expanduser(os.fspath(source))
    if root.is_dir():
        images = _pictures_of(root, [path for path in (target, classes) if path is not None], note)
    else:
        images = sorted(Path(name) for name in glob.glob(text, recursive=True) if Path(name).is_file())
        base = Path(os.path.commonpath([image.parent for image in images])) if images else root
    if not images:
        near = [] if glob.has_magic(text) or not root.parent.is_dir() else [p.name for p in root.parent.iterdir()]
        raise DataError(f"there is no image {os.fspath(source)!r}{did_you_mean(root.name, near)}")
    for path in (target, classes):
        if path is not None and path.is_file():
            raise ValueError(f"{os.fspath(source)!r} are {len(images)} images, and {path} is a file: name a folder")
    jobs = []
    for image in images:
        name = image.relative_to(base).with_name(_name(image))
        jobs.append(Job(image, target / name, None if classes is None else classes / name.with_suffix(".png")))
    _refuse_collisions(jobs)
    return jobs


def _is_folder(path: Path, given: Any) -> bool:
    return path.is_dir() or os.fspath(given).endswith(("/", os.sep))


def _pictures_of(root: Path, ours: list[Path], note: Callable[[str], None]) -> list[Path]:
    """The pictures below a folder, by their endings, without those in folders that are written to."""
    inside = [path.resolve() for path in ours if path.resolve() != root.resolve()]
    files = [file for file in files_below(root) if not any(path in file.resolve().parents for path in inside)]
    endings = readable_endings()
    images = [file for file in files if file.suffix.lower() in endings]
    others = [str(file.relative_to(root)) for file in files if file.suffix.lower() not in endings]
    if others:
        note(f"passed over {len(others)} of {len(files)} files of {root}, which are no pictures: {some(others, 3)}")
    if {"HR", "LR"} <= {folder.name for folder in root.iterdir() if folder.is_dir()}:
        note(f"{root / 'HR'} is enlarged, too; {root / 'LR'} alone is a folder of its own")
    return images


def _refuse_collisions(jobs: list[Job]) -> None:
    """Refuse two images that would be written to one file.

    Raises:
        ValueError: naming them.
    """
    seen: dict[Path, Path] = {}
    for job in jobs:
        for path in job.targets():
            if path in seen:
                both = f"{seen[path]} and {job.image}" if seen[path] != job.image else f"{job.image} and its classes"
                raise ValueError(f"{both} would be written to one file, {path}: rename one, or name another folder")
            seen[path] = job.image


def _name(image: Path) -> str:
    """A name in the same format, where pictures of colour can be written in it."""
    form = Image.registered_extensions().get(image.suffix.lower())
    written = form in Image.SAVE and shortfall(form, "RGB") is None
    return image.name if written else f"{image.stem}.png"
