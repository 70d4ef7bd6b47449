"""Which path of a stitched network keeps to a budget, and is the best of those that do."""

import math
import operator
import warnings
from collections.abc import Iterable, Mapping, Sequence
from numbers import Real
from typing import Any, TypeGuard

from zoo.errors import BudgetError, UnknownStitchError
from zoo.models.stitching.costs import in_giga
from zoo.models.stitching.stitches import StitchConfig
from zoo.naming import did_you_mean

PREFER = ("top1", "flops")
#: Limits, and the attribute of a stitch that keeps to each.
LIMITS = {"flops": "flops", "macs": "macs", "params": "params", "latency_ms": "latency"}
_A_COST = 1e5  # no network has so many paths: what was meant is what a path costs


def best_stitch(stitches: Iterable[StitchConfig], limits: Mapping[str, Any], prefer: str = "top1") -> StitchConfig:
    """The best stitch within all limits.

    Args:
        stitches: with what they cost.
        limits: some of flops, macs, params and latency_ms (of a forward pass), each an upper bound; None for none.
        prefer: "top1" for the highest accuracy that is known, "flops" for the largest network; of equals the cheaper.

    Raises:
        BudgetError: none keeps to them; it names the cheapest.
        ValueError: no limit, one that is no positive number, one on what is not known, or another `prefer`.
    """
    given = {name: limit for name, limit in limits.items() if limit is not None}
    if not given:
        raise ValueError(f"a budget needs a limit: one of {', '.join(LIMITS)}, or several")
    for name, limit in given.items():
        if not is_number(limit) or not limit > 0:
            raise ValueError(f"{name} must be a positive number, got {limit!r}")
    if prefer not in PREFER:
        hint = did_you_mean(prefer, PREFER) or "."
        raise ValueError(f"prefer must be one of {', '.join(map(repr, PREFER))}, got {prefer!r}{hint}")
    known = [s for s in stitches if all(getattr(s, LIMITS[name]) is not None for name in given)]
    if not known:
        what = "latencies; profile_stitches(net) measures them" if "latency_ms" in given else "costs of the stitches"
        raise ValueError(f"a budget of {' and '.join(given)} needs what is not known here, the {what}")
    within = [s for s in known if all(getattr(s, LIMITS[name]) <= limit for name, limit in given.items())]
    if not within:
        raise BudgetError(_too_small(known, given))
    if prefer == "top1":
        rated = [s for s in within if s.top1 is not None]
        if rated:
            return min(rated, key=lambda s: (-(s.top1 or 0.0), *_price(s)))
        warnings.warn(
            "no accuracy is known of the stitches within the budget, so the largest of them is taken; set net.top1 "
            "to {id: accuracy}, or ask with prefer='flops'",
            stacklevel=3,
        )
    largest = max(s.flops or 0 for s in within)
    return min((s for s in within if (s.flops or 0) == largest), key=_price)


def accuracies(top1: Any, count: int) -> dict[int, float]:
    """Known accuracies by number of stitch, from a mapping with keys as JSON has them too; of None none.

    Raises:
        TypeError: no mapping.
        UnknownStitchError: a key that is no stitch of the network.
        ValueError: an accuracy that is no percentage.
    """
    if top1 is not None and not isinstance(top1, Mapping):
        only = "; 'published' is for the constructor's option" if top1 == "published" else ""
        raise TypeError(f"top1 is a mapping from numbers of stitches to accuracies in percent, got {top1!r}{only}")
    known = {}
    for key, value in (top1 or {}).items():
        number = number_of(int(key) if isinstance(key, str) and key.isdecimal() else key)
        if number is None or not 0 <= number < count:
            raise UnknownStitchError(f"top1 has the key {key!r}; stitches are 0 to {count - 1}")
        if not is_number(value) or not 0 <= value <= 100:
            raise ValueError(f"top1 of stitch {number} must be a percentage, got {value!r}")
        known[number] = float(value)
    return known


def is_number(given: object) -> TypeGuard[float]:
    """Whether it is a real number, also one of NumPy."""
    return isinstance(given, Real) and not isinstance(given, bool)


def number_of(given: object) -> int | None:
    """A whole number, also of NumPy, as Python's; None for anything else."""
    if type(given) is int:  # at every call of a network
        return given
    if isinstance(given, bool) or not hasattr(given, "__index__"):
        return None
    try:
        return operator.index(given)  # pyright: ignore[reportArgumentType]
    except TypeError:  # arrays have the method, and only some the number
        return None


def is_a_cost(number: object) -> bool:
    """Whether a number given for that of a stitch rather is what one may cost."""
    return is_number(number) and math.isfinite(number) and number >= _A_COST


def nearest_by_cost(stitches: Sequence[StitchConfig], flops: Any, count: int = 3) -> str:
    """Stitches that cost about as much, for an error; "" if costs are not known."""
    known = [s for s in stitches if s.usable and s.flops is not None]
    if flops is None or not known:
        return ""
    near = sorted(known, key=lambda s: abs((s.flops or 0) - flops))[:count]
    return ", ".join(f"{s.id} ({in_giga(s.flops or 0)})" for s in near)


def _price(stitch: StitchConfig) -> tuple[int | float, ...]:
    """What decides between equals."""
    return (stitch.flops or 0, stitch.params or 0, stitch.latency or 0.0, stitch.id)


def _too_small(stitches: Sequence[StitchConfig], limits: Mapping[str, int | float]) -> str:
    parts = []
    for name, limit in limits.items():
        cheapest = min(stitches, key=lambda s: (getattr(s, LIMITS[name]), s.id))
        parts.append(
            f"{name}={_written(limit)}: stitch {cheapest.id} is the cheapest, with "
            f"{_written(getattr(cheapest, LIMITS[name]))}"
        )
    return f"no stitch keeps to the budget of {'; of '.join(parts)}"


def _written(number: int | float) -> str:
    return f"{int(number):,}" if float(number).is_integer() else f"{number:,.4g}"
