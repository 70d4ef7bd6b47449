"""A wide residual unit in training that keeps its input alone, and makes all else again in the backward pass."""

from typing import Any, TypeGuard

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from zoo.eager import autocasts, must_compose
from zoo.layers.varifocal.wide_unit import WideUnit

_CONVOLVE = torch.ops.aten.convolution_backward
_NORM = torch.ops.aten.native_batch_norm_backward


def can_recompute(unit: nn.Module, x: Tensor) -> TypeGuard[WideUnit]:
    """Whether `recomputed(unit, x)` stands for `unit(x)`: plain layers in training that nobody listens to."""
    if type(unit) is not WideUnit or must_compose(x, *unit.parameters()) or autocasts(x):
        return False
    norms, convolutions = (unit.bn1, unit.bn2), [unit.conv1, unit.conv2, *filter(None, [unit.shortcut])]
    return (
        all(type(norm) is nn.BatchNorm2d and norm.training and norm.affine for norm in norms)
        and all(type(convolution) is nn.Conv2d for convolution in convolutions)
        and not any(_listened_to(part) for part in (unit, *norms, *convolutions))
    )


def recomputed(unit: WideUnit, x: Tensor) -> Tensor:
    """`unit(x)`, of which only x is kept for the backward pass.

    That pass drops every map as soon as it can: what ReLU(BN1(x)) gave is made again for the first convolution, of
    what ReLU passed only that is kept, and gradients are changed in place. Running statistics learn once. It cannot be
    differentiated twice.

    Args:
        unit: `can_recompute` says whether.
        x: (batch, in_chans, height, width).
    """
    shortcut = None if unit.shortcut is None else unit.shortcut.weight
    norms = [value for norm in (unit.bn1, unit.bn2) for value in (norm.weight, norm.bias)]
    return _Unit.apply(x, unit.conv1.weight, unit.conv2.weight, shortcut, *norms, unit)  # pyright: ignore


class _Unit(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, first: Tensor, second: Tensor, shortcut: Tensor | None, *rest: Any) -> Tensor:
        *norms, unit = rest
        ctx.save_for_backward(x, first, second, shortcut, *norms)
        ctx.stride, ctx.eps = unit.stride, (unit.bn1.eps, unit.bn2.eps)
        p = unit.bn1(x).relu_()
        y = x if shortcut is None else unit.shortcut(p)
        h = unit.conv1(p)
        del p
        h = unit.bn2(h).relu_()
        return unit.conv2(h).add_(y)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:  # pyright: ignore[reportIncompatibleMethodOverride]
        x, first, second, shortcut, weight1, bias1, weight2, bias2 = ctx.saved_tensors
        learns, stride = ctx.needs_input_grad, [ctx.stride] * 2
        p, *stats1 = _norm(x, weight1, bias1, ctx.eps[0])
        h = torch.conv2d(p, first, None, stride, 1)
        del p
        q, *stats2 = _norm(h, weight2, bias2, ctx.eps[1])
        of_second = _of_weight(grad, q, second, [1, 1], 1) if learns[2] else None
        dead = q <= 0
        del q
        g = _of_input(grad, h, second, [1, 1], 1).masked_fill_(dead, 0)
        g, of_weight2, of_bias2 = _NORM(g, h, weight2, None, None, *stats2, True, ctx.eps[1], [True] * 3)
        del h
        p, *_ = _norm(x, weight1, bias1, ctx.eps[0])
        of_first = _of_weight(g, p, first, stride, 1) if learns[1] else None
        of_shortcut = _of_weight(grad, p, shortcut, stride, 0) if shortcut is not None and learns[3] else None
        dead = p <= 0
        del p
        g = _of_input(g, x, first, stride, 1)
        if shortcut is not None:
            g.add_(_of_input(grad, x, shortcut, stride, 0))
        g.masked_fill_(dead, 0)
        mask = [learns[0], True, True]
        g, of_weight1, of_bias1 = _NORM(g, x, weight1, None, None, *stats1, True, ctx.eps[0], mask)
        if shortcut is None and g is not None:
            g.add_(grad)
        return g, of_first, of_second, of_shortcut, of_weight1, of_bias1, of_weight2, of_bias2, None


def _norm(x: Tensor, weight: Tensor, bias: Tensor, eps: float) -> tuple[Tensor, Tensor, Tensor]:
    """ReLU of a batch norm in training, with the mean and the inverse deviation that its backward pass asks for."""
    found, mean, deviation = torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)
    return found.relu_(), mean, deviation


def _of_weight(grad: Tensor, x: Tensor, weight: Tensor, stride: list[int], padding: int) -> Tensor:
    return _CONVOLVE(grad, x, weight, None, stride, [padding] * 2, [1, 1], False, [0, 0], 1, [False, True, False])[1]


def _of_input(grad: Tensor, x: Tensor, weight: Tensor, stride: list[int], padding: int) -> Tensor:
    """The gradient of a convolution's input, which has the shape of x; its values are not read."""
    return _CONVOLVE(grad, x, weight, None, stride, [padding] * 2, [1, 1], False, [0, 0], 1, [True, False, False])[0]


def _listened_to(module: nn.Module) -> bool:
    hooks = (module._forward_hooks, module._forward_pre_hooks, module._backward_hooks, module._backward_pre_hooks)
    return any(map(bool, hooks)) or torch.nn.utils.parametrize.is_parametrized(module)
