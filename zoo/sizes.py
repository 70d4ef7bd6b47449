"""Sizes in bytes, as people write them."""

from __future__ import annotations

import math
import numbers
import re
from typing import Any

_UNITS = {"B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12}
_UNITS |= {"KIB": 2**10, "MIB": 2**20, "GIB": 2**30, "TIB": 2**40}


def byte_count(size: Any, name: str) -> int:
    """A size in bytes: a number, also as text, or `"500MB"`, `"5GB"` (powers of 1000) or `"4 GiB"` (powers of 1024).

    Units are known in capitals and in small letters.

    Args:
        size: as given.
        name: of the argument, for messages.

    Raises:
        ValueError: no size, or not above 0.
        TypeError: neither a whole number nor a text.
    """
    whole = isinstance(size, numbers.Integral) or (isinstance(size, float) and size.is_integer())
    if isinstance(size, bool) or not (whole or isinstance(size, str)):
        raise TypeError(f"{name} is a number of bytes or a text such as '5GB', got {size!r}")
    count = size
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(?:(-?\d+)|(-?\d+(?:\.\d+)?)\s*([KMGT]?I?B))\s*", size.upper())
        if match is None or (match[3] and match[3] not in _UNITS):
            raise ValueError(f"{name}={size!r} is no size: write '500MB', '5GB' or '4GiB', or a number of bytes")
        count = int(match[1]) if match[1] else int(float(match[2]) * _UNITS[match[3]])
    if int(count) <= 0:
        raise ValueError(f"{name} must be above 0, got {size!r}")
    return int(count)


def in_words(size: float | int) -> str:
    """1234567 as `1.3 MB`: rounded up, so that what is said to be needed is enough."""
    for unit in ("GB", "MB", "KB"):
        if size >= _UNITS[unit]:
            return f"{math.ceil(size / _UNITS[unit] * 10) / 10:g} {unit.replace('K', 'k')}"
    return f"{math.ceil(size)} bytes"
