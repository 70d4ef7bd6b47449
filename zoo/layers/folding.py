"""Folding batch norms into the convolutions and linear maps beside them, exact in evaluation."""

import torch
from torch import Tensor, nn


def norm_affine(norm: nn.Module) -> tuple[Tensor, Tensor]:
    """Scale and shift of an evaluating batch norm, in float64: `y = scale * x + shift` per channel.

    Raises:
        ValueError: the norm keeps no running statistics.
    """
    mean, var = getattr(norm, "running_mean", None), getattr(norm, "running_var", None)
    if not isinstance(mean, Tensor) or not isinstance(var, Tensor):
        raise ValueError(f"only a batch norm with running statistics can be folded, got {norm}")
    weight, bias = norm.weight, norm.bias
    scale = torch.rsqrt(var.double() + float(norm.eps))  # pyright: ignore[reportArgumentType]
    if isinstance(weight, Tensor):
        scale = scale * weight.double()
    shift = -mean.double() * scale
    return scale, shift + bias.double() if isinstance(bias, Tensor) else shift


@torch.no_grad()
def fold_after(layer: nn.Module, norm: nn.Module) -> None:
    """Make `layer` compute `norm(layer(x))`. The layer gains a bias if it had none; its dtype stays.

    Args:
        layer: Conv1d/2d/3d or Linear, changed in place.
        norm: the batch norm behind it; replace it by `nn.Identity` afterwards.
    """
    scale, shift = norm_affine(norm)
    weight, bias = layer.weight, layer.bias
    assert isinstance(weight, Tensor)
    shape = (-1,) + (1,) * (weight.ndim - 1)
    folded = weight.double() * scale.view(shape)
    if isinstance(bias, Tensor):
        shift = shift + bias.double() * scale
    _store(layer, folded, shift)


@torch.no_grad()
def fold_before(norm: nn.Module, layer: nn.Linear) -> None:
    """Make the linear `layer` compute `layer(norm(x))`, `norm` being a batch norm over x's last axis."""
    scale, shift = norm_affine(norm)
    weight = layer.weight.double()
    added = weight @ shift
    _store(layer, weight * scale, added if layer.bias is None else added + layer.bias.double())


def _store(layer: nn.Module, weight: Tensor, bias: Tensor) -> None:
    old = layer.weight
    assert isinstance(old, nn.Parameter)
    layer.weight = nn.Parameter(weight.to(old), requires_grad=old.requires_grad)
    layer.bias = nn.Parameter(bias.to(old), requires_grad=old.requires_grad)
