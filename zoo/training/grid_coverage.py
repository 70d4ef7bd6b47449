"""A word of warning where much of what the B-splines of a KAN get lies outside of their grid."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from zoo.layers.kan import BSplineBasis, KANLinear
from zoo.layers.kan.life.coverage import coverage
from zoo.layers.modes import evaluating

_ENOUGH = 0.9


def coverage_notes(net: nn.Module, images: Callable[[], Tensor]) -> list[str]:
    """A note for the user if a KAN layer of B-splines finds less than 90 % of its inputs in its grid, or none.

    Args:
        net: the model; without such layers nothing is done.
        images: makes some training images as the model takes them.
    """
    layers: dict[nn.Module, str] = {
        module: name
        for name, module in net.named_modules()
        if isinstance(module, KANLinear) and isinstance(module.basis, BSplineBasis)
    }
    if not layers:
        return []
    shares: dict[nn.Module, float] = {}

    def look(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        shares[layer] = min(coverage(layer, inputs[0].flatten(0, -2)), shares.get(layer, 1.0))

    hooks = [layer.register_forward_pre_hook(look) for layer in layers]
    try:
        with torch.no_grad(), evaluating(net):
            net(images())
    finally:
        for hook in hooks:
            hook.remove()
    low = {layers[layer]: share for layer, share in shares.items() if share < _ENOUGH}
    if not low:
        return []
    worst = min(low, key=low.__getitem__)
    others = f" (and less than 90 % in {len(low) - 1} more)" if len(low) > 1 else ""
    return [
        f"only {low[worst]:.0%} of the inputs of {worst or 'the model'} lie in its grid{others}: outside of it the "
        "splines are 0 and only the base branch learns. Scale the inputs, make grid_range wider, give norm='layer', "
        "or call update_grid(inputs) of the layer before training"
    ]
