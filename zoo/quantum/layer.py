"""A circuit as a layer: features in, expectation values out."""

from collections.abc import Mapping
from math import inf, pi
from typing import Any, ClassVar

import torch
from jaxtyping import Complex, Float, Shaped
from torch import Tensor, nn
from torch.nn import functional as F

from zoo.eager import must_compose, no_autocast
from zoo.naming import did_you_mean
from zoo.quantum import simulate
from zoo.quantum.angle import as_number
from zoo.quantum.assembly import Assembly, assemble
from zoo.quantum.circuit import Circuit
from zoo.quantum.feature_maps import FeatureMap
from zoo.quantum.integers import integer
from zoo.quantum.metric import metric_tensor
from zoo.quantum.noise import NoiseModel
from zoo.quantum.observables import Hermitian, parse_observables

INITS = ("normal", "uniform")
_ENCODING, _ANSATZ = "angle:y", "strongly_entangling"


class QuantumLayer(nn.Module):
    """Expectation values of a circuit whose angles are features and trainable weights: y_k = <O_k> of U(w) S(x) |0>.

    Shapes: (*, in_features) -> (*, observables), or (*, out_features) behind a linear read-out. Real in, real out, in
    the dtype of x; computed in float32 or float64 whatever surrounds the layer. State dict: `weights` (n_layers, angles
    of a layer), or (weights,) of a circuit of one's own; `scales` (n_layers, in_features) with `reupload`;
    `readout.weight`, `readout.bias` with `out_features`.

    Wide random angles are a start from which deep circuits do not learn (barren plateaus, McClean et al. 2018, arXiv
    1803.11173): the default start is near zero. `zoo.quantum.gradient_variance` measures it.

    Args:
        in_features: width of x. Given by `circuit` if that is.
        n_qubits: wires; as few as hold the features if None.
        n_layers: layers of the ansatz.
        encoding: how features get in; see `zoo.quantum.feature_map`.
        ansatz: the trainable part; see `zoo.quantum.ansatz`.
        observables: what is read: "z" (Z of every wire), a Pauli sum such as "0.5 Z0 Z2 - X1", or a list of those.
        reupload: encode the features anew before every layer of the ansatz (Pérez-Salinas et al. 2020, arXiv
            1907.02085).
        input_scales: with `reupload`, a trainable factor for each feature in each layer, 1 at the start.
        circuit: a circuit of one's own in place of encoding and ansatz, or what its `to_dict` gave: its inputs are the
            features, its weights are learned.
        out_features: width of a linear read-out with a bias; none if None.
        init: of the weights: "normal", or "uniform" over a full turn.
        init_std: deviation of the normal start, in radians.
        diff_method, backend: `diff_method` and `method` of `zoo.quantum.expval`.
        shots: measurements of each observable; exact if None. They are differentiated by shifted measurements.
        noise: a `NoiseModel`, or what its `to_dict` gave.
        options: others of a simulation by name, such as `{"max_bond": 16}` or `{"trajectories": 500}`; see
            `zoo.quantum.running.options.Options`.

    Attributes:
        truncation_error: the greatest part of the squared norm that the matrix product states of the last call with
            such left out; None before one. Compiled calls do not set it.

    Raises:
        ValueError, TypeError: see `zoo.quantum.feature_map`, `zoo.quantum.ansatz`, `zoo.quantum.expval`; an encoding
            that nothing of the output depends on; both a circuit and parts of one.
    """

    zoo_keep_fp32: ClassVar[bool] = True

    def __init__(
        self,
        in_features: int | None = None,
        n_qubits: int | None = None,
        n_layers: int = 1,
        *,
        encoding: str = _ENCODING,
        ansatz: str = _ANSATZ,
        observables: Any = "z",
        reupload: bool = False,
        input_scales: bool = True,
        circuit: Circuit | Mapping[str, Any] | None = None,
        out_features: int | None = None,
        init: str = "normal",
        init_std: float = 0.01 * pi,
        diff_method: str = "auto",
        backend: str = "auto",
        shots: int | None = None,
        noise: NoiseModel | Mapping[str, Any] | None = None,
        options: Mapping[str, Any] | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if circuit is not None:
            refuse_parts(
                in_features=in_features,
                n_qubits=n_qubits,
                reupload=reupload or None,
                n_layers=n_layers - 1 or None,
                encoding=None if encoding == _ENCODING else encoding,
                ansatz=None if ansatz == _ANSATZ else ansatz,
            )
            parts = _own(circuit)
        elif in_features is None:
            raise ValueError("a QuantumLayer needs in_features, the width of its input, or a circuit")
        else:
            in_features = integer("in_features", in_features)
            n_layers = integer("n_layers", n_layers)
            parts = assemble(in_features, n_qubits, n_layers, encoding, ansatz, reupload)
        self.circuit, self.features = parts.circuit, parts.encoding
        self.own_circuit = circuit is not None
        self.in_features, self.n_qubits, self.n_layers = self.features.n_features, self.circuit.n_qubits, n_layers
        self.encoding, self.ansatz, self.reupload = encoding, ansatz, reupload
        self.observables = parse_observables(observables, self.n_qubits)
        self.reads = observables if isinstance(observables, str) else [str(o) for o in self.observables]
        if out_features is not None:
            out_features = integer("out_features", out_features)
        if init not in INITS:
            raise ValueError(
                f"init must be one of {', '.join(map(repr, INITS))}, got {init!r}{did_you_mean(init, INITS)}"
            )
        if as_number(init_std) is None or not 0 <= init_std < inf:
            raise ValueError(f"init_std must be a number of at least 0, got {init_std!r}")
        self.init, self.init_std, self.unit = init, init_std, parts.unit
        self.diff_method, self.backend, self.shots = diff_method, backend, shots
        self.noise = NoiseModel.from_dict(noise) if isinstance(noise, Mapping) else noise
        self.options = dict(options or {})
        self.truncation_error: float | None = None
        if named := sorted(self.options.keys() & {"method", "diff_method", "shots", "noise", "generator", "report"}):
            raise ValueError(f"{', '.join(named)} cannot be among options: give it to the layer, or to its call")
        simulate.Options.of(self._options())  # refuses at once what no call could run
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.weights = nn.Parameter(torch.empty(parts.shape, **place)) if self.circuit.n_weights else None
        scaled = reupload and input_scales
        self.scales = nn.Parameter(torch.empty(n_layers, self.in_features, **place)) if scaled else None
        count = len(self.observables)
        self.readout = None if out_features is None else nn.Linear(count, out_features, **place)
        self.out_features = count if out_features is None else out_features
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the weights anew; input scales are 1 again."""
        if self.weights is not None and self.init == "uniform":
            nn.init.uniform_(self.weights, 0.0, 2 * pi / self.unit)
        elif self.weights is not None:
            nn.init.normal_(self.weights, std=self.init_std / self.unit)
        if self.scales is not None:
            nn.init.ones_(self.scales)
        if self.readout is not None:
            self.readout.reset_parameters()

    def forward(
        self, x: Shaped[Tensor, "*batch in_features"], generator: torch.Generator | None = None
    ) -> Float[Tensor, "*batch out_features"]:
        """Expectation values, or what the read-out makes of them.

        Args:
            x: (*, in_features), floating; bits of any type with the encoding "basis".
            generator: for shots and trajectories; torch's own if None.

        Raises:
            TypeError, ValueError: see `zoo.quantum.FeatureMap.check`.
        """
        if not isinstance(x, Tensor):
            self.features.check(x)  # says so
        with no_autocast(x):
            weights, inputs, state = self._given(x)
            y = simulate.expval(
                self.circuit,
                self.observables,
                weights,
                inputs,
                state=state,
                dtype=self._type(x),
                generator=generator,
                report=self._told,
                **self._options(),
            )
            if self.readout is not None:
                y = F.linear(y, self.readout.weight.to(y.dtype), self.readout.bias.to(y.dtype))
        return y.reshape(*x.shape[:-1], self.out_features).to(x.dtype if x.is_floating_point() else y.dtype)

    def _told(self, discarded: Tensor) -> None:
        """Keep what a matrix product state has left out, where numbers can be looked at."""
        if not must_compose(discarded):
            self.truncation_error = float(discarded.detach().max()) if discarded.numel() else 0.0

    def _options(self) -> dict[str, Any]:
        """Those of `zoo.quantum.expval`."""
        found = {"method": self.backend, "diff_method": self.diff_method, "shots": self.shots, "noise": self.noise}
        return {**self.options, **{name: value for name, value in found.items() if value is not None}}

    def _type(self, x: Tensor) -> torch.dtype:
        """In which the circuit is computed."""
        tensors = (x, *self.parameters(recurse=False))
        return torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32

    def _given(self, x: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None]:
        """Weights (W,), inputs (rows, I) and first states (rows, 2**n) of the circuit, in float32 or float64."""
        self.features.check(x)
        kind = self._type(x)
        rows = x.reshape(-1, self.in_features).to(kind)
        weights = None if self.weights is None else self.weights.to(kind).flatten()
        state = self.features.state(rows)
        if self.reupload:
            rows = rows.unsqueeze(-2).expand(-1, self.n_layers, -1)
            rows = rows if self.scales is None else rows * self.scales.to(kind)
        inputs = self.features.angles(rows).flatten(1) if self.circuit.n_inputs else None
        return weights, inputs, state

    def state(self, x: Shaped[Tensor, "*batch in_features"]) -> Complex[Tensor, "*batch amplitudes"]:
        """(*, in_features) -> (*, 2**n_qubits), the complex state that is measured, without noise."""
        weights, inputs, state = self._given(x)
        found = simulate.state(self.circuit, weights, inputs, state=state)
        return found.reshape(*x.shape[:-1], 2**self.n_qubits)

    def metric_tensor(
        self, x: Shaped[Tensor, "*batch in_features"], layers: int | None = None
    ) -> Float[Tensor, "*layers block block"]:
        """The metric of `state(x)` in the weights, the mean over the batch; see `zoo.quantum.metric_tensor`."""
        weights, inputs, state = self._given(x)
        return metric_tensor(self.circuit, weights, inputs, state=state, layers=layers)

    def as_circuit(self, x: Tensor | None = None) -> tuple[Circuit, Tensor | None, Tensor | None, Any]:
        """The circuit with weights (W,), inputs (I,) of one sample and observables, to write or to run elsewhere.

        Args:
            x: (in_features,) or (1, in_features); no inputs if None.

        Raises:
            ValueError: several samples, or an encoding that is the state in which the circuit begins.
        """
        if self.features.family == "amplitude":
            raise ValueError("encoding 'amplitude' is the state in which the circuit begins, no gates of it")
        if x is None:
            return self.circuit, None if self.weights is None else self.weights.flatten(), None, self.observables
        weights, inputs, _ = self._given(x)
        if inputs is not None and len(inputs) != 1:
            raise ValueError(f"a circuit is of one sample, got an input of shape {tuple(x.shape)}")
        return self.circuit, weights, None if inputs is None else inputs[0], self.observables

    def draw(self, *args: Any, **kwargs: Any) -> Any:
        """The circuit as text; see `zoo.quantum.Circuit.draw`."""
        return self.circuit.draw(*args, **kwargs)

    def config(self) -> dict[str, Any]:
        """The arguments that make this layer again, as JSON has them: `QuantumLayer(**config)`."""
        read = [o.to_dict() if isinstance(o, Hermitian) else str(o) for o in self.observables]
        what: dict[str, Any] = (
            {"circuit": self.circuit.to_dict()}
            if self.own_circuit
            else {
                "in_features": self.in_features,
                "n_qubits": self.n_qubits,
                "n_layers": self.n_layers,
                "encoding": self.encoding,
                "ansatz": self.ansatz,
                "reupload": self.reupload,
                "input_scales": self.scales is not None or not self.reupload,
            }
        )
        return {
            **what,
            "observables": self.reads if isinstance(self.reads, str) else read,
            "out_features": None if self.readout is None else self.out_features,
            "init": self.init,
            "init_std": self.init_std,
            "diff_method": self.diff_method,
            "backend": self.backend,
            "shots": self.shots,
            "noise": None if self.noise is None else self.noise.to_dict(),
            "options": self.options,
        }

    def extra_repr(self) -> str:
        made = {"n_layers": self.n_layers, "encoding": self.encoding, "ansatz": self.ansatz, "reupload": self.reupload}
        told = {"circuit": self.circuit} if self.own_circuit else {"n_qubits": self.n_qubits, **made}
        told |= {"observables": self.reads, "shots": self.shots, "noise": self.noise, "options": self.options}
        words = [f"{name}={value!r}" for name, value in told.items() if value is not None and value not in (False, {})]
        return ", ".join([f"in_features={self.in_features}, out_features={self.out_features}", *words])


def _own(circuit: Circuit | Mapping[str, Any]) -> Assembly:
    """The parts of a layer that runs a circuit of the user's own.

    Raises:
        ValueError: a circuit without features.
    """
    circuit = Circuit.from_dict(circuit) if isinstance(circuit, Mapping) else circuit.copy()
    if not circuit.n_inputs:
        raise ValueError(f"{circuit} has no features: put angles feature(0), feature(1), … into it")
    return Assembly(
        circuit, FeatureMap("circuit", circuit.n_inputs, circuit.n_qubits, circuit), (circuit.n_weights,), 1.0
    )


def refuse_parts(**given: Any) -> None:
    """A whole circuit leaves nothing to choose.

    Raises:
        ValueError: with the names of what was given beside it.
    """
    if names := [name for name, value in given.items() if value is not None]:
        raise ValueError(f"circuit= is the whole circuit: leave out {', '.join(names)}")
