"""A circuit between two linear layers."""

from collections.abc import Mapping
from math import pi
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.quantum.circuit import Circuit
from zoo.quantum.layer import QuantumLayer


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
        n_qubits: wires; as many features go into the circuit.
        depth: layers of the ansatz.
        circuit: a circuit of one's own, or what its `to_dict` gave: as many features as it has inputs go into it, and
            n_qubits, depth, encoding and ansatz do not count.
        encoding, ansatz, observables, reupload, input_scales, init, init_std: see `QuantumLayer`.
        diff_method, backend, shots, noise, options: see `QuantumLayer`.

    Raises:
        ValueError, TypeError: see `QuantumLayer`.

    Source: Mari et al. (2020, arXiv 1912.08278); with `reupload`, Pérez-Salinas et al. (2020, arXiv 1907.02085).
    """

    #: Where the rows of the classes are.
    class_rows: ClassVar[str] = "post"

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        n_qubits: int = 4,
        depth: int = 6,
        circuit: Circuit | Mapping[str, Any] | None = None,
        encoding: str = "angle:hy",
        ansatz: str = "dressed",
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
        parts: dict[str, Any] = {"in_features": n_qubits, "n_qubits": n_qubits, "n_layers": depth}
        parts |= {"encoding": encoding, "ansatz": ansatz}
        width = n_qubits
        if circuit is not None:
            own = Circuit.from_dict(circuit) if isinstance(circuit, Mapping) else circuit
            parts, width = {"circuit": own}, own.n_inputs
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
