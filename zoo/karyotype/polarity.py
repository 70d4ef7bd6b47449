"""Polarity as people write it: whether the short arm of a chromosome points up or down."""

from __future__ import annotations

from typing import Any

#: What stands for a polarity that is not known.
UNKNOWN = -1
_WORDS = {"up": 0, "short arm up": 0, "0": 0, "down": 1, "short arm down": 1, "1": 1}
_NOT_KNOWN = ("", "-1", "unknown", "?", "nan", "none")


def polarity_number(value: Any, where: str) -> int:
    """0 for up, 1 for down, -1 for nothing, ? and the like.

    Args:
        value: a word or a number, as tables have them.
        where: what begins an error.

    Raises:
        ValueError: another word.
    """
    text = "" if value is None else str(value).strip().lower().removesuffix(".0")
    if text in _NOT_KNOWN:
        return UNKNOWN
    if text not in _WORDS:
        raise ValueError(f"{where} has the polarity {value!r}; it is up or 0, down or 1, or empty")
    return _WORDS[text]
