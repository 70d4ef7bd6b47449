"""The QNN of Farhi and Neven by its branches, against state vectors.

`python -m benchmarks.quantum_farhi_neven` prints a Markdown table. PennyLane and its lightning simulator are optional:
`pip install pennylane pennylane-lightning`. Their side makes one call a sample, with the adjoint gradient and
complex64, as lightning does it best; ours computes phases in float64. Values and gradients are compared first.
"""

import importlib.util
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks._measure import Job, Measurement, Workload, compare, table
from zoo.quantum import QNN

#: Data qubits, samples, layers.
SIZES: dict[str, tuple[int, int, tuple[str, ...]]] = {
    "17 qubits": (16, 16, ("ZX", "XX") * 3),
    "785 qubits": (784, 256, ("ZX", "XX") * 3),
    "17 qubits, 64 branches": (16, 16, ("ZX", "ZZ") * 3),
}
LIGHTNING = "lightning.qubit, adjoint, complex64"
#: By branches it is sure to be quick; a state vector of a batch of 785 qubits is not to be had.
_OURS, _STATE = "branches", "ours, state vector"


def network(size: str, method: str = "auto") -> tuple[QNN, Tensor]:
    """The network with its angles, and the bits."""
    n, samples, layers = SIZES[size]
    generator = torch.Generator().manual_seed(0)
    bits = torch.randint(0, 2, (samples, n), generator=generator)
    qnn = QNN(n, layers, method=method)
    limit = 0.5 if n < 64 else 0.5 / n
    with torch.no_grad():
        qnn.theta.copy_(limit * (2 * torch.rand(qnn.theta.shape, generator=generator) - 1))
    return qnn, bits


def call(side: str, size: str, training: bool) -> Workload:
    """Predictions of the batch, and with `training` the gradient of their sum."""
    answer, theta = (_lightning if side == LIGHTNING else _ours)(side, size)

    def inference() -> None:
        with torch.no_grad():
            answer()

    def step() -> None:
        theta.grad = None
        answer().sum().backward()

    return Workload(step, lambda: answer().sum(), [theta]) if training else Workload(inference)


def _ours(side: str, size: str) -> tuple[Callable[[], Tensor], Tensor]:
    qnn, bits = network(size, "statevector" if side == _STATE else "auto")
    return lambda: qnn(bits), qnn.theta


def _lightning(side: str, size: str) -> tuple[Callable[[], Tensor], Tensor]:
    qml: Any = __import__("pennylane")
    import numpy as np

    qnn, bits = network(size)
    n = qnn.n_data
    device = qml.device("lightning.qubit", wires=n + 1, c_dtype=np.complex64)

    @qml.qnode(device, interface="torch", diff_method="adjoint")
    def circuit(angles: Tensor, sample: np.ndarray) -> Any:
        qml.BasisState(sample, wires=range(n))
        for row, layer in zip(angles, qnn.layers, strict=True):
            for j in range(n):
                qml.PauliRot(-2 * row[j], layer, wires=[j, n])
        return qml.expval(qml.PauliY(n))

    samples = list(bits.numpy())
    return lambda: torch.stack([circuit(qnn.theta, sample).float() for sample in samples]), qnn.theta


def differences(size: str) -> tuple[float, float]:
    """The largest difference of a prediction and of a gradient to lightning's."""
    found = []
    for side in (_OURS, LIGHTNING):
        answer, theta = (_lightning if side == LIGHTNING else _ours)(side, size)
        y = answer()
        y.sum().backward()
        found.append((y.detach(), theta.grad))
    (y, grad), (their_y, their_grad) = found
    if grad is None or their_grad is None:
        raise RuntimeError("a side without a gradient")
    return float((y - their_y).abs().max()), float((grad - their_grad).abs().max())


def rows(size: str, training: bool) -> list[list[str]]:
    """A row a side."""
    names = [_OURS]
    if size == "17 qubits":
        names += [_STATE, LIGHTNING] if importlib.util.find_spec("pennylane_lightning") else [_STATE]
    target = "benchmarks.quantum_farhi_neven:call"
    found = compare({name: Job(target, {"side": name, "size": size, "training": training}) for name in names})
    start = [size, str(SIZES[size][1]), "forward + backward" if training else "forward"]
    made = [[*start, name, *_cells(found[name], found[_OURS])] for name in names]
    if size == "17 qubits" and LIGHTNING not in names:
        made.append([*start, LIGHTNING, "not installed", *[""] * 5])
    return made


def _cells(side: Measurement, ours: Measurement) -> list[str]:
    return [
        f"{side.reuse_ms:.2f}",
        f"{side.reuse_ms / ours.reuse_ms:.1f}",
        f"{side.default_ms:.2f}",
        f"{side.default_ms / ours.default_ms:.1f}",
        f"{side.peak_mb:.1f}",
        "" if side.saved_mb is None else f"{side.saved_mb:.2f}",
    ]


def main() -> None:
    head = ["size", "batch", "call", "side", "reuse ms", "ratio", "default ms", "ratio", "peak MB", "saved MB"]
    if importlib.util.find_spec("pennylane_lightning"):
        value, grad = differences("17 qubits")
        print(f"Largest difference to lightning: {value:.1e} of a prediction, {grad:.1e} of a gradient.\n")
    print(table(head, [row for size in SIZES for training in (False, True) for row in rows(size, training)]))


if __name__ == "__main__":
    main()
