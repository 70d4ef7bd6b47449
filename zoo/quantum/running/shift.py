"""Gradients from further runs of a circuit: parameter shift, finite differences, simultaneous perturbation.

They need nothing of a circuit but its results: they are how a gradient is had from a device, or from a number of shots.
Every use of an angle is moved on its own; scales, and weights that are used more than once, follow by the chain rule.

Parameter shift is exact. A rotation, whose expectations go as a sine of its angle, takes two runs; a controlled one,
with two frequencies, takes four:

    f'(t) = 1/2 [f(t + pi/2) - f(t - pi/2)]
    f'(t) = c1 [f(t + pi/2) - f(t - pi/2)] - c2 [f(t + 3 pi/2) - f(t - 3 pi/2)],   c1, c2 = (sqrt(2) +- 1) / (4 sqrt(2))

Source: Schuld et al. (2019, arXiv 1811.11184); Anselmetti et al. (2021, arXiv 2104.05695); Spall (1992) for SPSA.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from zoo.quantum.angle import Angle, weight
from zoo.quantum.circuit import Circuit
from zoo.quantum.running.call import Call

METHODS = ("parameter_shift", "finite_diff", "spsa")
#: (distance, factor) of f(t + distance) - f(t - distance), by the frequencies of the gate.
_TERMS: dict[tuple[float, ...], tuple[tuple[float, float], ...]] = {
    (1.0,): ((math.pi / 2, 0.5),),
    (0.5, 1.0): (
        (math.pi / 2, (math.sqrt(2) + 1) / (4 * math.sqrt(2))),
        (3 * math.pi / 2, -(math.sqrt(2) - 1) / (4 * math.sqrt(2))),
    ),
}
#: Complex numbers of moved circuits that are held at once.
_AT_ONCE = 2**22
Measure = Callable[[Call], Tensor]


@dataclass(frozen=True)
class Slot:
    """One use of an angle: where its value comes from, and the frequencies of its gate."""

    angle: Angle
    frequencies: tuple[float, ...]


def unrolled(circuit: Circuit, sources: set[str]) -> tuple[Circuit, list[Slot]]:
    """The circuit with a weight of its own for every use of an angle from `sources`, and these uses.

    The weights that are no such angle come after those.
    """
    slots = [Slot(angle, op.gate.frequencies) for op in circuit for angle in op.angles if angle.source in sources]
    place = iter(range(len(slots)))

    def moved(angle: Angle) -> Angle:
        if angle.source in sources:
            return weight(next(place))
        return replace(angle, index=len(slots) + angle.place) if angle.source == "weight" else angle

    new = Circuit(circuit.n_qubits)
    for op in circuit:
        new.append(replace(op, angles=tuple(moved(angle) for angle in op.angles)))
    new.n_weights, new.n_inputs = len(slots) + circuit.n_weights, circuit.n_inputs
    return new, slots


def shifted(
    measure: Measure,
    call: Call,
    method: str,
    *,
    size: int,
    step: float | None = None,
    directions: int = 1,
    generator: torch.Generator | None = None,
) -> Tensor:
    """`measure(call)`, with gradients in weights and inputs from further runs.

    Args:
        measure: call -> (B, ...) expectations or probabilities.
        call: the tensors.
        method: one of `METHODS`.
        size: the complex numbers that one run of one sample holds.
        step: how far "finite_diff" and "spsa" move the angles; by default the cube root of the type's precision, which
            balances rounding against curvature.
        directions: how many "spsa" takes the mean of.
        generator: draws the directions of "spsa".

    Raises:
        ValueError: a state that wants a gradient; for parameter shift a post-selection, or a channel whose strength is
            a weight or a feature: results are no sines of these; a gradient by a transform of `torch.func`.
    """
    if call.state is not None and call.state.requires_grad:
        raise ValueError(f"diff_method={method!r} gives no gradient for the state; use 'adjoint' or 'backprop'")
    tensors = {"weight": call.weights, "input": call.inputs}
    sources = {name for name, tensor in tensors.items() if tensor.requires_grad}
    if not (torch.is_grad_enabled() and sources):
        return measure(call)
    if torch._C._are_functorch_transforms_active():
        raise ValueError(
            f"diff_method={method!r} runs the circuit again in a backward pass, which torch.func does not have; "
            "under torch.func take diff_method='auto', whose gradients are exact"
        )
    circuit, slots = unrolled(call.circuit, sources)
    if method == "parameter_shift":
        _check_shiftable(call.circuit, sources)
    values = [
        slot.angle.scale * tensors[slot.angle.source][..., slot.angle.place] + slot.angle.offset for slot in slots
    ]
    batch = call.batch
    if not values or not batch:
        # The gradient is zero: of no samples, or of vectors without a use.
        return measure(call) + sum((0 * tensors[name]).sum() for name in sources)
    angles = torch.stack([value.expand(batch) for value in values], dim=-1)

    def run(angles: Tensor) -> Tensor:
        """(R * B, A) angles, sample by sample within each run -> (R * B, ...)."""
        times = len(angles) // batch
        old = call.weights.detach().expand(batch, -1).repeat(times, 1)
        rows = replace(call, inputs=call.inputs.detach()).repeated(times, None)
        return measure(replace(rows, circuit=circuit, weights=torch.cat([angles, old], dim=-1)))

    distance = torch.finfo(angles.dtype).eps ** (1 / 3) if step is None else step
    frequencies = [slot.frequencies for slot in slots]
    rule = _Rule(run, frequencies, method, distance, directions, generator, size)
    return _Shift.apply(angles, rule)


def _check_shiftable(circuit: Circuit, sources: set[str]) -> None:
    for op in circuit:
        moves = any(angle.source in sources for angle in op.angles)
        if op.gate.name == "post_select" or (op.gate.name == "channel" and moves):
            raise ValueError(
                f"parameter shift needs expectations that are sines of the angles; {op.gate.name} makes them others: "
                "use diff_method='backprop' or 'finite_diff'"
            )


@dataclass
class _Rule:
    run: Callable[[Tensor], Tensor]
    frequencies: list[tuple[float, ...]]
    method: str
    step: float
    directions: int
    generator: torch.Generator | None
    size: int

    def pull_back(self, angles: Tensor, cotangent: Tensor, again: Callable[[Tensor], Tensor]) -> Tensor:
        """(B, A) gradient of (run(angles) * cotangent).sum()."""
        moves, factors = self.moves(angles)
        batch, each = len(angles), max(1, _AT_ONCE // (self.size * 2 * len(angles)))
        parts = []
        for some in moves.split(each):
            both = torch.cat([angles + some, angles - some]).flatten(0, 1)
            plus, minus = again(both).unflatten(0, (2, len(some), batch))
            parts.append(((plus - minus) * cotangent).flatten(2).sum(-1))
        change = torch.cat(parts)
        return (change[..., None] * factors).sum(0)

    def moves(self, angles: Tensor) -> tuple[Tensor, Tensor]:
        """(R, 1 or B, A) displacements, and by what the R differences of values go into each angle's gradient."""
        count, step = angles.shape[-1], self.step
        if self.method == "spsa":
            shape = (self.directions, *angles.shape)
            signs = torch.randint(0, 2, shape, generator=self.generator, device=angles.device).to(angles) * 2 - 1
            return step * signs, signs / (2 * step * self.directions)
        if self.method == "finite_diff":
            terms = [(place, step, 1 / (2 * step)) for place in range(count)]
        else:
            terms = [(place, *term) for place, f in enumerate(self.frequencies) for term in _TERMS[f]]
        move, factor = angles.new_zeros(len(terms), 1, count), angles.new_zeros(len(terms), 1, count)
        for row, (place, distance, size) in enumerate(terms):
            move[row, 0, place], factor[row, 0, place] = distance, size
        return move, factor


class _Shift(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, angles: Tensor, rule: _Rule) -> Tensor:
        ctx.save_for_backward(angles)
        ctx.rule = rule
        return rule.run(angles)

    @staticmethod
    def backward(ctx: Any, *cotangents: Tensor) -> tuple[Tensor, None]:
        (angles,) = ctx.saved_tensors
        rule = ctx.rule

        def again(angles: Tensor) -> Tensor:
            # A gradient of the gradient is had the same way.
            return _Shift.apply(angles, rule) if torch.is_grad_enabled() else rule.run(angles)

        return rule.pull_back(angles, cotangents[0], again), None
