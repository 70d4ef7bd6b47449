"""Files that are either whole or not there: write beside the target, flush to disk, rename over it."""

from __future__ import annotations

import glob
import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_STALE_SECONDS = 24 * 3600
_TEMPORARY = re.compile(r"(.+)\.tmp-(\d+)-(\d+)")


def _temporary(path: Path) -> Path:
    return path.with_name(f"{path.name}.tmp-{os.getpid()}-{time.monotonic_ns()}")


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    """Remove what a crashed writer of the same target left behind (a living writer is younger than a day)."""
    for leftover in path.parent.glob(f"{path.name}.tmp-*"):
        try:
            if time.time() - leftover.stat().st_mtime > _STALE_SECONDS:
                _remove(leftover)
        except FileNotFoundError:
            continue


def clear_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove what writers of `path` left behind that are no more: this process, and those whose number nobody has.

    A number says nothing of other machines: only for files that nobody but the caller may be writing. A folder that had
    stepped aside for one that never took its place comes back.
    """
    target, found = Path(path), []
    for leftover in target.parent.glob(f"{glob.escape(target.name)}.tmp-*"):
        if (name := _TEMPORARY.fullmatch(leftover.name)) and not _is_alive(int(name[2])):
            found.append((int(name[3]), int(name[2]), leftover))
    found.sort()
    # The old folder is renamed after the new one is whole, by the same process.
    if len(found) > 1 and found[-1][1] == found[-2][1] and found[-1][2].is_dir() and not target.exists():
        os.replace(found.pop()[2], target)
    for *_, leftover in found:
        _remove(leftover)


def _is_alive(process: int) -> bool:
    """Whether another process of this machine has that number."""
    if process == os.getpid():
        return False
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def atomic_path(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary path in the target's folder that becomes `path` when the block ends without an error.

    The file is flushed to disk before the rename; on an error it is removed and the old `path` is untouched.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target)
    temporary = _temporary(target)
    try:
        yield temporary
        _sync(temporary)
        os.replace(temporary, target)
    except BaseException:
        _remove(temporary)
        raise


@contextmanager
def atomic_folder(path: str | os.PathLike[str]) -> Iterator[Path]:
    """A temporary folder that becomes `path` (replacing a folder of that name) when the block ends without an error."""
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    _remove_stale(target)
    temporary = _temporary(target)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.rglob("*"):
            if file.is_file():
                _sync(file)
        if target.exists():
            # A non-empty folder cannot be renamed over: the old one steps aside, and comes back if the swap fails.
            old = _temporary(target)
            os.replace(target, old)
            try:
                os.replace(temporary, target)
            except BaseException:
                os.replace(old, target)
                raise
            _remove(old)
        else:
            os.replace(temporary, target)
    except BaseException:
        _remove(temporary)
        raise


def write_bytes(path: str | os.PathLike[str], data: bytes) -> None:
    """Write `data` to `path` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | os.PathLike[str], text: str) -> None:
    """Write `text` to `path` atomically, as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def write_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write `value` to `path` atomically, as indented JSON with a newline at the end."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n")


def sha256_file(path: str | os.PathLike[str]) -> str:
    """SHA-256 of a file's bytes, in hex."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
