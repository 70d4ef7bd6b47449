"""What the options of a Farhi-Neven network may be."""

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


def check_choice(argument: str, value: str, allowed: Collection[str]) -> str:
    """The value, if it is among those allowed.

    Raises:
        ValueError: it is not; with the nearest one.
    """
    if value not in allowed:
        choices = ", ".join(map(repr, allowed))
        raise ValueError(f"{argument} must be one of {choices}, got {value!r}{did_you_mean(str(value), allowed)}")
    return value
