"""What the options of a Farhi-Neven network may be."""

import math
from collections.abc import Collection, Sequence
from functools import lru_cache

import torch

from zoo.naming import did_you_mean
from zoo.quantum.farhi_neven import branches
from zoo.quantum.farhi_neven.branches import PAULIS, find_branches

METHODS = ("auto", "closed", "branches", "statevector")
LOSSES = ("linear", "hinge")


def resolved_method(method: str, layers: tuple[str, ...], readout_init: str, observable: str) -> str:
    """The method that is used: "closed", "branches" or "statevector".

    Raises:
        ValueError: the one asked for cannot take the layers.
    """
    if method == "statevector":
        return method
    try:
        found = find_branches(layers, readout_init, observable)
    except ValueError:
        if method == "auto":
            return "statevector"
        raise
    pairs = len(found.left)
    if method == "closed" and pairs > 1:
        raise ValueError(
            f"method='closed' takes layers with one pair of branches, {', '.join(layers)} have {pairs}; "
            "method='branches' sums them"
        )
    return "closed" if pairs == 1 else "branches"


@lru_cache(maxsize=256)
def _is_constant(layers: tuple[str, ...], readout_init: str, observable: str) -> bool:
    """Whether all inputs have the same prediction, whatever the angles: tried at angles that nothing singles out."""
    try:
        found = find_branches(layers, readout_init, observable)
    except ValueError:
        return False
    theta = torch.rand(len(layers), 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64, device="cpu")
    amplitudes, phases = branches.amplitudes_and_phases(theta, layers, found.signs, found.left, found.right)
    every = torch.cartesian_prod(*[torch.tensor([1.0, -1.0], dtype=torch.float64, device="cpu")] * 3)
    y = (found.coefficients * torch.polar(amplitudes.expand(8, -1), every @ phases.T)).real.sum(1)
    return float(y.max() - y.min()) < 1e-9


def refuse_constant(layers: tuple[str, ...], readout_init: str, observable: str) -> None:
    """Refuse layers of which nothing can be learned.

    Raises:
        ValueError: with options that see the input.
    """
    if _is_constant(layers, readout_init, observable):
        raise ValueError(
            f"with readout_init={readout_init!r} and observable={observable!r} the layers {', '.join(layers)} give the "
            "same prediction for every input, whatever the angles; ZX and XX layers go with '0' and 'Y', XX and ZZ "
            "layers with readout_init='-' and observable='X'"
        )


def checked_layers(layers: Sequence[str]) -> tuple[str, ...]:
    """The layers as words of two capital letters.

    Raises:
        ValueError: a word that is none, or no layer at all.
    """
    words = [layers] if isinstance(layers, str) else list(layers)
    for word in words:
        if not isinstance(word, str) or len(word) != 2 or not set(word.upper()) <= set(PAULIS):
            raise ValueError(
                f"a layer is two of the letters X, Y and Z, of the data qubits and of the readout, such as 'ZX'; "
                f"got {word!r}"
            )
    if not words:
        raise ValueError("layers must have one layer at least, such as ['ZX', 'XX']")
    return tuple(word.upper() for word in words)


def checked_init(init: Sequence[float] | None, n_data: int) -> tuple[float, float]:
    """The limits between which angles are drawn; -0.5 / n_data and 0.5 / n_data for None.

    Raises:
        ValueError: no two finite numbers, the lower one first.
    """
    if init is None:
        return -0.5 / n_data, 0.5 / n_data
    try:
        low, high = map(float, init)
    except (TypeError, ValueError):
        low = high = math.nan
    if isinstance(init, str) or not -math.inf < low <= high < math.inf:
        raise ValueError(f"init must be two limits, low and high, such as (-0.1, 0.1), or None, got {init!r}")
    return low, high


def checked_scale(angle_scale: float) -> float:
    """The factor of the angles.

    Raises:
        ValueError: 0, or no finite number.
    """
    if not isinstance(angle_scale, int | float) or not math.isfinite(angle_scale) or not angle_scale:
        raise ValueError(f"angle_scale must be a finite number other than 0, got {angle_scale!r}")
    return angle_scale


def check_real(dtype: torch.dtype | None) -> None:
    """Refuse a type in which there are no real angles.

    Raises:
        TypeError: a complex type, one of whole numbers, or none at all.
    """
    if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
        raise TypeError(f"angles are real: dtype must be torch.float32, torch.float64 or the like, got {dtype!r}")


def check_choice(argument: str, value: str, allowed: Collection[str]) -> str:
    """The value, if it is among those allowed.

    Raises:
        ValueError: it is not; with the nearest one.
    """
    if value not in allowed:
        choices = ", ".join(map(repr, allowed))
        raise ValueError(f"{argument} must be one of {choices}, got {value!r}{did_you_mean(str(value), allowed)}")
    return value
