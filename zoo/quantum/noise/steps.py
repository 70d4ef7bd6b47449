"""A circuit with its noise as a list of steps: matrices, channels and post-selections in order."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from zoo.quantum.circuit import Circuit
from zoo.quantum.gates import complex_type
from zoo.quantum.matrices import op_matrices
from zoo.quantum.noise.channels import Channel, kraus_of
from zoo.quantum.noise.model import NoiseModel
from zoo.quantum.op import Op
from zoo.quantum.reference import angle_value


@dataclass(frozen=True)
class Step:
    """A matrix (d, d) or (B, d, d), or Kraus operators (K, d, d) or (B, K, d, d), or neither: a post-selection."""

    op: Op
    wires: tuple[int, ...]
    matrix: Tensor | None = None
    kraus: Tensor | None = None


def steps(circuit: Circuit, weights: Tensor, inputs: Tensor, noise: NoiseModel | None) -> Iterator[Step]:
    """The ops of the circuit, each gate followed by the channels of the noise model.

    Args:
        circuit: with explicit channels or without.
        weights: (W,) or (B, W).
        inputs: (I,) or (B, I).
        noise: channels after gates; None for those of the circuit alone.
    """
    matrices = op_matrices(circuit.ops, weights, inputs)
    dtype, device = complex_type(weights.dtype), weights.device
    made: dict[Channel, Tensor] = {}
    for op, matrix in zip(circuit.ops, matrices, strict=True):
        if op.gate.name == "post_select":
            yield Step(op, op.wires)
        elif op.gate.name == "channel" and op.matrix:
            dim = 2 ** len(op.wires)
            yield Step(op, op.wires, kraus=op.given.reshape(-1, dim, dim).to(device, dtype))
        elif matrix is None:
            kraus = kraus_of(op.word, angle_value(op.angles[0], weights, inputs))
            for wire in op.wires:  # named channels are of one wire
                yield Step(op, (wire,), kraus=kraus)
        else:
            yield Step(op, op.wires, matrix=matrix)
            for channel, wires in noise.following(op.gate.name, op.wires) if noise else ():
                if channel not in made:
                    made[channel] = channel.kraus(dtype, device)
                yield Step(op, wires, kraus=made[channel])
