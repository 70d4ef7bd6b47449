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


def swept(steps: Sequence[Step], state: Tensor, variables: Tensors, constants: Tensors, spent: bool) -> Tensor:
    """The same with the adjoint backward pass.

    Args:
        steps: of a program.
        state: (L, 2^n, T) before them.
        variables: the tensors of the steps that carry gradients.
        constants: the other tensors of the steps.
        spent: nobody reads the state's memory afterwards.
    """
    return _Sweep.apply(steps, list(variables), constants, spent, state, *variables.values())  # pyright: ignore[reportReturnType]


class _Buffers:
    """Memory of states that takes turns, so that a sweep needs no more of it the longer it is.

    Args:
        kept: what is read afterwards.
    """

    def __init__(self, *kept: Tensor) -> None:
        self.kept = kept
        self.free: list[Tensor] = []

    def take(self, like: Tensor) -> Tensor | None:
        """Memory for a result, or None while results are recorded for a second derivative."""
        if torch.is_grad_enabled():
            return None
        return self.free.pop() if self.free else torch.empty_like(like, memory_format=torch.contiguous_format)

    def give(self, state: Tensor) -> None:
        """Take back what is no longer read."""
        if not torch.is_grad_enabled() and all(state is not other for other in self.kept):
            self.free.append(state)


def run(steps: Sequence[Step], state: Tensor, tensors: Tensors, spent: bool) -> Tensor:
    """The state after the steps, nothing recorded; `spent`: nobody reads the memory of the given one afterwards."""
    buffers = _Buffers() if spent else _Buffers(state)
    for step in steps:
        after = step.run(state, tensors, buffers.take(state))
        buffers.give(state)
        state = after
    return state


class _Sweep(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        steps: Sequence[Step],
        names: list[str],
        constants: Tensors,
        spent: bool,
        state: Tensor,
        *values: Tensor,
    ) -> Tensor:
        variables = dict(zip(names, values, strict=True))
        # Detached: its memory may come back as the result's, which is no view of it to autograd.
        final = run(steps, state.detach(), constants | variables, spent)
        ctx.steps, ctx.names, ctx.constants = steps, names, constants
        ctx.save_for_backward(final, *values)
        return final

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        (gradient,) = gradients
        state, *values = ctx.saved_tensors
        asked = ctx.needs_input_grad[5:]
        found = {
            name: torch.zeros_like(value, memory_format=torch.contiguous_format)
            for name, value, wanted in zip(ctx.names, values, asked, strict=True)
            if wanted
        }
        tensors = ctx.constants | dict(zip(ctx.names, values, strict=True))
        wants_state = ctx.needs_input_grad[4]
        buffers = _Buffers(state, gradient)
        for place in range(len(ctx.steps) - 1, -1, -1):
            step = ctx.steps[place]
            before = step.undo(state, tensors, buffers.take(state))
            step.grade(before, state, gradient, tensors, found)
            buffers.give(state)
            state = before
            if place or wants_state:
                earlier = step.undo(gradient, tensors, buffers.take(state))
                buffers.give(gradient)
                gradient = earlier
        return None, None, None, None, gradient if wants_state else None, *(found.get(name) for name in ctx.names)
