"""The trunk that Varifocal-Net looks with: groups of wide residual units.

The paper ("Varifocal-Net: A Chromosome Classification Approach using Deep Convolutional Networks", Qin et al., 2019,
arXiv:1810.05943) states a 3x3 stem of 16 channels, three groups of four units with 160, 320 and 640 channels, then BN
and ReLU: the trunk of WRN-28-10. The strides are our design.
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.varifocal.recomputed_unit import can_recompute, recomputed
from zoo.layers.varifocal.wide_unit import Device, WideUnit
from zoo.models.checkpointing import checkpoint_block


class WideTrunk(nn.Module):
    """Stem, three or any number of groups of wide units, BN and ReLU: a map of features.

    Shapes: (batch, in_chans, height, width) to (batch, widths[-1], height / reduction, width / reduction), rounded up.

    Args:
        in_chans: channels of the image.
        stem: channels of the first convolution.
        widths: channels of the groups.
        depths: units of each.
        strides: of the first unit of each. Our design; (1, 2, 2) are those of the wide residual networks.

    Raises:
        ValueError: not as many widths as depths and strides, or a number below 1.
    """

    def __init__(
        self,
        in_chans: int = 1,
        *,
        stem: int = 16,
        widths: Sequence[int] = (160, 320, 640),
        depths: Sequence[int] = (4, 4, 4),
        strides: Sequence[int] = (2, 2, 2),
        device: Device = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not len(widths) == len(depths) == len(strides) > 0:
            raise ValueError(
                f"widths, depths and strides must have one number a group, got {tuple(widths)}, {tuple(depths)} and "
                f"{tuple(strides)}"
            )
        if min(in_chans, stem, *widths, *depths, *strides) < 1:
            raise ValueError(
                f"channels, depths and strides must be at least 1, got in_chans={in_chans}, stem={stem}, "
                f"widths={tuple(widths)}, depths={tuple(depths)}, strides={tuple(strides)}"
            )
        dd: Any = {"device": device, "dtype": dtype}
        self.in_chans, self.num_features, self.reduction = in_chans, widths[-1], math.prod(strides)
        self.grad_checkpointing = False
        self.stem = nn.Conv2d(in_chans, stem, 3, 1, 1, bias=False, **dd)
        groups, before = [], stem
        for width, depth, stride in zip(widths, depths, strides, strict=True):
            units = [WideUnit(width if i else before, width, stride=1 if i else stride, **dd) for i in range(depth)]
            groups.append(nn.Sequential(*units))
            before = width
        self.stages = nn.Sequential(*groups)
        self.norm = nn.BatchNorm2d(before, **dd)
        nn.init.kaiming_normal_(self.stem.weight, mode="fan_out", nonlinearity="relu")

    def set_grad_checkpointing(self, enable: bool = True) -> None:
        """Recompute each unit in the backward pass instead of keeping what it computed.

        Gradients are the same to the last bit or two, and cannot be differentiated again.
        """
        self.grad_checkpointing = enable

    def forward(self, x: Float[Tensor, "batch in_chans height width"]) -> Float[Tensor, "batch dim h w"]:
        x = self.stem(x)
        for group in self.stages:
            for unit in group:  # pyright: ignore[reportGeneralTypeIssues] - a Sequential
                x = self._unit(unit, x)
        return F.relu(self.norm(x), inplace=True)

    def _unit(self, unit: nn.Module, x: Tensor) -> Tensor:
        if not (self.grad_checkpointing and self.training):
            return unit(x)
        return recomputed(unit, x) if can_recompute(unit, x) else checkpoint_block(unit, x)
