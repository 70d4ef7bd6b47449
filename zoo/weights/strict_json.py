"""JSON files from strangers: read with bounds, and nothing that two readers could understand differently.

Refused are files beyond a size, other encodings than UTF-8, keys that appear twice, NaN and infinity, numbers that no
64-bit type holds, characters that are no text, and nesting deeper than any description needs.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

from zoo.errors import ConfigError

#: A config.json of ten thousand described classes has one megabyte.
MAX_CONFIG_BYTES = 10_000_000
_MAX_DEPTH = 64
_SHOWN = 60
_MARKS = {b"\xef\xbb\xbf": "a UTF-8 byte order mark", b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16"}


def shorten(value: Any, limit: int = _SHOWN) -> str:
    """The repr of a value of any length, fit for a message."""
    # Slices first: the repr of something huge would be made only to be thrown away.
    if isinstance(value, str):
        return repr(value) if len(value) <= limit else f"{value[:limit]!r}… ({len(value):,} characters)"
    if isinstance(value, int) and not isinstance(value, bool) and value.bit_length() > 256:
        return f"a whole number of {value.bit_length():,} bits"
    if isinstance(value, list | tuple | dict) and len(value) > limit:
        return f"a {type(value).__name__} of {len(value):,} entries"
    text = repr(value)
    return cut(text, 2 * limit)


def cut(text: str, limit: int = 400) -> str:
    """The beginning of a text, fit for a message."""
    return text if len(text) <= limit else f"{text[:limit]}…"


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        seen: set[str] = set()
        twice = next(key for key, _ in pairs if key in seen or seen.add(key))
        raise ValueError(f"the key {shorten(twice)} appears twice")
    return result


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def _integer(text: str) -> int:
    if len(text) > 20 or not -(2**63) <= (value := int(text)) < 2**64:
        raise ValueError(f"the number {text[:25]}{'…' if len(text) > 25 else ''} does not fit into 64 bits")
    return value


def _number(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"the number {text[:25]} is beyond what a float holds")
    return value


def parse_json(text: str) -> Any:
    """Parse strictly.

    Raises:
        ValueError: what is wrong; for text that is not JSON, `json.JSONDecodeError` with line and column.
    """
    try:
        data = json.loads(
            text,
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_int=_integer,
            parse_float=_number,
        )
    except RecursionError:
        raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep") from None
    _check(data, escapes="\\u" in text)
    return data


def _check(data: Any, *, escapes: bool) -> None:
    """Refuse deep nesting and, where escapes may have made such characters, what is no text."""
    level, depth = [data], 0
    while level:
        depth += 1
        if depth > _MAX_DEPTH:
            raise ValueError(f"it is nested more than {_MAX_DEPTH} levels deep")
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                if escapes:
                    inner += value.keys()
                inner += value.values()
            elif isinstance(value, list):
                inner += value
            elif escapes and isinstance(value, str):
                _check_text(value)
        level = inner if escapes else [v for v in inner if isinstance(v, dict | list)]


def _check_text(value: str) -> None:
    if "\0" in value or any("\ud800" <= c <= "\udfff" for c in value):
        raise ValueError(f"the text {shorten(value)} holds characters that are no text (NUL, or half of a pair)")


def read_json(path: Path, where: str, *, limit: int = MAX_CONFIG_BYTES) -> Any:
    """The content of a JSON file.

    Args:
        path: the file.
        where: how messages name it.
        limit: the most bytes it may have.

    Raises:
        ConfigError: too large, not UTF-8, or not what `parse_json` takes; with line and column where it is not JSON.
        OSError: the file cannot be read.
    """
    with open(path, "rb") as file:
        raw = file.read(limit + 1)
    if len(raw) > limit:
        raise ConfigError(f"{where} has {path.stat().st_size:,} bytes; at most {limit:,} are read")
    for mark, name in _MARKS.items():
        if raw.startswith(mark):
            raise ConfigError(
                f"{where} begins with {name}, and timm would not read it: save it as UTF-8 without a mark"
            )
    try:
        text = raw.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ConfigError(f"{where} is not UTF-8 text: {error.reason} at byte {error.start:,}") from error
    try:
        return parse_json(text)
    except json.JSONDecodeError as error:
        raise ConfigError(
            f"{where} is not valid JSON: {error.msg} in line {error.lineno}, column {error.colno}"
        ) from error
    except ValueError as error:
        raise ConfigError(f"{where} is refused: {error}") from error
