"""What the options of a KAN layer may be."""

import math
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import torch
from torch import Tensor, nn

from zoo.eager import autocasts
from zoo.naming import did_you_mean

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "silu": nn.SiLU,
    "gelu": nn.GELU,
    "relu": nn.ReLU,
    "elu": nn.ELU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
    "identity": nn.Identity,
}


def check_choice(argument: str, value: str, allowed: Collection[str]) -> str:
    """The value, if it is among those allowed.

    Raises:
        ValueError: it is not; with the nearest one.
    """
    if value not in allowed:
        choices = ", ".join(map(repr, allowed))
        raise ValueError(f"{argument} must be one of {choices}, got {value!r}{did_you_mean(value, allowed)}")
    return value


def check_count(argument: str, value: Any, most: int | None = None, least: int = 1) -> int:
    """The value, if it is an integer between `least` and `most`.

    Raises:
        TypeError, ValueError: it is not.
    """
    limits = f"of at least {least}" if most is None else f"from {least} to {most}"
    if isinstance(value, bool) or not isinstance(value, Integral):  # NumPy's integers too
        raise TypeError(f"{argument} must be an integer {limits}, got {value!r}")
    count = int(value)
    if count < least or (most is not None and count > most):
        raise ValueError(f"{argument} must be an integer {limits}, got {count}")
    return count


def check_range(grid_range: tuple[float, float]) -> tuple[float, float]:
    """The range as two floats.

    Raises:
        ValueError: not two finite numbers, the first below the second.
    """
    try:
        low, high = map(float, grid_range)
    except (TypeError, ValueError):
        raise ValueError(f"grid_range must be (low, high), two numbers, got {grid_range!r}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise ValueError(f"grid_range must be (low, high), finite and with low < high, got {(low, high)}")
    return low, high


def check_positive(argument: str, value: Any) -> float:
    """The value, if it is a finite number above 0.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not (math.isfinite(value) and float(value) > 0):
        raise ValueError(f"{argument} must be a finite number greater than 0, got {value!r}")
    return float(value)


def check_nonnegative(argument: str, value: Any) -> float:
    """The value, if it is a finite number of at least 0.

    Raises:
        ValueError: it is not.
    """
    if isinstance(value, bool) or not isinstance(value, Real) or not (math.isfinite(value) and float(value) >= 0):
        raise ValueError(f"{argument} must be a finite number of at least 0, got {value!r}")
    return float(value)


def as_activation(argument: str, value: Any) -> nn.Module | None:
    """The activation of a name; a module or None as it is.

    Raises:
        ValueError: an unknown name.
        TypeError: neither a name nor a module.
    """
    if value is None or isinstance(value, nn.Module):
        return value
    if not isinstance(value, str):
        raise TypeError(f"{argument} must be a name, a module or None, got {value!r}")
    return ACTIVATIONS[check_choice(argument, value, ACTIVATIONS)]()


def check_dtype(dtype: torch.dtype | None) -> torch.dtype | None:
    """The type, if parameters can have it.

    Raises:
        TypeError: it is not floating.
    """
    if dtype is not None and not dtype.is_floating_point:
        raise TypeError(f"dtype must be a floating type, got {dtype}")
    return dtype


def check_same_dtype(x: Tensor, weight: Tensor) -> None:
    """Refuse an input of another type than the weight, unless autocast chooses the type.

    Raises:
        TypeError: the types differ.
    """
    if x.dtype != weight.dtype and not autocasts(x):
        raise TypeError(f"x is {x.dtype}, the layer {weight.dtype}: x.to({weight.dtype}) or layer.to({x.dtype})")


def check_input(x: Tensor, in_features: int) -> None:
    """Refuse what the layer cannot expand.

    Raises:
        TypeError: no tensor, or of no floating type.
        ValueError: another width.
    """
    if not isinstance(x, Tensor):
        raise TypeError(f"x must be a tensor, got {type(x).__name__}; torch.as_tensor(x) makes one")
    if not x.is_floating_point():
        raise TypeError(f"x must be of a floating type, got {x.dtype}; x.float() makes it one")
    if x.ndim == 0 or x.shape[-1] != in_features:
        raise ValueError(
            f"the last dimension of x must be in_features = {in_features}, got {x.shape[-1] if x.ndim else 'a number'} "
            f"(x has the shape {tuple(x.shape)})"
        )
