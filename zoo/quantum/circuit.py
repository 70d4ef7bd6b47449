"""A circuit: gates on numbered wires, whose angles are numbers, trainable weights or features of the input."""

import hashlib
import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Any, SupportsIndex

import torch
from torch import Tensor

from zoo.naming import did_you_mean
from zoo.quantum import op as ops
from zoo.quantum.angle import Angle, as_angle, as_number, feature, weight
from zoo.quantum.gates import ALIASES, CHANNEL, GATES, POST_SELECT, Gate, gate_named
from zoo.quantum.integers import Wires, as_wires, integer
from zoo.quantum.op import Op
from zoo.quantum.running.methods import Simulable

__all__ = ["Angle", "Circuit", "Op", "depth", "feature", "weight"]

#: More wires than any simulation holds; what a number with a slip of the pen would ask for.
_MOST_QUBITS = 2**16


class Circuit(Simulable):
    """A list of gates on `n_qubits` wires; wire 0 is the most significant bit of a basis state.

    There is a method for every gate, which takes the angles, then the wires, and gives the circuit back:

        c = Circuit(3).h(0).rx("a", 1).pauli_rot("zx", "b", [0, 2]).rz(2 * feature(0), 2)

    An angle is a number, a name of a trainable weight (the same name again is the same weight), `weight(i)` or
    `feature(i)`, both of which may be multiplied and added to. The values come with each call as two flat vectors:
    weights (W,), or (*, W) for other weights for each sample, and inputs (*, I).

    Circuits are equal if their gates, counts and names are. As they can be added to they have no hash; `key` does.

    Args:
        n_qubits: the number of wires, at most 65536.

    Raises:
        ValueError: n_qubits < 1; wires out of range or repeated; a matrix that is not unitary (with its deviation).
    """

    def __init__(self, n_qubits: SupportsIndex):
        _leave_graph()
        self.n_qubits = integer("n_qubits", n_qubits)
        if self.n_qubits > _MOST_QUBITS:
            raise ValueError(f"a circuit has at most {_MOST_QUBITS} qubits, got {n_qubits}")
        self.n_weights = 0
        self.n_inputs = 0
        self._ops: list[Op] = []
        self._names: dict[str, int] = {}
        self._kinds: set[Gate] = set()
        self._digest = ""

    # --- Reading

    @property
    def ops(self) -> tuple[Op, ...]:
        """The gates in the order in which they act."""
        return tuple(self._ops)

    def __iter__(self) -> Iterator[Op]:
        return iter(self._ops)

    def __len__(self) -> int:
        return len(self._ops)

    @property
    def weight_names(self) -> tuple[str, ...]:
        """A name for every weight; `w3` for weight 3 if it was given none."""
        names = {place: name for name, place in self._names.items()}
        return tuple(names.get(i, f"w{i}") for i in range(self.n_weights))

    @property
    def key(self) -> str:
        """A digest of the structure, without names: circuits with equal keys compute the same function."""
        if not self._digest:
            text = json.dumps([op.to_dict() for op in self._ops])
            self._digest = hashlib.sha256(text.encode()).hexdigest()
        return f"{self.n_qubits} {self.n_weights} {self.n_inputs} {self._digest}"

    @property
    def unitary_only(self) -> bool:
        """Whether every op is a gate: no post-selection, no channel."""
        return self._kinds.isdisjoint((POST_SELECT, CHANNEL))

    @property
    def has_channels(self) -> bool:
        """Whether some op is a channel, which makes the state a mixture."""
        return CHANNEL in self._kinds

    @property
    def depth(self) -> int:
        """The number of layers, where a gate goes into the first layer that has all its wires free."""
        return depth(self._ops)

    def summary(self) -> dict[str, Any]:
        """Counts: qubits, weights, inputs, gates by name, depth, and the same for the circuit as OpenQASM writes it.

        Returns:
            `n_qubits`, `n_weights`, `n_inputs`, `n_gates`, `gates` (name -> count), `depth`, and `standard`: a dict
            with `gates` and `depth` after every gate has been written in those of `stdgates.inc`; empty with
            post-selections or channels.
        """
        from zoo.quantum.qasm.standard import NAMES, standard

        counts = Counter(op.gate.name for op in self._ops)
        written = [part.on_all_wires for part in standard(self)] if self.unitary_only else []
        standard_counts = Counter(NAMES[op.gate.name] for op in written)
        return {
            "n_qubits": self.n_qubits,
            "n_weights": self.n_weights,
            "n_inputs": self.n_inputs,
            "n_gates": len(self),
            "gates": dict(counts.most_common()),
            "depth": self.depth,
            "standard": {"gates": dict(standard_counts.most_common()), "depth": depth(written)},
        }

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Circuit) and (self.key, self.weight_names) == (other.key, other.weight_names)

    __hash__ = None  # pyright: ignore[reportAssignmentType]

    def __repr__(self) -> str:
        return (
            f"Circuit(n_qubits={self.n_qubits}, gates={len(self)}, weights={self.n_weights}, inputs={self.n_inputs}, "
            f"depth={self.depth})"
        )

    # --- Building

    def __getattr__(self, name: str) -> Callable[..., "Circuit"]:
        if name.startswith("_"):
            raise AttributeError(name)
        if hasattr(type(self), name):  # a property that failed: say why
            return object.__getattribute__(self, name)
        try:
            gate = gate_named(name)
        except ValueError:
            hint = did_you_mean(name, [*dir(self), *ALIASES])
            raise AttributeError(f"a circuit has no attribute or gate {name!r}{hint}") from None
        if not gate.unitary:
            raise AttributeError(f"{gate.name!r} is put into a circuit by the method of that name")
        return partial(self._add, gate)

    def __dir__(self) -> list[str]:
        return sorted({*super().__dir__(), *GATES})

    def _add(self, gate: Gate, *arguments: Any) -> "Circuit":
        return self.append(ops.make_op(gate, *arguments))

    def append(self, op: Op) -> "Circuit":
        """Put a gate at the end.

        Raises:
            ValueError: a wire that is out of range, or there twice.
            TypeError: no `Op`.
        """
        _leave_graph()
        if not isinstance(op, Op):
            raise TypeError(f"append takes an Op, got {op!r}; a gate is added by its method: circuit.h(0)")
        for wire in op.wires:
            if not 0 <= wire < self.n_qubits:
                raise ValueError(f"{op.gate.name} on wire {wire}: the wires are 0 to {self.n_qubits - 1}")
        if len(set(op.wires)) < len(op.wires):
            raise ValueError(f"{op.gate.name} acts on different wires, got {op.wires}")
        op = replace(op, angles=tuple(self._resolved(angle) for angle in op.angles))
        for angle in op.angles:
            if angle.source == "weight":
                self.n_weights = max(self.n_weights, angle.place + 1)
            elif angle.source == "input":
                self.n_inputs = max(self.n_inputs, angle.place + 1)
        self._ops.append(op)
        self._kinds.add(op.gate)
        self._digest = ""
        return self

    def declare(self, name: str) -> Angle:
        """The weight of that name; a new one, after all others, if none has it."""
        _leave_graph()
        if name not in self._names:
            self._names[name] = self.n_weights
            self.n_weights += 1
        return weight(self._names[name])

    def _resolved(self, angle: Angle) -> Angle:
        return replace(angle, index=self.declare(angle.index).index) if isinstance(angle.index, str) else angle

    def post_select(self, wire: int, bit: int = 0) -> "Circuit":
        """Keep the runs in which a measurement of the wire gives `bit`; the state is normalised again.

        No gate, but differentiable.
        """
        if bit not in (0, 1):
            raise ValueError(f"a bit is 0 or 1, got {bit!r}")
        op = ops.make_op(POST_SELECT, wire)
        return self.append(replace(op, word=str(int(bit))))

    def channel(self, kind: Any, *rest: Any) -> "Circuit":
        """Noise in the middle of a circuit, for the methods that simulate noise.

        Args:
            kind: a name of `zoo.quantum.noise.CHANNELS`, such as "depolarizing"; or a `Channel`, or Kraus operators.
            rest: for a name its probability, a number or an angle; then the wires.

        Raises:
            ValueError: an unknown name, a probability outside [0, 1], operators that are not complete.
        """
        from zoo.quantum.noise.channels import make_channel

        channel, angles = None, ()
        if isinstance(kind, str):
            if not rest:
                raise TypeError("channel takes a name, a probability, then wires")
            angles = (as_angle(rest[0]),)
            make_channel(kind, angles[0].offset if angles[0].source == "constant" else 0.0)
            rest = rest[1:]
        else:
            channel = make_channel(kind)
        op = ops.make_op(CHANNEL, *rest)
        if channel is None:
            return self.append(replace(op, word=kind, angles=angles))
        if channel.n_wires != len(op.wires):
            raise ValueError(f"the channel acts on {channel.n_wires} wires, got {len(op.wires)}")
        return self.append(replace(op, word="kraus", matrix=tuple(channel.kraus().flatten().tolist())))

    def compose(self, other: "Circuit", wires: Wires | None = None) -> "Circuit":
        """Put another circuit at the end of this one, which changes and is given back, as by the method of a gate.

        So calls follow each other without copies; `a + b` makes a new circuit.

        Args:
            other: its named weights are those of the same name here; its other weights and its inputs come after
                those of this circuit.
            wires: the wires here of its wires 0, 1, ...; by default the same numbers.

        Raises:
            ValueError: as many different wires as `other` has are needed, and each must be here.
            TypeError: `other` is no circuit.
        """
        if not isinstance(other, Circuit):
            raise TypeError(f"compose takes a Circuit, got {other!r}")
        places = tuple(range(other.n_qubits)) if wires is None else as_wires(wires)
        if not len(set(places)) == len(places) == other.n_qubits:
            raise ValueError(f"a circuit of {other.n_qubits} qubits goes on as many different wires, got {places}")
        if not 0 <= min(places) <= max(places) < self.n_qubits:
            raise ValueError(f"a circuit goes on wires from 0 to {self.n_qubits - 1}, got {places}")
        names = {place: name for name, place in other._names.items()}
        moved: dict[int, int] = {}
        next_weight, first_input = self.n_weights, self.n_inputs
        inputs = first_input + other.n_inputs
        for place in range(other.n_weights):
            known = self._names.get(names.get(place, ""))
            moved[place] = next_weight if known is None else known
            next_weight += known is None
        self._names |= {name: moved[place] for place, name in names.items()}

        def move(angle: Angle) -> Angle:
            if angle.source == "weight":
                return replace(angle, index=moved[angle.place])
            return replace(angle, index=angle.place + first_input) if angle.source == "input" else angle

        for op in other.ops:
            angles = tuple(move(angle) for angle in op.angles)
            self.append(replace(op, wires=tuple(places[wire] for wire in op.wires), angles=angles))
        self.n_weights = max(self.n_weights, next_weight)
        self.n_inputs = max(self.n_inputs, inputs)
        return self

    def __add__(self, other: "Circuit") -> "Circuit":
        """A new circuit: this one, then the other; see `compose`."""
        return self.copy().compose(other) if isinstance(other, Circuit) else NotImplemented

    def inverse(self) -> "Circuit":
        """The circuit that undoes this one, with the same weights and inputs."""
        return self._with([op.inverse() for op in reversed(self._ops)])

    def bind(self, values: Mapping[str, Any] | Sequence[Any] | Tensor) -> "Circuit":
        """A circuit with numbers in place of weights.

        Args:
            values: numbers for all weights in their order, or for some of them by name; the others keep their order.

        Raises:
            ValueError: another count of numbers than of weights; a name that no weight has.
            TypeError: something else than real numbers.
        """
        names = self.weight_names
        if isinstance(values, Mapping):
            for name in values:
                if name not in names:
                    raise ValueError(f"no weight is named {name!r}{did_you_mean(name, names)}")
            given = {names.index(name): value for name, value in values.items()}
        elif not hasattr(values, "__len__"):
            raise TypeError(f"weights are bound to numbers, all in their order or some by name, got {values!r}")
        elif len(values) != self.n_weights:
            raise ValueError(f"the circuit has {self.n_weights} weights, got {len(values)} values")
        else:
            given = dict(enumerate(values))
        numbers: dict[int, float] = {}
        for place, value in given.items():
            number = as_number(value)
            if number is None:
                raise TypeError(f"the weight {names[place]!r} is bound to a real number, got {value!r}")
            numbers[place] = number
        left = [place for place in range(self.n_weights) if place not in numbers]

        def put(angle: Angle) -> Angle:
            if angle.source != "weight":
                return angle
            if angle.place in numbers:
                return as_angle(angle.scale * numbers[angle.place] + angle.offset)
            return replace(angle, index=left.index(angle.place))

        bound = self._with([replace(op, angles=tuple(put(angle) for angle in op.angles)) for op in self._ops])
        bound.n_weights = len(left)
        bound._names = {name: left.index(place) for name, place in self._names.items() if place in left}
        return bound

    def copy(self) -> "Circuit":
        """A circuit with the same gates that can be added to on its own."""
        return self._with(self._ops)

    def _with(self, ops: Sequence[Op]) -> "Circuit":
        new = Circuit(self.n_qubits)
        new.n_weights, new.n_inputs, new._names = self.n_weights, self.n_inputs, dict(self._names)
        new._ops, new._kinds = list(ops), {op.gate for op in ops}
        return new

    # --- Keeping

    def to_dict(self) -> dict[str, Any]:
        """JSON-able; `Circuit.from_dict` reads it."""
        return {
            "n_qubits": self.n_qubits,
            "n_weights": self.n_weights,
            "n_inputs": self.n_inputs,
            "weight_names": dict(self._names),
            "ops": [op.to_dict() for op in self._ops],
        }

    @classmethod
    def from_dict(cls, record: Mapping[str, Any]) -> "Circuit":
        """The circuit that `to_dict` described.

        Raises:
            TypeError: no mapping.
            ValueError: parts that are missing.
        """
        if not isinstance(record, Mapping):
            raise TypeError(f"a circuit is read from what Circuit.to_dict gives, got {record!r}")
        if missing := [name for name in Circuit(1).to_dict() if name not in record]:
            raise ValueError(f"{', '.join(missing)} missing in the record of a circuit, which Circuit.to_dict writes")
        circuit = cls(record["n_qubits"])
        for op in record["ops"]:
            circuit.append(ops.op_from_dict(op))
        circuit.n_weights = max(circuit.n_weights, record["n_weights"])
        circuit.n_inputs = max(circuit.n_inputs, record["n_inputs"])
        circuit._names = dict(record["weight_names"])
        return circuit


def _leave_graph() -> None:
    """Where a circuit is made or changed while `torch.compile` traces: what is traced needs circuits that are there."""
    if torch.compiler.is_compiling():
        torch._dynamo.graph_break(msg="a circuit is built here: build it before the function that is compiled")


def depth(ops: Sequence[Op]) -> int:
    """The number of layers, where an op goes into the first layer that has all its wires free."""
    level: dict[int, int] = {}
    for op in ops:
        layer = 1 + max(level.get(wire, 0) for wire in op.wires)
        level.update(dict.fromkeys(op.wires, layer))
    return max(level.values(), default=0)
