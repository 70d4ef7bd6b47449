"""Where a run may be written, and what of it may be removed: never anything that a run did not write."""

from __future__ import annotations

import json
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from zoo import files
from zoo.training.data.source import BUILT_IN

_FILES = ("history.csv", "history.json", "metrics.json", "curves.png", "confusion.png", "report.html")
_BEST = ("model.safetensors", "config.json", "README.md")
_STEP = ("model.safetensors", "ema.safetensors", "optim.safetensors", "state.json")
# Written by args.json's only author; other tools' files of that name have other keys.
_KEYS = {"model", "data", "processes", "options", "versions"}
_TEMPORARY = re.compile(r"(.+)\.tmp-\d+-\d+")
_UNSEEN = (".DS_Store", ".gitkeep", ".gitignore")
_WAY_OUT = "choose another out (--out)"


def is_run(folder: Path) -> bool:
    """Whether `folder` holds a run: an args.json that `zoo.finetune` wrote."""
    try:
        stored = json.loads((folder / "args.json").read_text("utf-8"))
    except (OSError, ValueError):
        return False
    versions = stored.get("versions") if isinstance(stored, dict) else None
    return isinstance(versions, dict) and "zoo" in versions and stored.keys() >= _KEYS


def is_free(folder: Path) -> bool:
    """Whether a new run may be written into `folder`: it does not exist, or holds nothing."""
    return not folder.exists() or (folder.is_dir() and not _things_in(folder))


def check_out(out: str | os.PathLike[str] | None, *sources: Any) -> None:
    """Refuse a run folder that would mix with other files, before anything is built or written.

    Args:
        out: as of `zoo.finetune`; None stands for a new folder below `runs`.
        sources: data of the run; those that are no paths are left alone.

    Raises:
        ValueError: `out` is a file, cannot be written, is the data, lies in it or around it, or holds other files.
    """
    folder = Path("runs" if out is None else out).expanduser()
    place = folder.resolve()
    for source in _paths(sources):
        data = source.resolve()
        inside = data.is_dir() and place.is_relative_to(data)
        if inside or (out is not None and data.is_relative_to(place)):
            how = "is" if place == data else "lies inside" if inside else "contains"
            raise ValueError(f"the run folder {str(folder)!r} {how} the data ({source}); {_WAY_OUT}")
    if folder.exists() and not folder.is_dir():
        raise ValueError(f"the run folder {str(folder)!r} is a file; {_WAY_OUT}")
    if out is not None and not is_free(folder):
        if not is_run(folder):
            raise ValueError(
                f"the folder {str(folder)!r} is not a run's and holds {_some(_things_in(folder))}; {_WAY_OUT}"
            )
        check_foreign(folder, "best")
    parent = next((p for p in (place, *place.parents) if p.exists()), place)
    try:
        with tempfile.TemporaryFile(dir=parent):
            pass
    except OSError as error:
        raise ValueError(f"cannot write a run into {str(parent)!r} ({error.strerror}); {_WAY_OUT}") from error


def check_foreign(folder: Path, *parts: str) -> None:
    """Refuse a run in whose folders somebody has put other files.

    Raises:
        ValueError: naming them.
    """
    foreign = [str(p.relative_to(folder)) for part in parts for p, ours in _inside(folder / part) if not ours]
    if foreign:
        raise ValueError(f"the run {str(folder)!r} also holds files that are not its own: {_some(foreign)}; "
                         f"move them away, or {_WAY_OUT}")  # fmt: skip


def clear_run(folder: Path) -> None:
    """Remove what an earlier run wrote into `folder`, file by file, and nothing else.

    Raises:
        ValueError: no run's folder, or other files in its folders; nothing is removed then.
    """
    if is_free(folder):
        return
    if not is_run(folder):
        raise ValueError(f"the folder {str(folder)!r} is not a run's: nothing was removed; {_WAY_OUT}")
    check_foreign(folder, "best", "checkpoints", "tensorboard")
    for part in ("best", "checkpoints"):
        # Files come after the folder they lie in, so that backwards every folder is empty when its turn comes.
        for path, _ in reversed(list(_inside(folder / part))):
            path.rmdir() if path.is_dir() else path.unlink()
        if (folder / part).is_dir():
            (folder / part).rmdir()
    for path in reversed(list(_tensorboard(folder))):
        path.rmdir() if path.is_dir() else path.unlink()
    # What makes it a run goes last: a removal that is cut off can be taken up.
    for name in (*_FILES, "args.json"):
        (folder / name).unlink(missing_ok=True)


def clear_leftovers(folder: Path) -> None:
    """Remove files and checkpoints that an earlier process of this run, which is no more, did not finish writing."""
    names = [folder / name for name in (*_FILES, "args.json", "best")]
    names += [folder / "best" / name for name in _BEST]
    if (folder / "checkpoints").is_dir():
        unfinished = {_final(p.name) for p in (folder / "checkpoints").iterdir() if _TEMPORARY.fullmatch(p.name)}
        names += [folder / "checkpoints" / name for name in sorted(unfinished) if re.fullmatch(r"step-\d{8}", name)]
    for path in names:
        files.clear_leftovers(path)


def _inside(part: Path) -> Iterator[tuple[Path, bool]]:
    """Everything below best/, checkpoints/ or tensorboard/, each with whether a run writes it there."""
    if part.is_symlink() or (part.exists() and not part.is_dir()):
        yield part, False
    elif part.is_dir():
        for path in sorted(part.iterdir()):
            if part.name == "tensorboard":
                yield path, _is_event(path) or (path.is_dir() and bool(re.fullmatch(r"[\d.]+", path.name)))
                if path.is_dir() and not path.is_symlink():
                    yield from ((file, _is_event(file)) for file in sorted(path.iterdir()))
                continue
            if part.name == "best":
                yield path, _is_file(path) and path.name in _BEST
                continue
            ours = not path.is_symlink() and path.is_dir() and bool(re.fullmatch(r"step-\d{8}", _final(path.name)))
            yield path, ours
            if ours:
                for file in sorted(path.iterdir()):
                    yield file, _is_file(file) and file.name in _STEP


def _tensorboard(folder: Path) -> Iterator[Path]:
    """What the tracker of that name wrote, folders before what lies in them; wandb's records are not ours to remove."""
    if (folder / "tensorboard").is_dir():
        yield folder / "tensorboard"
        yield from (path for path, _ in _inside(folder / "tensorboard"))


def _is_file(path: Path) -> bool:
    return path.is_file() and not path.is_symlink()


def _is_event(path: Path) -> bool:
    return _is_file(path) and (path.name.startswith("events.out.tfevents.") or path.name == "hparams.yml")


def _final(name: str) -> str:
    """What a name becomes when its writer has finished."""
    unfinished = _TEMPORARY.fullmatch(name)
    return unfinished[1] if unfinished else name


def _things_in(folder: Path) -> list[str]:
    """Names in a folder, but for those that come by themselves and an args.json that was never finished."""
    names = sorted(p.name + ("/" if p.is_dir() else "") for p in folder.iterdir() if p.name not in _UNSEEN)
    return [n for n in names if not (_TEMPORARY.fullmatch(n) and _final(n) == "args.json")]


def _paths(sources: Any) -> Iterator[Path]:
    for source in sources:
        if isinstance(source, Mapping):
            yield from _paths(source.values())
        elif isinstance(source, (str, os.PathLike)) and os.fspath(source) not in BUILT_IN:
            path = Path(source).expanduser()
            if path.exists():
                yield path


def _some(names: list[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
