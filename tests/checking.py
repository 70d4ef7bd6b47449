"""The checker of annotations in the test session: beartype, which builds a check once for all closures of a function.

The import hook decorates a function inside a function whenever the outer one is called. What beartype is given then is
a function that has the signature alone, so that the check built for the first serves all that are annotated alike.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

from beartype import beartype

_built: dict[Hashable, Callable[..., Any]] = {}


def checked(function: Callable[..., Any]) -> Callable[..., Any]:
    """`function` with its annotations checked; it must do nothing but give back what it is given."""
    if "<locals>" not in function.__qualname__:
        return beartype(function)
    code = function.__code__
    counts = code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags
    signature = (code.co_varnames, counts, tuple(function.__annotations__.items()))
    key = (function.__module__, function.__qualname__, code.co_code, signature)
    try:
        found = _built.get(key)
    except TypeError:  # an annotation without a hash
        return beartype(function)
    if found is None:
        found = _built[key] = beartype(function)
    return found
