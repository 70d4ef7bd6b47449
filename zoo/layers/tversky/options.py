"""Names of the reductions and models, and what they may be."""

import math
from collections.abc import Collection

from zoo.naming import did_you_mean

SIMILARITIES = ("contrast", "ratio")
INTERSECTIONS = ("product", "min", "max", "mean", "gmean", "softmin")
DIFFERENCES = ("ignorematch", "substractmatch", "substractmatch_common")
MEMBERSHIPS = ("hard", "ste", "soft")
BACKENDS = ("auto", "reference", "compiled", "triton")
SCALARS = ("theta", "alpha", "beta")
# As people write it; the first spelling is that of the paper's library.
_ALIASES = {"subtractmatch": "substractmatch", "subtractmatch_common": "substractmatch_common"}


def check_choice(argument: str, value: str, allowed: Collection[str]) -> None:
    """Refuse an unknown name, with the nearest one.

    Raises:
        ValueError: the value is not among those allowed.
    """
    if value not in allowed:
        choices = ", ".join(map(repr, allowed))
        hint = did_you_mean(value, allowed) if isinstance(value, str) else ""
        raise ValueError(f"{argument} must be one of {choices}, got {value!r}{hint}")


def check_reductions(similarity: str, intersection: str, difference: str, per_feature: bool) -> str:
    """Check the names of a similarity together.

    Returns:
        The difference in its first spelling.

    Raises:
        ValueError: an unknown name, or a difference that needs `per_feature=True`.
    """
    check_choice("similarity", similarity, SIMILARITIES)
    check_choice("intersection", intersection, INTERSECTIONS)
    difference = _ALIASES.get(difference, difference)
    check_choice("difference", difference, DIFFERENCES)
    if difference == "substractmatch_common" and not per_feature:
        raise ValueError(
            "difference='substractmatch_common' compares feature by feature: it needs per_feature=True; with sums "
            "over features (per_feature=False) there are 'ignorematch' and 'substractmatch'"
        )
    return difference


def check_size(argument: str, value: int) -> None:
    """Refuse what is no integer of at least 1.

    Raises:
        ValueError: a number below 1.
        TypeError: no integer.
    """
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{argument} must be an integer of at least 1, got {value!r}")
    if value < 1:
        raise ValueError(f"{argument} must be an integer of at least 1, got {value}")


def scale_factor(scale: float | str | None, num_features: int) -> float:
    """The constant factor of a similarity: a number, 1 for None, 1 / sqrt(F) for "rsqrt_features".

    Raises:
        ValueError: another word, 0, or a number that is not finite.
        TypeError: neither a number nor a word.
    """
    if scale is None:
        return 1.0
    if isinstance(scale, str):
        check_choice("scale", scale, ("rsqrt_features",))
        return 1 / math.sqrt(num_features)
    if isinstance(scale, bool) or not isinstance(scale, int | float):
        raise TypeError(f"scale must be a number other than 0, 'rsqrt_features' or None, got {scale!r}")
    if not math.isfinite(scale) or scale == 0:
        raise ValueError(f"scale must be a number other than 0, 'rsqrt_features' or None, got {scale}")
    return float(scale)
