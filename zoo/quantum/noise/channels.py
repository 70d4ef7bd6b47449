"""Noise channels by their Kraus operators: ρ → Σ_k K_k ρ K_k†, with Σ_k K_k† K_k = 1."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any

import torch
from jaxtyping import Complex
from torch import Tensor

from zoo.eager import must_compose
from zoo.naming import did_you_mean
from zoo.quantum.gates import PAULIS, complex_type, real_type

Rows = tuple[tuple[complex, ...], ...]

#: Largest entry of Σ K†K - 1 that is taken for rounding; own operators may come from float32.
_COMPLETE = 1e-5


@dataclass(frozen=True)
class Channel:
    """A channel on one wire or several; hashable, and JSON-able by `to_dict`.

    Args:
        name: a key of `CHANNELS`, or "kraus" for operators of one's own.
        p: the probability of a named channel.
        operators: Kraus operators as nested tuples of complex numbers, for "kraus".

    Raises:
        ValueError: unknown name, p outside [0, 1], operators that are no channel.
        TypeError: p is no number.
    """

    name: str
    p: float | None = None
    operators: tuple[Rows, ...] = ()

    def __post_init__(self) -> None:
        if self.name == "kraus":
            _check_operators(self.operators)
        elif self.name not in CHANNELS:
            known = [*CHANNELS, "kraus"]
            raise ValueError(
                f"unknown channel {self.name!r}{did_you_mean(self.name, known)}; there are {', '.join(known)}"
            )
        elif not isinstance(self.p, Real):
            raise TypeError(f"channel {self.name!r} takes a probability, such as 0.01; got {self.p!r}")
        elif not 0 <= self.p <= 1:
            raise ValueError(f"the probability of channel {self.name!r} must lie in [0, 1], got {self.p}")

    @property
    def n_wires(self) -> int:
        """Wires that it acts on."""
        return (len(self.operators[0]) - 1).bit_length() if self.operators else 1

    def kraus(
        self, dtype: torch.dtype = torch.complex128, device: torch.device | str | None = None
    ) -> Complex[Tensor, "branches dim dim"]:
        """The operators as one tensor."""
        if self.operators:
            return torch.tensor(self.operators, dtype=dtype, device=device)
        return kraus_of(self.name, torch.tensor(self.p, dtype=real_type(dtype), device=device))

    def to_dict(self) -> dict[str, Any]:
        """The channel as JSON holds it; complex numbers are [real, imaginary]."""
        if self.name != "kraus":
            return {"name": self.name, "p": self.p}
        numbers = [[[[z.real, z.imag] for z in map(complex, row)] for row in rows] for rows in self.operators]
        return {"name": self.name, "operators": numbers}

    @staticmethod
    def from_dict(fields: dict[str, Any]) -> "Channel":
        """The channel that `to_dict` wrote."""
        if fields["name"] != "kraus":
            return Channel(fields["name"], fields.get("p"))
        return make_channel([[[complex(*z) for z in row] for row in rows] for rows in fields["operators"]])


def make_channel(kind: "str | Channel | Tensor | Sequence[Any]", p: float | None = None) -> Channel:
    """A channel of a name and a probability, or of Kraus operators of one's own.

    Args:
        kind: a key of `CHANNELS`; or square matrices of equal size, as a tensor (K, d, d), a list of matrices or
            nested lists; or a `Channel`, which is returned.
        p: probability, for a name only.

    Raises:
        ValueError: as `Channel`; or a probability beside operators.
    """
    if isinstance(kind, str):
        return Channel(kind, p)
    if p is not None:
        raise ValueError(f"a probability goes with the name of a channel; got p={p} beside operators")
    if isinstance(kind, Channel):
        return kind
    matrices = [torch.as_tensor(matrix, dtype=torch.complex128, device="cpu") for matrix in kind]
    if wrong := [tuple(matrix.shape) for matrix in matrices if matrix.dim() != 2]:
        raise ValueError(f"Kraus operators are square matrices, got one of shape {wrong[0]}")
    return Channel("kraus", None, tuple(tuple(tuple(row) for row in matrix.tolist()) for matrix in matrices))


def _check_operators(operators: tuple[Rows, ...]) -> None:
    if not operators:
        raise ValueError("a channel needs at least one Kraus operator")
    dim = len(operators[0])
    if dim < 2 or dim & (dim - 1) or any(len(rows) != dim or {len(row) for row in rows} != {dim} for rows in operators):
        shapes = sorted({(len(rows), *{len(row) for row in rows}) for rows in operators})
        raise ValueError(f"Kraus operators are square matrices of one size, a power of two; got {shapes}")
    kraus = torch.tensor(operators, dtype=torch.complex128, device="cpu")
    deviation = float(((kraus.mH @ kraus).sum(0) - torch.eye(dim, device="cpu")).abs().max())
    if not deviation <= _COMPLETE:
        raise ValueError(
            f"Kraus operators must satisfy Σ K†K = 1; these deviate by {deviation:.2g} (allowed {_COMPLETE:g})"
        )


def kraus_of(name: str, p: Tensor) -> Complex[Tensor, "*batch branches 2 2"]:
    """Kraus operators of a named channel on one wire; differentiable in p inside (0, 1).

    Args:
        name: a key of `CHANNELS`.
        p: probabilities (*batch).

    Raises:
        ValueError: unknown name; a probability outside [0, 1].
    """
    if name not in CHANNELS:
        raise ValueError(f"unknown channel {name!r}{did_you_mean(name, CHANNELS)}; there are {', '.join(CHANNELS)}")
    if not (must_compose(p) or bool(((p >= 0) & (p <= 1)).all())):
        raise ValueError(f"the probability of channel {name!r} must lie in [0, 1], got {p.detach().tolist()}")
    return torch.stack([_entries(p, rows) for rows in CHANNELS[name](p, 1 - p)], dim=-3)


def _entries(p: Tensor, rows: "list[list[Any]]") -> Tensor:
    dtype = complex_type(p.dtype)
    cells = [torch.as_tensor(entry, dtype=dtype, device=p.device).expand(p.shape) for row in rows for entry in row]
    return torch.stack(cells, dim=-1).reshape(*p.shape, 2, 2)


def _flip(stays: Tensor, flips: Tensor, pauli: str) -> "list[list[list[Any]]]":
    return [_times(stays.sqrt(), "i"), _times(flips.sqrt(), pauli)]


def _times(factor: Tensor, pauli: str) -> "list[list[Any]]":
    return [[factor * entry for entry in row] for row in PAULIS[pauli]]


#: Name -> Kraus operators of probability p, given with q = 1 - p; all act on one wire.
CHANNELS: "dict[str, Callable[[Tensor, Tensor], list[list[list[Any]]]]]" = {
    "depolarizing": lambda p, q: [_times(q.sqrt(), "i"), *(_times((p / 3).sqrt(), pauli) for pauli in "xyz")],
    "amplitude_damping": lambda p, q: [[[1, 0], [0, q.sqrt()]], [[0, p.sqrt()], [0, 0]]],
    "phase_damping": lambda p, q: [[[1, 0], [0, q.sqrt()]], [[0, 0], [0, p.sqrt()]]],
    "bit_flip": lambda p, q: _flip(q, p, "x"),
    "phase_flip": lambda p, q: _flip(q, p, "z"),
}
