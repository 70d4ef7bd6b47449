"""Errors of the readout: bits that are read wrong, and the probabilities with that undone."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor

#: Confusion matrices with a smaller determinant are not inverted.
_SINGULAR = 1e-6


@dataclass(frozen=True)
class ReadoutError:
    """Every bit is read wrong independently of the others.

    Args:
        p01: probability that a 0 is read as 1; one number for all wires, or one a wire.
        p10: probability that a 1 is read as 0; as `p01`, which is its default.

    Raises:
        ValueError: a probability outside [0, 1], or lists of unequal length.
        TypeError: something else than numbers.
    """

    p01: float | tuple[float, ...]
    p10: float | tuple[float, ...]

    def __init__(self, p01: float | Sequence[float], p10: float | Sequence[float] | None = None) -> None:
        object.__setattr__(self, "p01", _probabilities(p01))
        object.__setattr__(self, "p10", self.p01 if p10 is None else _probabilities(p10))
        lengths = {len(p) for p in (self.p01, self.p10) if isinstance(p, tuple)}
        if len(lengths) > 1:
            raise ValueError(f"p01 and p10 name unequal numbers of wires: {sorted(lengths)}")

    def check_wires(self, n: int) -> None:
        """Refuse a circuit of another number of wires than is named.

        Raises:
            ValueError: with both numbers.
        """
        for p in (self.p01, self.p10):
            if isinstance(p, tuple) and len(p) != n:
                raise ValueError(f"the readout error names {len(p)} wires, and the circuit has {n}")

    def confusion(self, wire: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """[[P(read 0 | 0), P(read 0 | 1)], [P(read 1 | 0), P(read 1 | 1)]] of a wire."""
        p01, p10 = _of_wire(self.p01, wire), _of_wire(self.p10, wire)
        return (1 - p01, p10), (p01, 1 - p10)

    def apply(self, probs: Float[Tensor, "*batch outcomes"], wires: Sequence[int]) -> Float[Tensor, "*batch outcomes"]:
        """Probabilities of what is read, from those of what is there.

        Args:
            probs: of the 2^k outcomes of k wires.
            wires: which wires these are, the most significant bit first.
        """
        return _on_each(probs, [self.confusion(wire) for wire in wires])

    def mitigate(
        self, probs: Float[Tensor, "*batch outcomes"], wires: Sequence[int]
    ) -> Float[Tensor, "*batch outcomes"]:
        """The inverse of `apply`: unbiased, sums to 1, but of measured frequencies some results may be negative.

        Raises:
            ValueError: if p01 + p10 of a wire is 1, so that its bit says nothing.
        """
        return _on_each(probs, [_inverse(self.confusion(wire), wire) for wire in wires])

    def misread(
        self, bits: Int[Tensor, "*shape wires"], wires: Sequence[int], generator: torch.Generator | None = None
    ) -> Int[Tensor, "*shape wires"]:
        """Bits as they are read: each flipped or not, drawn for itself.

        Args:
            bits: 0 or 1.
            wires: which wires the last axis has.
            generator: what draws.
        """
        flips = torch.tensor([(_of_wire(self.p01, w), _of_wire(self.p10, w)) for w in wires], device=bits.device)
        chance = torch.where(bits == 0, flips[:, 0], flips[:, 1])
        return bits ^ (torch.rand(bits.shape, device=bits.device, generator=generator) < chance).to(bits.dtype)

    def to_dict(self) -> dict[str, Any]:
        """The error as JSON holds it."""
        return {"p01": _listed(self.p01), "p10": _listed(self.p10)}


def _probabilities(p: float | Sequence[float]) -> float | tuple[float, ...]:
    if isinstance(p, Iterable) and not isinstance(p, str):
        return tuple(_probability(value) for value in p)
    return _probability(p)


def _probability(value: Any) -> float:
    if not isinstance(value, Real):
        raise TypeError(f"a readout error has a probability, or one a wire; got {value!r}")
    number = float(value)
    if not 0 <= number <= 1:
        raise ValueError(f"a probability of a readout error must lie in [0, 1], got {number}")
    return number


def _listed(p: float | tuple[float, ...]) -> float | list[float]:
    return list(p) if isinstance(p, tuple) else p


def _of_wire(p: float | tuple[float, ...], wire: int) -> float:
    if not isinstance(p, tuple):
        return p
    if wire >= len(p):
        raise ValueError(f"the readout error names {len(p)} wires; there is none for wire {wire}")
    return p[wire]


def _inverse(confusion: tuple[tuple[float, float], tuple[float, float]], wire: int) -> list[list[float]]:
    (a, b), (c, d) = confusion
    determinant = a * d - b * c
    if abs(determinant) < _SINGULAR:
        raise ValueError(f"the readout of wire {wire} cannot be undone: p01 + p10 is 1 (p01 {c}, p10 {b})")
    return [[d / determinant, -b / determinant], [-c / determinant, a / determinant]]


def _on_each(probs: Tensor, matrices: Sequence[Any]) -> Tensor:
    """One 2 x 2 matrix a bit."""
    if probs.shape[-1] != 2 ** len(matrices):
        raise ValueError(
            f"{len(matrices)} wires have {2 ** len(matrices)} outcomes, got {probs.shape[-1]} probabilities"
        )
    shape = probs.shape
    for bit, matrix in enumerate(matrices):
        table = torch.tensor(matrix, dtype=probs.dtype, device=probs.device)
        probs = table @ probs.reshape(*shape[:-1], 2**bit, 2, -1)
    return probs.reshape(shape)
