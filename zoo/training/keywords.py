"""Unknown keywords of a function with many: an error that names the near ones."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from zoo.naming import check_keywords

P = ParamSpec("P")
R = TypeVar("R")


def known_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a function: a keyword that it does not take is a TypeError with near names."""
    allowed = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        check_keywords(kwargs, allowed, f"zoo.{function.__name__}")
        return function(*args, **kwargs)

    return call
