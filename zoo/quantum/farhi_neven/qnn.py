"""The quantum neural network of Farhi and Neven: data qubits, one readout qubit, two-qubit rotations between them."""

import cmath
from collections.abc import Sequence
from typing import Any

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from zoo.eager import no_autocast
from zoo.quantum.circuit import Circuit
from zoo.quantum.farhi_neven import branches
from zoo.quantum.farhi_neven.branches import PAULIS, READOUT_STATES, find_branches, working_dtype
from zoo.quantum.farhi_neven.circuits import kept_circuit, readout_circuit
from zoo.quantum.farhi_neven.labels import label_signs
from zoo.quantum.farhi_neven.options import (
    LOSSES,
    METHODS,
    check_choice,
    check_real,
    checked_init,
    checked_layers,
    checked_scale,
    refuse_constant,
    resolved_method,
)
from zoo.quantum.farhi_neven.sine import Sine
from zoo.quantum.farhi_neven.states import basis_states, check_bits, check_states, superposition, with_readout


class QNN(nn.Module):
    """y = <A_readout> after U_L ... U_1 |z, readout>,   U_l = prod_j exp(i theta_lj P_l,j Q_l,readout)

    P and Q are Paulis: a layer "ZX" has Z on each data qubit and X on the readout. The class of an input is the sign of
    y. The angles decide nothing about cost: with `method="branches"` the state is never built, see `branches`, and 784
    data qubits are no difficulty. With ZX and XX layers only, the model is a sine of a linear form, see `sine`.

    Shapes: bits (B, n_data) of 0 and 1 -> (B,) in [-1, 1]. Parameter: `theta` (layers, n_data).

    Source: Farhi and Neven, "Classification with Quantum Neural Networks on Near Term Processors" (2018, arXiv
    1802.06002). The readout of the paper starts in "1", which is the eigenvalue of Z: the state |0>.

    Args:
        n_data: data qubits.
        layers: in order, the first acts first.
        readout_init: "0", "1", "+", "-", "+i" or "-i", the state in which the readout starts.
        observable: "X", "Y" or "Z", measured on the readout.
        method: "closed" (one pair of branches), "branches" (at most 256), "statevector" (at most about 26 qubits), or
            "auto": branches where there are at most 256, else the state vector.
        loss: "linear", 1 - label y, as in the paper, or "hinge", max(0, 1 - label y).
        angle_scale: factor between `theta` and the angles above; -pi/2 for exponents t of gates (P Q)^t.
        init: limits between which `theta` is drawn uniformly; None for -0.5 / n_data and 0.5 / n_data: with wider
            limits wide inputs have a prediction of 0.

    Raises:
        ValueError, TypeError: an option that is none of these; layers whose prediction is the same for every input
            (XX and ZZ with the readout in |0> and Y measured); in the call, inputs of another width, or that are not 0
            and 1.
        CircuitTooLarge: in the call, a state vector that does not fit.
    """

    signs: Tensor | None
    left: Tensor | None
    right: Tensor | None
    coefficients: Tensor | None

    def __init__(
        self,
        n_data: int,
        layers: Sequence[str] = ("ZX", "XX") * 3,
        *,
        readout_init: str = "0",
        observable: str = "Y",
        method: str = "auto",
        loss: str = "linear",
        angle_scale: float = 1.0,
        init: Sequence[float] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if isinstance(n_data, bool) or not isinstance(n_data, int) or n_data < 1:
            raise ValueError(f"n_data must be an int ≥ 1, got {n_data!r}")
        self.n_data = n_data
        self.layers = checked_layers(layers)
        self.readout_init = check_choice("readout_init", readout_init, READOUT_STATES)
        self.observable = check_choice("observable", observable.upper() if observable else observable, PAULIS)
        self.loss_kind = check_choice("loss", loss, LOSSES)
        self.angle_scale = checked_scale(angle_scale)
        self.init = checked_init(init, n_data)
        check_real(dtype)
        what = (self.layers, self.readout_init, self.observable)
        self.method = resolved_method(check_choice("method", method, METHODS), *what)
        refuse_constant(*what)
        self.theta = nn.Parameter(torch.empty(len(self.layers), n_data, device=device, dtype=dtype))
        self.constant, shapes = 0.0, (None,) * 4
        if self.method != "statevector":
            found = find_branches(*what)
            self.constant = found.constant
            shapes = (found.signs.shape, found.left.shape, found.right.shape, (2, *found.left.shape))
        for name, shape in zip(("signs", "left", "right", "coefficients"), shapes, strict=True):
            kind = torch.int64 if name in ("left", "right") else dtype
            table = None if shape is None else torch.empty(shape, device=device, dtype=kind)
            self.register_buffer(name, table, persistent=False)
        self.reset_parameters()

    @classmethod
    def tfq(cls, n_data: int = 16, **options: Any) -> "QNN":
        """The circuit of TensorFlow Quantum's MNIST tutorial: (XX)^t, then (ZZ)^t, from |-> to X, with the hinge loss.

        `theta` are the exponents t, drawn from 0 to 2 pi as that library does.
        """
        tutorial: dict[str, Any] = {
            "layers": ("XX", "ZZ"),
            "readout_init": "-",
            "observable": "X",
            "loss": "hinge",
            "angle_scale": -torch.pi / 2,
            "init": (0.0, 2 * torch.pi),
        }
        return cls(n_data, **{**tutorial, **options})

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw the angles anew."""
        nn.init.uniform_(self.theta, *self.init)
        self.init_non_persistent_buffers()

    @torch.no_grad()
    def init_non_persistent_buffers(self) -> None:
        """Fill the tables of the branches, which the layers alone decide."""
        if self.signs is None or self.left is None or self.right is None or self.coefficients is None:
            return
        found = find_branches(self.layers, self.readout_init, self.observable)
        self.signs.copy_(found.signs)
        self.left.copy_(found.left)
        self.right.copy_(found.right)
        self.coefficients.copy_(torch.view_as_real(found.coefficients).T)

    def forward(self, bits: Shaped[Tensor, "*batch n"]) -> Float[Tensor, "*batch"]:
        """Predictions for basis states."""
        if torch._C._are_functorch_transforms_active() and bits.ndim == 1:
            return self(bits[None])[0]
        check_bits(bits, self.n_data)
        if self.method == "statevector":
            self._check_memory(len(bits))
            return self.forward_state(basis_states(bits, dtype=self._complex))
        with no_autocast(self.theta):
            kind = working_dtype(self.theta)
            amplitudes, phases = branches.amplitudes_and_phases(*self._table(kind))
            return self._sum(amplitudes, (1 - 2 * bits.to(kind)) @ phases.T)

    def forward_product(self, states: Shaped[Tensor, "batch n 2"]) -> Float[Tensor, " batch"]:
        """Predictions for product states: each data qubit starts in a state of its own.

        Args:
            states: normalised, complex or real.

        Raises:
            ValueError: another width, states that are not normalised or not finite.
        """
        check_states(states, (self.n_data, 2))
        states = states.to(self._complex)
        if self.method == "statevector":
            self._check_memory(len(states))
            whole = states[:, 0]
            for j in range(1, self.n_data):
                whole = (whole[:, :, None] * states[:, None, j]).flatten(1)
            return self.forward_state(whole)
        kind = working_dtype(self.theta)
        bloch = _bloch(states).to(kind)
        amplitudes, phases = branches.product_amplitudes_and_phases(bloch, *self._table(kind))
        return self._sum(amplitudes, phases)

    def forward_state(self, psi: Shaped[Tensor, "batch states"]) -> Float[Tensor, " batch"]:
        """Predictions for any states of the data qubits, by the state vector.

        Args:
            psi: (B, 2**n_data), normalised, complex or real, data qubit 0 the most significant bit.

        Raises:
            ValueError: another width, states that are not normalised or not finite.
            CircuitTooLarge: the state vector does not fit.
        """
        from zoo.quantum.simulate import expval

        check_states(psi, (2**self.n_data,))
        self._check_memory(len(psi))
        state = with_readout(psi.to(self._complex), self.readout_init)
        observable = f"{self.observable}{self.n_data}"
        return expval(self._circuit, observable, self.theta.flatten(), state=state)

    def circuit(self, bits: Sequence[int] | Tensor | None = None) -> Circuit:
        """The network as a `zoo.quantum.Circuit` whose weights are `theta`, row by row.

        Args:
            bits: of an input, which is prepared by X gates, as the readout's state is; None begins behind both.
        """
        return readout_circuit(
            self.n_data,
            self.layers,
            angle_scale=self.angle_scale,
            readout_init=self.readout_init,
            bits=None if bits is None else [int(bit) for bit in bits],
        )

    def as_circuit(self, x: Tensor | None = None) -> tuple[Circuit, Tensor, None, str]:
        """What `zoo.quantum.to_openqasm3` writes: circuit, weights, no inputs, observable.

        Args:
            x: the bits of one sample, (n_data,) or (1, n_data); None for all 0.

        Raises:
            ValueError: another number of bits.
        """
        rows = torch.zeros(1, self.n_data) if x is None else x.reshape(-1, x.shape[-1])
        if len(rows) != 1:
            raise ValueError(f"a circuit is of one sample, got bits of shape {tuple(rows.shape)}")
        check_bits(rows, self.n_data)
        return self.circuit(rows[0]), self.theta.flatten(), None, f"{self.observable}{self.n_data}"

    def phases_and_amplitude(self) -> Sine:
        """The n + 1 numbers to which this model comes down, see `sine`.

        Raises:
            ValueError: the layers have more than one pair of branches.
        """
        if self.coefficients is None or self.coefficients.shape[1] != 1:
            pairs = "too many" if self.coefficients is None else str(self.coefficients.shape[1])
            raise ValueError(
                f"the layers {', '.join(self.layers)} have {pairs} pairs of branches; only a model with one pair, such "
                "as ZX and XX layers, is a sine of a linear form"
            )
        amplitudes, phases = branches.amplitudes_and_phases(*self._table(working_dtype(self.theta)))
        coefficient = complex(*self.coefficients[:, 0].tolist())
        return Sine(phases[0], amplitudes[0] * abs(coefficient), cmath.phase(coefficient), self.constant)

    def loss(self, y: Float[Tensor, " batch"], label: Any, reduction: str = "mean") -> Float[Tensor, "*batch"]:
        """1 - label y, or max(0, 1 - label y).

        Args:
            y: predictions.
            label: (B,) +1 and -1, or the classes 1 and 0 that stand for them; a tensor, an array or a list.
            reduction: "mean", "sum" or "none"; of an empty batch the mean is NaN, as PyTorch's are.

        Raises:
            ValueError: other labels, or another number of them.
            TypeError: labels that are no numbers.
        """
        margins = 1 - label_signs(label, y).to(y.dtype) * y
        losses = margins.clamp_min(0) if self.loss_kind == "hinge" else margins
        return {"mean": losses.mean, "sum": losses.sum, "none": lambda: losses}[
            check_choice("reduction", reduction, ("mean", "sum", "none"))
        ]()

    def accuracy(self, y: Float[Tensor, " batch"], label: Any) -> float:
        """Share of the predictions that have the sign of the label, given as to `loss`; a prediction of 0 is wrong.

        Raises:
            ValueError: other labels, or another number of them.
            TypeError: labels that are no numbers.
        """
        return float((y.sign() == label_signs(label, y)).double().mean())

    def superposition_loss(
        self,
        bits: Shaped[Tensor, "strings n"],
        label: Any,
        *,
        generator: torch.Generator | None = None,
    ) -> Float[Tensor, ""]:
        """1 - (<+1| A |+1> - <-1| A |-1>) / 2, with |+1> and |-1> the superpositions of all strings of a label.

        One evaluation sees the whole training set. With Z on the data qubits in all layers, cross terms vanish and the
        loss is that of the mean of each class, for any number of qubits; otherwise the state vector is used.

        Args:
            bits: distinct strings.
            label: +1 and -1, or 1 and 0, given as to `loss`; both must occur.
            generator: draws a random phase for every string; None for none.

        Raises:
            ValueError: a label that does not occur, a string that is there twice.
            CircuitTooLarge: the state vector does not fit.
        """
        check_bits(bits, self.n_data)
        positive = label_signs(label, bits[:, 0]) > 0
        if bool(positive.all()) or not bool(positive.any()):
            raise ValueError("superposition_loss takes strings of both labels, got one")
        if len(bits.unique(dim=0)) < len(bits):
            raise ValueError("superposition_loss takes distinct strings; zoo.quantum.distinct_strings finds them")
        if all(letter == "Z" for letter, _ in self.layers):
            y = self(bits)
            return 1 - (y[positive].mean() - y[~positive].mean()) / 2
        self._check_memory(2)
        classes = [
            superposition(bits[rows], dtype=self._complex, generator=generator) for rows in (positive, ~positive)
        ]
        y = self.forward_state(torch.stack(classes))
        return 1 - (y[0] - y[1]) / 2

    def extra_repr(self) -> str:
        start = f"readout_init={self.readout_init!r}, observable={self.observable!r}, method={self.method!r}"
        return f"{self.n_data}, layers={list(self.layers)}, {start}"

    @property
    def _complex(self) -> torch.dtype:
        return torch.complex128 if self.theta.dtype == torch.float64 else torch.complex64

    def _check_memory(self, batch: int) -> None:
        from zoo.quantum.memory import Run, check_memory

        run = Run(
            self._circuit, batch, self.theta.dtype, self.theta.device, gradient=torch.is_grad_enabled(), given=True
        )
        check_memory(run, "statevector")

    @property
    def _circuit(self) -> Circuit:
        return kept_circuit(self.n_data, self.layers, self.angle_scale)

    def _table(self, kind: torch.dtype) -> tuple[Any, ...]:
        assert self.signs is not None  # only the state vector has no branches
        return self.angle_scale * self.theta.to(kind), self.layers, self.signs.to(kind), self.left, self.right

    def _sum(self, amplitudes: Tensor, phases: Tensor) -> Tensor:
        """constant + Re sum_p coefficient_p amplitude_p exp(i phase_p)."""
        assert self.coefficients is not None
        real, imag = self.coefficients.to(phases.dtype)
        terms = phases.cos() * (amplitudes * real) - phases.sin() * (amplitudes * imag)
        return (self.constant + terms.sum(1)).to(self.theta.dtype)


def _bloch(states: Tensor) -> Tensor:
    """(<X>, <Y>, <Z>) of each qubit, (B, n, 3)."""
    zero, one = states.unbind(2)
    cross = 2 * zero.conj() * one
    return torch.stack([cross.real, cross.imag, zero.abs().square() - one.abs().square()], 2)
