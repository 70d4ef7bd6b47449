"""Feature maps: how numbers get into a circuit, by name."""

from dataclasses import dataclass
from math import pi

import torch
from jaxtyping import Complex, Float, Shaped
from torch import Tensor
from torch.nn import functional as F

from zoo.eager import must_compose
from zoo.naming import did_you_mean
from zoo.quantum.circuit import Circuit, feature
from zoo.quantum.integers import integer

#: Maps, with what may follow a colon.
FEATURE_MAPS = {
    "angle": "a rotation, x, y or z, or hx, hy, hz with a Hadamard before it",
    "amplitude": "",
    "basis": "",
    "iqp": "the number of repeats",
    "zz": "the number of repeats",
}
_ROTATIONS = ("x", "y", "z", "hx", "hy", "hz")


@dataclass(frozen=True)
class FeatureMap:
    """How features get into a circuit: as angles of `circuit`, or as the state in which another one begins.

    Attributes:
        name: as it was asked for.
        n_features: numbers of a sample.
        n_qubits: wires.
        circuit: its inputs are `angles(x)`; empty for "amplitude".
    """

    name: str
    n_features: int
    n_qubits: int
    circuit: Circuit

    @property
    def family(self) -> str:
        """The name without what follows the colon."""
        return self.name.partition(":")[0]

    def check(self, x: Shaped[Tensor, "*batch features"]) -> None:
        """Refuse features that this map cannot take.

        Values are not looked at while a compiler traces, nor on the meta device.

        Raises:
            TypeError: no tensor, complex features, or integers where angles are wanted.
            ValueError: another number of features, NaN or infinity, bits other than 0 and 1, a vector of zeros.
        """
        if not isinstance(x, Tensor):
            raise TypeError(f"features are a tensor, got {type(x).__name__}; torch.as_tensor(x) makes one")
        if x.is_complex():
            raise TypeError(f"features must be real, got {x.dtype}; give real and imaginary part as features")
        if not x.is_floating_point() and self.family != "basis":
            raise TypeError(
                f"the feature map {self.name!r} takes floating-point features, got {x.dtype}: give x.float()"
            )
        if x.ndim < 1 or x.shape[-1] != self.n_features:
            raise ValueError(
                f"the feature map {self.name!r} was made for {self.n_features} features, got an input of shape "
                f"{tuple(x.shape)} with {x.shape[-1] if x.ndim else 'none'}"
            )
        if must_compose(x) or x.is_meta:
            return
        if not bool(x.isfinite().all()):
            where = tuple(x.isfinite().logical_not().nonzero()[0].tolist())
            raise ValueError(f"features must be finite, got {float(x[where])} at {where}")
        if self.family == "basis" and not bool(((x == 0) | (x == 1)).all()):
            where = tuple(((x != 0) & (x != 1)).nonzero()[0].tolist())
            raise ValueError(f"the feature map 'basis' takes bits, 0 or 1, got {x[where].item()} at {where}")
        if self.family == "amplitude" and not bool(x.any(-1).all()):
            where = tuple(x.any(-1).logical_not().nonzero()[0].tolist()) or "the input"
            raise ValueError(f"the feature map 'amplitude' cannot normalise a vector of zeros: sample {where}")

    def angles(self, x: Float[Tensor, "*batch features"]) -> Float[Tensor, "*batch angles"]:
        """(*, n_features) -> (*, circuit.n_inputs), what the circuit takes as inputs."""
        if self.family == "amplitude":
            return x[..., :0]
        if self.family not in ("iqp", "zz"):
            return x
        first, second = torch.triu_indices(self.n_features, self.n_features, 1, device=x.device)
        if self.family == "iqp":
            return torch.cat([x, x[..., first] * x[..., second]], -1)
        return torch.cat([x, (pi - x[..., first]) * (pi - x[..., second])], -1)

    def state(self, x: Float[Tensor, "*batch features"]) -> Complex[Tensor, "*batch amplitudes"] | None:
        """(*, n_features) -> (*, 2**n_qubits), the complex state to begin in; None for a map of angles."""
        if self.family != "amplitude":
            return None
        padded = F.pad(x, (0, 2**self.n_qubits - self.n_features))
        # Scaled first: the squares of large or small numbers leave the range of float32.
        padded = padded / padded.detach().abs().amax(-1, keepdim=True)
        padded = padded / padded.square().sum(-1, keepdim=True).sqrt()
        return torch.complex(padded, torch.zeros_like(padded))


def feature_map(name: str, n_features: int, n_qubits: int | None = None) -> FeatureMap:
    """A feature map by name.

    "angle:x", "angle:y", "angle:z": feature i turns wire i; with "angle:hy" a Hadamard on every wire comes first. z
    turns |0> by a phase alone: use "angle:hz", or let other gates come before it.
    "amplitude": features, padded with zeros on the right and normalised, are the amplitudes.
    "basis": bits, wire i in the state |x_i>.
    "iqp", "iqp:2": as often as said, Hadamards, RZ(x_i), RZZ(x_i x_j) for pairs in lexicographic order.
    "zz", "zz:2": Hadamards, P(2 x_i), CNOT P(2 (pi - x_i)(pi - x_j)) CNOT for pairs.

    Args:
        name: one of those.
        n_features: numbers of a sample.
        n_qubits: wires; as few as hold the features if None.

    Raises:
        ValueError: an unknown name, with the nearest one; more features than the wires hold.

    Source: Havlíček et al. (2019, arXiv 1804.11326) for "iqp" and "zz"; Schuld and Petruccione (2018) for the others.
    """
    family, colon, argument = name.lower().partition(":")
    if family not in FEATURE_MAPS:
        hint = did_you_mean(family, FEATURE_MAPS) or "."
        raise ValueError(f"unknown feature map {name!r}{hint} There are {', '.join(FEATURE_MAPS)}")
    n_features = integer("n_features", n_features)
    if n_qubits is None:
        n_qubits = max(1, (n_features - 1).bit_length()) if family == "amplitude" else n_features
    n_qubits = integer("n_qubits", n_qubits)
    room = 2**n_qubits if family == "amplitude" else n_qubits
    if n_features > room:
        raise ValueError(
            f"the feature map {family!r} puts at most {room} features on {n_qubits} wires, got n_features={n_features}"
        )
    if colon and not FEATURE_MAPS[family]:
        raise ValueError(f"the feature map {family!r} takes nothing after a colon, got {name!r}")
    if family == "angle":
        circuit = _angles(name, argument or "y", n_features, n_qubits)
    elif family == "basis":
        circuit = _each("ry", n_features, Circuit(n_qubits), pi)
    elif family == "amplitude":
        circuit = Circuit(n_qubits)
    else:
        circuit = _pairs(name, family, argument or "1", n_features, n_qubits)
    return FeatureMap(name.lower(), n_features, n_qubits, circuit)


def _each(gate: str, n_features: int, circuit: Circuit, scale: float = 1.0) -> Circuit:
    for i in range(n_features):
        getattr(circuit, gate)(scale * feature(i), i)
    return circuit


def _walls(circuit: Circuit) -> Circuit:
    for wire in range(circuit.n_qubits):
        circuit.h(wire)
    return circuit


def _angles(name: str, rotation: str, n_features: int, n_qubits: int) -> Circuit:
    if rotation not in _ROTATIONS:
        raise ValueError(f"after 'angle:' comes one of {', '.join(_ROTATIONS)}, got {name!r}")
    circuit = Circuit(n_qubits)
    return _each(f"r{rotation[-1]}", n_features, _walls(circuit) if rotation[0] == "h" else circuit)


def _pairs(name: str, family: str, repeats: str, n_features: int, n_qubits: int) -> Circuit:
    if not repeats.isdecimal() or int(repeats) < 1:
        raise ValueError(f"after '{family}:' comes the number of repeats, at least 1, got {name!r}")
    circuit = Circuit(n_qubits)
    pairs = [(i, j) for i in range(n_features) for j in range(i + 1, n_features)]
    for _ in range(int(repeats)):
        _walls(circuit)
        if family == "iqp":
            _each("rz", n_features, circuit)
            for place, (i, j) in enumerate(pairs, n_features):
                circuit.rzz(feature(place), i, j)
        else:
            _each("phase", n_features, circuit, 2.0)
            for place, (i, j) in enumerate(pairs, n_features):
                circuit.cx(i, j).phase(2 * feature(place), j).cx(i, j)
    return circuit
