"""A full disk, told from other failures and in words."""

from __future__ import annotations

import errno
import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor

from zoo.errors import DiskFullError

_FULL = {errno.ENOSPC, errno.EFBIG, errno.EDQUOT}


@contextmanager
def explained_disk(
    path: Path, size: int, remedy: str = "Make room, or take an out (--out) on another disk"
) -> Iterator[None]:
    """Turn the errors of a full disk, a quota or a limit on file sizes into one that says what is missing.

    Args:
        path: what is being written.
        size: bytes that it takes.
        remedy: what the reader can do; a limit on file sizes is not raised by making room, and names the disk alone.

    Raises:
        DiskFullError: with `path`, `size` and what is free there.
    """
    try:
        yield
    except (OSError, SafetensorError) as error:
        number = _number(error)
        if number not in _FULL:
            raise
        what = f"takes {in_words(size)}" + ("" if number == errno.EFBIG else f", {in_words(_free(path))} are free")
        if number == errno.EFBIG:
            remedy = "Raise the limit (ulimit -f), or take an out (--out) on another disk"
        raise DiskFullError(f"cannot write {path} ({_REASON[number]}): it {what}. {remedy}") from error


_REASON = {
    errno.ENOSPC: "the disk is full",
    errno.EDQUOT: "the quota is used up",
    errno.EFBIG: "a file may not be that large here",
}


def tensor_bytes(*groups: Mapping[str, Tensor] | None) -> int:
    """Bytes that state dicts take on a disk."""
    return sum(t.numel() * t.element_size() for group in groups for t in (group or {}).values())


def in_words(size: int) -> str:
    """1234567 as `1.2 MiB`."""
    value, unit = float(size), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} B" if unit == "B" else f"{value:.1f} {unit}"


def _number(error: Exception) -> int | None:
    """The system's number of an error; safetensors gives it in its text alone."""
    if isinstance(error, OSError):
        return error.errno
    found = re.search(r"\(os error (\d+)\)", str(error))
    return int(found[1]) if found else None


def _free(path: Path) -> int:
    place = next(p for p in (path, *path.absolute().parents) if p.exists())
    return shutil.disk_usage(place).free
