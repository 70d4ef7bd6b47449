"""What the pictures share: their file, the names in them, and which of many are shown."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zoo.training.plots import save


def finish(figure: Any, path: str | Path | None) -> Any:
    """The figure, written to `path` if there is one.

    Raises:
        ValueError: another ending than .png.
    """
    if path is not None:
        if Path(path).suffix.lower() != ".png":
            raise ValueError(f"pictures are written as PNG, path must end in .png; got {str(path)!r}")
        save(figure, Path(path))
    return figure


def check_names(argument: str, names: Sequence[str] | None, count: int) -> None:
    """Refuse a list of names of another length.

    Raises:
        ValueError: not `count` names.
    """
    if names is not None and len(names) != count:
        raise ValueError(f"{argument} must be {count} names, got {len(names)}")


def picked(argument: str, indices: Sequence[int] | None, count: int, most: int) -> list[int]:
    """The indices, or the first `most` of `count` if None.

    Raises:
        ValueError: an index out of range, or none.
    """
    chosen = list(range(min(count, most))) if indices is None else [int(i) for i in indices]
    for index in chosen:
        if not 0 <= index < count:
            raise ValueError(f"{argument} must be in 0..{count - 1}, got {index}")
    if not chosen:
        raise ValueError(f"{argument} must name one at least of 0..{count - 1}")
    return chosen


def told_apart(names: Sequence[str], longest: int) -> list[str]:
    """Names that fit: long ones without the words that all of them begin with, then without their middle.

    Args:
        names: of the columns of one table, say.
        longest: characters of a name.
    """
    words = [name.split(" ") for name in names]
    common = 0
    if len(names) > 1 and max(map(len, names)) > longest:
        while all(len(parts) > common + 1 and parts[common] == words[0][common] for parts in words):
            common += 1
    rest = [" ".join(parts[common:]) for parts in words]
    tail = (longest - 1) // 2
    return [name if len(name) <= longest else f"{name[: longest - 1 - tail]}…{name[-tail:]}" for name in rest]
