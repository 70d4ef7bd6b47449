"""What may follow a data source's name: `labels.csv?label=dx&root=images`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from urllib.parse import parse_qsl

from zoo.errors import DataError
from zoo.naming import did_you_mean


def split_options(text: str, allowed: Sequence[str], also: Sequence[str] = ()) -> tuple[str, dict[str, str]]:
    """A source and its options.

    Args:
        text: the source, then `?` and `name=value` pairs joined by `&`; `%26` stands for `&` in a value.
        allowed: option names.
        also: names by which the source would have been read as another kind, to be offered for one that is unknown.

    Raises:
        DataError: an unknown option, one without a value, one given twice.
    """
    source, mark, rest = text.partition("?")
    if not mark or Path(text).exists():
        return text, {}
    try:
        pairs = parse_qsl(rest, strict_parsing=True)
    except ValueError:
        pairs = None
    if pairs is None or len(pairs) != rest.count("&") + 1:
        raise DataError(f"{text!r}: after '?' come options name=value, joined by '&'; got {rest!r}")
    options: dict[str, str] = {}
    for key, value in pairs:
        if key not in allowed:
            names = [*allowed, *also]
            known = f"{did_you_mean(key, names) or '.'} Accepted: {', '.join(names)}" if names else ""
            raise DataError(f"{source} takes no option {key!r}{known}")
        if key in options:
            raise DataError(f"{text!r} gives {key!r} twice")
        options[key] = value
    return source, options


def yes_or_no(options: dict[str, str], key: str) -> bool:
    """An option that is yes or no; no when it is not given.

    Raises:
        DataError: another word.
    """
    value = options.get(key, "no")
    if value not in ("yes", "no"):
        raise DataError(f"{key} must be yes or no, got {value!r}")
    return value == "yes"
