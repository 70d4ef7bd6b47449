"""Names: natural order, near misses, and the check of keyword names."""

from __future__ import annotations

import difflib
import functools
import inspect
import re
from collections.abc import Callable, Iterable
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def natural_key(name: str) -> list[tuple[int, int | str]]:
    """Sort key that orders numbers inside names by value: resnet18 before resnet101."""
    return [(0, int(part)) if part.isdigit() else (1, part) for part in re.split(r"(\d+)", name.lower()) if part]


def _similarity(wanted: str, candidate: str) -> float:
    """Edit-distance ratio, raised for a common prefix and for shared name parts."""
    ratio = difflib.SequenceMatcher(None, wanted, candidate).ratio()
    parts = set(re.split(r"[._\-/]", wanted)) - {""}
    shared = len(parts & set(re.split(r"[._\-/]", candidate))) / max(len(parts), 1)
    prefix = 0.05 if wanted[:3] == candidate[:3] else 0.0
    return ratio + 0.25 * shared + prefix


def near_names(name: str, candidates: Iterable[str], limit: int = 5) -> list[str]:
    """The candidates most like `name`, best first; case is ignored.

    Args:
        name: what was asked for.
        candidates: what exists.
        limit: the most names returned.
    """
    wanted = name.lower()
    pool = sorted(set(candidates))
    lowered = {c: c.lower() for c in pool}
    # quick_ratio is an upper bound of ratio: it keeps 1,800 names affordable.
    matcher = difflib.SequenceMatcher(None)
    matcher.set_seq2(wanted)
    close = []
    for candidate in pool:
        low = lowered[candidate]
        matcher.set_seq1(low)
        if wanted in low or low in wanted or (matcher.real_quick_ratio() > 0.6 and matcher.quick_ratio() > 0.6):
            close.append(candidate)
    ranked = sorted(close, key=lambda c: (-_similarity(wanted, lowered[c]), len(c), c))
    return [c for c in ranked if _similarity(wanted, lowered[c]) > 0.6][:limit]


def did_you_mean(name: str, candidates: Iterable[str], limit: int = 5) -> str:
    """`"; did you mean 'a', 'b'?"`, or an empty string when nothing is near."""
    names = near_names(name, candidates, limit)
    return f"; did you mean {', '.join(repr(n) for n in names)}?" if names else ""


def check_keywords(given: Iterable[str], allowed: Iterable[str], owner: str) -> None:
    """Refuse keywords that `owner` does not take.

    Raises:
        TypeError: naming the keyword, near names and everything that is accepted.
    """
    accepted = sorted(set(allowed))
    for key in given:
        if key not in accepted:
            hint = did_you_mean(key, accepted) or "."
            raise TypeError(f"{owner} takes no argument {key!r}{hint} Accepted: {', '.join(accepted)}")


def known_keywords(function: Callable[P, R]) -> Callable[P, R]:
    """Decorate a public function: a keyword that it does not take is a TypeError with near names."""
    allowed = list(inspect.signature(function).parameters)

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        check_keywords(kwargs, allowed, f"zoo.{function.__name__}")
        return function(*args, **kwargs)

    return call
