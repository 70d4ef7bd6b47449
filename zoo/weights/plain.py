"""Objects as the plain data that describes them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def as_plain(value: Any) -> Any:
    """The value with every object that has `to_dict()`, at any depth, as what that gives; all else as it is.

    So a tokenizer, a circuit or a model of noise may be an argument of a model, and is saved with it: whoever takes one
    takes what its `to_dict()` gives, too.
    """
    if isinstance(value, Mapping):
        return {key: as_plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [as_plain(inner) for inner in value]
    if not isinstance(value, type) and callable(made := getattr(value, "to_dict", None)):
        return as_plain(made())
    return value
