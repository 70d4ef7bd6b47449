"""Results of angles whose gradient is computed by hand: far fewer operations than autograd would record."""

from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor

from zoo.eager import must_compose


@runtime_checkable
class Pulled(Protocol):
    def make(self, vector: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """The result, by operations that autograd can follow, and what `pull` reads of the way."""
        ...

    def pull(self, vector: Tensor, kept: tuple[Tensor, ...], gradient: Tensor) -> Tensor:
        """The gradient of the vector of angles from that of the result."""
        ...


def made(source: Pulled, vector: Tensor) -> Tensor:
    """What `source` makes of a vector of angles, with its own gradient; not where only composed operations will do."""
    if torch.is_grad_enabled() and vector.requires_grad:
        return _Made.apply(source, vector)  # pyright: ignore[reportReturnType]
    return source.make(vector)[0]


class _Made(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, source: Pulled, vector: Tensor) -> Tensor:
        result, kept = source.make(vector)
        ctx.source = source
        ctx.save_for_backward(vector, *kept)
        return result

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[None, Tensor]:
        vector, *kept = ctx.saved_tensors
        again = torch.is_grad_enabled()
        batched = is_legacy_batchedtensor(gradients[0])  # by `is_grads_batched`
        if not (again or batched or must_compose(*gradients)):
            return None, ctx.source.pull(vector, tuple(kept), *gradients)
        with torch.enable_grad():  # for a second derivative, or for many gradients at once
            result, _ = ctx.source.make(vector)
            return None, torch.autograd.grad(result, vector, *gradients, create_graph=again)[0]
