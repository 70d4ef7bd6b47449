"""A table from method and path to a handler, `handler(hub, request, *segments) -> Answer or JSON value`."""

import re
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

_SEGMENTS = {"repo": r"([^/]+/[^/]+?)", "path": r"(.+)"}


class Routes:
    def __init__(self) -> None:
        self.table: list[tuple[str, re.Pattern[str], Callable[..., Any]]] = []

    def __call__(self, method: str, pattern: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """`{repo}` matches two segments, `{path}` the rest, any other name one segment."""
        regex = re.sub(r"\{(\w+)\}", lambda match: _SEGMENTS.get(match[1], r"([^/]+)"), pattern.replace(".", r"\."))

        def add(handler: Callable[..., Any]) -> Callable[..., Any]:
            self.table.append((method, re.compile(regex), handler))
            return handler

        return add

    def find(self, method: str, raw_path: str) -> tuple[Callable[..., Any], list[str]] | None:
        # Segments are decoded after matching: an encoded slash belongs to its segment.
        method = "GET" if method == "HEAD" else method
        for known, regex, handler in self.table:
            if known == method and (match := regex.fullmatch(raw_path)):
                return handler, [unquote(group) for group in match.groups()]
        return None
