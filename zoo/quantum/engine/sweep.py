"""A program run on states: forward, and backward with the states recomputed by undoing the steps (adjoint method).

What is kept for backward is the final state and the matrices, however many steps there are.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from zoo.quantum.engine.steps import Step, Tensors


def composed(steps: Sequence[Step], state: Tensor, tensors: Tensors) -> Tensor:
    """(L, 2^n, T) after the steps, by operations that autograd follows."""
    for step in steps:
        state = step.run(state, tensors)
    return state


def swept(steps: Sequence[Step], state: Tensor, variables: Tensors, constants: Tensors) -> Tensor:
    """The same with the adjoint backward pass.

    Args:
        steps: of a program.
        state: (L, 2^n, T) before them.
        variables: the tensors of the steps that carry gradients.
        constants: the other tensors of the steps.
    """
    return _Sweep.apply(steps, list(variables), constants, state, *variables.values())  # pyright: ignore[reportReturnType]


class _Buffers:
    """Two states that take turns, so that a sweep needs no more memory the longer it is."""

    def __init__(self) -> None:
        self.free: list[Tensor] = []

    def take(self, like: Tensor) -> Tensor | None:
        """Memory for a result, or None while results are recorded for a second derivative."""
        if torch.is_grad_enabled():
            return None
        return self.free.pop() if self.free else torch.empty_like(like, memory_format=torch.contiguous_format)

    def give(self, state: Tensor, kept: Tensor) -> None:
        """Take back what is no longer read, unless it is `kept`."""
        if state is not kept and not torch.is_grad_enabled():
            self.free.append(state)


def run(steps: Sequence[Step], state: Tensor, tensors: Tensors) -> Tensor:
    """The state after the steps, nothing recorded."""
    buffers, first = _Buffers(), state
    for step in steps:
        after = step.run(state, tensors, buffers.take(state))
        buffers.give(state, first)
        state = after
    return state


class _Sweep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, steps: Sequence[Step], names: list[str], constants: Tensors, state: Tensor, *values: Tensor
    ) -> Tensor:
        variables = dict(zip(names, values, strict=True))
        final = run(steps, state, constants | variables)
        ctx.steps, ctx.names, ctx.constants = steps, names, constants
        ctx.save_for_backward(final, *values)
        return final if final is not state else final.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        state, *values = ctx.saved_tensors
        asked = ctx.needs_input_grad[4:]
        found = {
            name: torch.zeros_like(value, memory_format=torch.contiguous_format)
            for name, value, wanted in zip(ctx.names, values, asked, strict=True)
            if wanted
        }
        tensors = ctx.constants | dict(zip(ctx.names, values, strict=True))
        wants_state = ctx.needs_input_grad[3]
        buffers, final, last = _Buffers(), state, gradient
        for place in range(len(ctx.steps) - 1, -1, -1):
            step = ctx.steps[place]
            before = step.undo(state, tensors, buffers.take(state))
            step.grade(before, state, gradient, tensors, found)
            if place or wants_state:
                earlier = step.undo(gradient, tensors, buffers.take(state))
                buffers.give(gradient, last)
                gradient = earlier
            buffers.give(state, final)
            state = before
        return None, None, None, gradient if wants_state else None, *(found.get(name) for name in ctx.names)
