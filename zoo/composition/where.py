"""`where`: which of a backbone's places are meant."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence
from typing import Any

from zoo.errors import UnsupportedSurgery
from zoo.naming import did_you_mean

_COUNTED = re.compile(r"(first|last):(\d+)")
_FORMS = "'all', 'first:k', 'last:k', an index or a list of indices, or a pattern on names such as 'blocks.[0-5].*'"


def is_pattern(where: Any) -> bool:
    """Whether `where` is a pattern on dotted names."""
    return isinstance(where, str) and where != "all" and _COUNTED.fullmatch(where) is None


def canonical_where(where: Any) -> str | list[int]:
    """`where` in its one JSON form.

    Raises:
        TypeError, ValueError: no form of it.
    """
    if isinstance(where, bool | bytes) or not isinstance(where, int | str | Sequence):
        raise TypeError(f"where must be {_FORMS}; got {where!r}")
    if isinstance(where, int):
        return [where]
    if isinstance(where, str):
        where = where.strip()
        word, colon, rest = where.partition(":")
        if not where or (colon and word in ("first", "last") and (not rest.isdigit() or int(rest) < 1)):
            raise ValueError(f"where must be {_FORMS}, k a whole number from 1; got {where!r}")
        if colon and word not in ("first", "last"):
            raise ValueError(
                f"where must be {_FORMS}; got {where!r}{did_you_mean(where, ['all', 'first:1', 'last:1'])}"
            )
        return f"{word}:{int(rest)}" if colon and word in ("first", "last") else where
    if not where or not all(isinstance(i, int) and not isinstance(i, bool) for i in where):
        raise ValueError(f"where must be {_FORMS}; got {list(where)!r}")
    return [int(i) for i in where]


def select(paths: Sequence[str], where: str | list[int], what: str) -> list[str]:
    """The paths that `where` means, in the order of the model.

    Args:
        paths: all there are.
        where: canonical.
        what: for messages, "mlp of resnet50".

    Raises:
        UnsupportedSurgery: nothing, or an index out of range.
    """
    count = len(paths)
    if isinstance(where, list):
        outside = [i for i in where if not -count <= i < count]
        if outside:
            raise UnsupportedSurgery(
                f"where={where} goes beyond the places for {what}: there are {count}, {_named(paths)}"
            )
        chosen = {i % count for i in where}
        return [path for i, path in enumerate(paths) if i in chosen]
    if where == "all":
        return list(paths)
    if found := _COUNTED.fullmatch(where):
        number = int(found[2])
        if number > count:
            raise UnsupportedSurgery(f"where={where!r} asks for {number} places for {what}: there are {count}")
        return list(paths[:number] if found[1] == "first" else paths[count - number :])
    chosen = [path for path in paths if fnmatch.fnmatchcase(path, where)]
    if not chosen:
        raise UnsupportedSurgery(
            f"where={where!r} selects nothing: the places for {what} are {_named(paths)}"
            f"{did_you_mean(where, ['all', *paths], 3)}"
        )
    return chosen


def _named(paths: Sequence[str]) -> str:
    shown = [repr(p) for p in paths]
    return ", ".join(shown if len(shown) <= 6 else [*shown[:3], "…", *shown[-2:]])
