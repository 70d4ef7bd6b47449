"""What the pictures share: their file, and the names in them."""

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
