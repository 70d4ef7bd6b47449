"""What is measured: combinations of Pauli words, projectors on bit strings, Hermitian matrices on few wires."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

from zoo.quantum.integers import Wires, as_wires
from zoo.quantum.kept import Kept
from zoo.quantum.paulis import PauliSum, PauliWord, parse_pauli_sum

MAX_HERMITIAN_WIRES = 10
_TOLERANCE = 1e-5
_READ, _SQUARES = Kept(256), Kept(256)
_PROJECTOR = re.compile(r"\|([01]+)>\s*(?:@?\s*\[?\s*(\d+(?:[\s,]+\d+)*)\s*\]?)?")


@dataclass(frozen=True)
class Projector:
    """1 where the wires read `bits`, else 0: its expectation is the probability of that outcome.

    Args:
        bits: such as "01".
        wires: a wire a bit.
    """

    bits: str
    wires: tuple[int, ...]

    def __post_init__(self) -> None:
        object.__setattr__(self, "wires", as_wires(self.wires))
        if not self.bits or set(self.bits) - {"0", "1"}:
            raise ValueError(f"the bits of a projector are 0 and 1, got {self.bits!r}")
        if len(self.bits) != len(self.wires):
            raise ValueError(f"a projector has a bit a wire, got {self.bits!r} on wires {self.wires}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it; `Projector.from_dict` reads it."""
        return {"bits": self.bits, "wires": list(self.wires)}

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> "Projector":
        """The projector that `to_dict` wrote."""
        return Projector(record["bits"], as_wires(record["wires"]))

    def __str__(self) -> str:
        return f"|{self.bits}> {', '.join(map(str, self.wires))}"


class Hermitian:
    """A Hermitian matrix on at most 10 wires.

    Args:
        matrix: (2^k, 2^k), real or complex; kept as complex128.
        wires: k distinct wires, the first the most significant bit; one may be a number.

    Raises:
        ValueError: another shape, more wires, or a matrix that is not Hermitian (with its deviation).
    """

    def __init__(self, matrix: Any, wires: Wires):
        self.wires = as_wires(wires)
        if not 1 <= len(self.wires) <= MAX_HERMITIAN_WIRES:
            raise ValueError(f"a Hermitian matrix acts on 1 to {MAX_HERMITIAN_WIRES} wires, got {len(self.wires)}")
        self.matrix = torch.as_tensor(matrix, device="cpu").detach().to(torch.complex128)
        d = 2 ** len(self.wires)
        if tuple(self.matrix.shape) != (d, d):
            raise ValueError(f"an observable on {len(self.wires)} wires is ({d}, {d}), got {tuple(self.matrix.shape)}")
        deviation = (self.matrix - self.matrix.mH).abs().max().item()
        if not deviation <= _TOLERANCE:
            raise ValueError(f"the matrix is not Hermitian: max|A - A^H| = {deviation:.3g}, allowed {_TOLERANCE:g}")

    def to_dict(self) -> dict[str, Any]:
        """As JSON holds it, complex numbers as [real, imaginary]; `Hermitian.from_dict` reads it."""
        return {"matrix": torch.view_as_real(self.matrix).tolist(), "wires": list(self.wires)}

    @staticmethod
    def from_dict(record: Mapping[str, Any]) -> "Hermitian":
        """The observable that `to_dict` wrote."""
        return Hermitian([[complex(*number) for number in row] for row in record["matrix"]], record["wires"])

    def __str__(self) -> str:
        return f"Hermitian on {', '.join(map(str, self.wires))}"


Observable = PauliSum | Projector | Hermitian


def state_of(wires: Sequence[int]) -> Projector:
    """What depends on the same as the state of some wires does."""
    return Projector("0" * len(wires), tuple(wires))


def squared(observable: Observable) -> Observable:
    """The square of an observable; kept, as a matrix is equal to itself alone."""
    return getattr(_SQUARES, _square(observable))


def _square(observable: Observable) -> str:
    """Square an observable unless its square is kept; the name of that."""
    return _SQUARES.name(observable, lambda: _squared(observable))


def _squared(observable: Observable) -> Observable:
    if isinstance(observable, PauliSum):
        return observable.squared()
    if isinstance(observable, Projector):
        return observable
    # What is kept must serve later calls too, in whatever mode or transform this one happens.
    with torch._C._DisableFuncTorch(), _disable_current_modes(), torch.inference_mode(False):
        square = observable.matrix @ observable.matrix
        return Hermitian((square + square.mH) / 2, observable.wires)


def is_single(given: Any) -> bool:
    """Whether `given` stands for one observable: all but a list, and "x", "y" or "z" for every wire."""
    return not (
        isinstance(given, list | tuple) or (isinstance(given, str) and given.strip().lower() in ("x", "y", "z"))
    )


def parse_observables(given: Any, n_qubits: int) -> tuple[Observable, ...]:
    """The observables that `given` stands for.

    Args:
        given: "z" (or "x", "y") for that letter on every wire; text such as "0.5 Z0 Z2 - X1"; "|01> 0, 2" for a
            projector on wires 0 and 2 (without wires: on all); an observable, or what its `to_dict` gave; or a list of
            these.
        n_qubits: the number of wires.

    Raises:
        ValueError: text that cannot be read; a wire that is missing or repeated; an empty list.
        TypeError: something else.
    """
    if isinstance(given, str):
        return _read(given, n_qubits)
    items = list(given) if isinstance(given, list | tuple) else [given]
    if not items:
        raise ValueError("at least one observable is needed, got an empty list")
    return tuple(_one(item, n_qubits) for item in items)


def _read(given: str | PauliWord, n_qubits: int) -> tuple[Observable, ...]:
    """What text or a word stands for, read once."""
    return getattr(_READ, _find(given, n_qubits))


def _find(given: str | PauliWord, n_qubits: int) -> str:
    """Read text or a word unless that is kept; the name of what it stands for."""
    return _READ.name((given, n_qubits), lambda: _understood(given, n_qubits))


# What `torch.compiler.assume_constant_result` sets; the functions themselves would import the whole compiler.
_square._dynamo_marked_constant = _find._dynamo_marked_constant = True  # pyright: ignore[reportFunctionMemberAccess]


def _understood(given: str | PauliWord, n_qubits: int) -> tuple[Observable, ...]:
    if isinstance(given, PauliWord):
        return (_on_wires(PauliSum(((1.0, given),)), n_qubits),)
    text = given
    plain = text.strip()
    if plain.lower() in ("x", "y", "z"):
        return tuple(PauliSum(((1.0, PauliWord(((wire, plain.lower()),))),)) for wire in range(n_qubits))
    if not plain.startswith("|"):
        return (_on_wires(parse_pauli_sum(text), n_qubits),)
    match = _PROJECTOR.fullmatch(plain)
    if match is None:
        raise ValueError(f"cannot read the projector {text!r}; written like '|01> 0, 2'")
    wires = [int(wire) for wire in re.findall(r"\d+", match[2])] if match[2] else range(n_qubits)
    return (_on_wires(Projector(match[1], tuple(wires)), n_qubits),)


def _one(item: Any, n_qubits: int) -> Observable:
    if isinstance(item, str):
        found = _read(item, n_qubits)
        if is_single(item):
            return found[0]
        raise ValueError(f"{item!r} stands for an observable of every wire; within a list write each, such as 'Z0'")
    if isinstance(item, PauliWord):
        return _read(item, n_qubits)[0]
    if isinstance(item, Mapping):
        item = _written(item)
    if not isinstance(item, PauliSum | Projector | Hermitian):
        raise TypeError(
            f"an observable is text, a PauliWord, PauliSum, Projector or Hermitian, got {type(item).__name__} {item!r}"
        )
    return _on_wires(item, n_qubits)


def _written(record: Mapping[str, Any]) -> Observable:
    """The observable that a `to_dict` wrote."""
    for kind, names in ((PauliSum, {"pauli"}), (Projector, {"bits", "wires"}), (Hermitian, {"matrix", "wires"})):
        if record.keys() == names:
            return kind.from_dict(record)
    raise ValueError(
        "an observable is written with 'pauli', with 'bits' and 'wires', or with 'matrix' and 'wires'; got "
        f"{dict(record)!r}"
    )


def _on_wires(observable: Observable, n_qubits: int) -> Observable:
    wires = observable.wires
    for wire in wires:
        if not 0 <= wire < n_qubits:
            raise ValueError(f"the observable {observable} is on wire {wire}: the wires are 0 to {n_qubits - 1}")
    if len(set(wires)) < len(wires):
        raise ValueError(f"the observable {observable} names a wire twice")
    return observable


def matrix_of(observable: Hermitian, like: Tensor) -> Tensor:
    """Its matrix in the type and on the device of a complex tensor."""
    return observable.matrix.to(like.device, like.dtype)
