"""Counts multiply-accumulates of one forward pass, by what each layer computes rather than by how.

Convolutions and linear maps count one per weight use, KAN layers as the linear map over their basis, attention also
its scores and weighted sums (2 N M C for N queries with M keys each). Norms, activations and pools count nothing.
"""

import math
from collections import Counter

import torch
from torch import nn

from zoo.layers.kan import FasterKANLayer
from zoo.layers.kan.conv.expanded import ExpandedConv2d
from zoo.layers.medvit2_parts import PooledAttention
from zoo.layers.neighborhood import NeighborhoodAttention2d


def count_macs(model: nn.Module, size: tuple[int, ...]) -> Counter[str]:
    """MACs of one image of `size` (C, H, W), by the name of the module that spends them."""
    counts: Counter[str] = Counter()

    def hook(name: str):
        def record(module, args, out) -> None:
            x = args[0]
            if isinstance(module, nn.Conv2d):
                counts[name] += out.numel() * module.weight[0].numel()
            elif isinstance(module, ExpandedConv2d):  # the two kernels that it merges; it calls neither
                positions = out[:, 0].numel()
                counts[name] += positions * (module.base_conv.weight.numel() + module.basis_conv.weight.numel())
            elif isinstance(module, nn.Linear):
                counts[name] += out.numel() * module.in_features
            elif isinstance(module, FasterKANLayer):
                counts[name] += out.numel() * module.spline_linear.in_features
            elif isinstance(module, NeighborhoodAttention2d):
                counts[name] += 2 * x.numel() * math.prod(module.kernel_size)
            elif isinstance(module, PooledAttention):
                counts[name] += 2 * x.numel() * (x.shape[1] // module.group)

        return record

    kinds = (nn.Conv2d, nn.Linear, FasterKANLayer, ExpandedConv2d, NeighborhoodAttention2d, PooledAttention)
    handles = [m.register_forward_hook(hook(n)) for n, m in model.named_modules() if isinstance(m, kinds)]
    try:
        with torch.no_grad():
            model.eval()(torch.zeros(1, *size, device=next(model.parameters()).device))
    finally:
        for handle in handles:
            handle.remove()
    return counts
