"""A copy of a network to run by itself: in evaluation mode, on another device or in another precision."""

import copy
from typing import Any

import torch
from torch import Tensor, nn


def placed_copy(
    model: nn.Module, device: torch.device | str | None = None, dtype: torch.dtype | None = None
) -> nn.Module:
    """A copy in evaluation mode that shares the tensors which already are where and as they should be.

    Running it changes nothing of the model: neither modes nor what modules keep for evaluation.

    Args:
        model: the network.
        device: of the copy; "meta" for one without values. None: as they are.
        dtype: of floating-point tensors; None: as they are.
    """
    memo: dict[int, Any] = {}
    for tensor in (*model.parameters(), *model.buffers()):
        placed = tensor.detach().to(device=device, dtype=dtype if tensor.is_floating_point() else None)
        memo[id(tensor)] = nn.Parameter(placed, requires_grad=False) if isinstance(tensor, nn.Parameter) else placed
    memo |= {number: tensor.to(device=device, dtype=dtype) for number, tensor in computed_tensors(model).items()}
    return copy.deepcopy(model, memo).eval()


def computed_tensors(model: nn.Module) -> dict[int, Tensor]:
    """Copies of what modules computed and keep for evaluation, such as biases of attention, by identity.

    As a memo of `copy.deepcopy`: it refuses to copy what has a gradient to pass on.
    """
    found: dict[int, Tensor] = {}
    for module in model.modules():
        for value in vars(module).values():
            inner = value.values() if isinstance(value, dict) else [value]
            found |= {id(t): t.detach().clone() for t in inner if isinstance(t, Tensor) and not t.is_leaf}
    return found


def example_of(model: nn.Module, shape: tuple[int, ...]) -> Tensor:
    """Random images for a model, on its device and in its precision."""
    like = next((p for p in model.parameters() if p.is_floating_point()), torch.empty(0))
    return torch.randn(shape, device=like.device, dtype=like.dtype)
