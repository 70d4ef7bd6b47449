"""FLOPs of a network of unknown structure, counted in one forward pass."""

from typing import Any

import torch
from torch import nn

from zoo.layers.pixel_adaptive.coordinates import Size
from zoo.models.placed import example_of, placed_copy
from zoo.models.stitching.costs import OperationCount


class _Counted(OperationCount):
    """Operations, PReLUs with them."""

    def __torch_dispatch__(self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:
        out = super().__torch_dispatch__(func, types, args, kwargs)
        if getattr(func, "overloadpacket", None) is torch.ops.aten._prelu_kernel:
            self.others += out.numel()
        return out


@torch.no_grad()
def counted_flops(network: nn.Module, size: Size, in_chans: int, *, norms: bool) -> int:
    """2 for every multiply-accumulate, without computing values if the network can be run so.

    Args:
        network: in any mode; it stays as it is.
        size: height and width of the image.
        in_chans: its channels.
        norms: add what norms and PReLUs count.
    """
    try:
        count = _run(placed_copy(network, "meta"), size, in_chans)
    except RuntimeError:
        if any(p.is_meta for p in network.parameters()):
            raise
        count = _run(placed_copy(network), size, in_chans)  # it looks at values
    return 2 * count.macs + (count.others if norms else 0)


def _run(network: nn.Module, size: Size, in_chans: int) -> _Counted:
    with _Counted() as count:
        network(example_of(network, (1, in_chans, *size)))
    return count
