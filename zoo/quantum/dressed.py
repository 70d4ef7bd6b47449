"""A circuit between two linear layers."""

from collections.abc import Mapping
from math import pi
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.quantum.circuit import Circuit
from zoo.quantum.integers import integer
from zoo.quantum.layer import QuantumLayer, refuse_parts


class DressedCircuit(nn.Module):
    """A circuit with a linear layer on either side: y = W2 <O>(pi/2 tanh(W1 x + b1)) + b2.

    Shapes: (*, in_features) -> (*, out_features). State dict: `pre.weight`, `pre.bias`, `circuit.weights` (depth, n),
    `post.weight`, `post.bias`; `circuit.scales` (depth, n) with `reupload`.

    The defaults are the circuit of quantum transfer learning: Hadamards and RY of the features, then as often as
    `depth` says CNOTs of even pairs, CNOTs of odd pairs and RY of weights, which start at 0.01 randn. All its gates are
    real. Published with 4 qubits, depth 6, learning rate 4e-4, batches of 4, a tenth of the rate after every 10 of 30
    epochs.

    Args:
        in_features: width of the features.
        out_features: outputs, usually classes.
        bias: add b2.
        n_qubits: wires, 4 by default; as many features go into the circuit.
        depth: layers of the ansatz, 6 by default.
        circuit: a circuit of one's own in place of n_qubits, depth, encoding and ansatz, or what its `to_dict` gave:
            as many features as it has inputs go into it.
        encoding, ansatz: see `QuantumLayer`; "angle:hy" and "dressed" by default.
        observables, reupload, input_scales, init, init_std: see `QuantumLayer`.
        diff_method, backend, shots, noise, options: see `QuantumLayer`.

    Raises:
        ValueError, TypeError: see `QuantumLayer`; both a circuit and parts of one.

    Source: Mari et al. (2020, arXiv 1912.08278); with `reupload`, Pérez-Salinas et al. (2020, arXiv 1907.02085).
    """

    #: Where the rows of the classes are.
    class_rows: ClassVar[str] = "post"
    #: The circuit, where nothing else is said.
    parts: ClassVar[dict[str, Any]] = {"n_qubits": 4, "depth": 6, "encoding": "angle:hy", "ansatz": "dressed"}
    #: What options are called elsewhere.
    zoo_other_words: ClassVar[Mapping[str, str]] = {
        "n_layers": "depth",
        "num_layers": "depth",
        "num_qubits": "n_qubits",
    }

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        n_qubits: int | None = None,
        depth: int | None = None,
        circuit: Circuit | Mapping[str, Any] | None = None,
        encoding: str | None = None,
        ansatz: str | None = None,
        observables: Any = "z",
        reupload: bool = False,
        input_scales: bool = True,
        init: str = "normal",
        init_std: float = 0.01,
        diff_method: str = "auto",
        backend: str = "auto",
        shots: int | None = None,
        noise: Any = None,
        options: Mapping[str, Any] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.in_features, self.out_features = in_features, out_features
        given = {"n_qubits": n_qubits, "depth": depth, "encoding": encoding, "ansatz": ansatz}
        if circuit is not None:
            refuse_parts(**given, reupload=reupload or None)
            own = Circuit.from_dict(circuit) if isinstance(circuit, Mapping) else circuit
            parts, width = {"circuit": own}, own.n_inputs
        else:
            parts = {**self.parts, **{name: value for name, value in given.items() if value is not None}}
            width = integer("n_qubits", parts["n_qubits"])
            parts |= {"in_features": width, "n_layers": integer("depth", parts.pop("depth"))}
        self.pre = nn.Linear(in_features, width, **place)
        self.circuit = QuantumLayer(
            **parts,
            observables=observables,
            reupload=reupload,
            input_scales=input_scales,
            init=init,
            init_std=init_std,
            diff_method=diff_method,
            backend=backend,
            shots=shots,
            noise=noise,
            options=options,
            **place,
        )
        self.post = nn.Linear(self.circuit.out_features, out_features, bias=bias, **place)

    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        for part in (self.pre, self.circuit, self.post):
            part.reset_parameters()

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        return self.post(self.circuit(self.pre(x).tanh() * (pi / 2)))


class FreeCircuit(DressedCircuit):
    """A `DressedCircuit` of free rotations and a ring of CZ, two layers of them."""

    parts: ClassVar[dict[str, Any]] = DressedCircuit.parts | {"depth": 2, "ansatz": "hardware_efficient"}


class ReuploadingCircuit(DressedCircuit):
    """A `DressedCircuit` in which, with `reupload`, the features come again before each of three layers."""

    parts: ClassVar[dict[str, Any]] = FreeCircuit.parts | {"depth": 3, "encoding": "angle:y"}
