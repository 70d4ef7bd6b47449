"""Wide residual trunks in evaluation: half of the norms are folded, and 3x3 convolutions multiply less than half.

    relu(bn2(conv1(p))) = relu(W' p + b'),      relu(bn1(x)) = relu(s x + t)

bn1 cannot go into a convolution, for x is the way past the unit, too. What a trunk of this width costs is its 3x3
convolutions of stride 1; on a CPU they run by `winograd_conv`, whose result is the same up to rounding.
"""

import copy

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.eager import autocasts, must_compose
from zoo.layers.folding import fold_after, norm_affine
from zoo.layers.varifocal.wide_unit import WideUnit
from zoo.layers.varifocal.winograd import pays, transformed_weight, winograd_conv
from zoo.models.varifocal.network import VarifocalNet
from zoo.models.varifocal.wide_trunk import WideTrunk


def folded(net: VarifocalNet, *, winograd: bool = True) -> VarifocalNet:
    """A copy for inference whose trunks, if they are the paper's, are folded; its outputs are equal up to rounding.

    It is in evaluation for good: what was folded cannot be trained, nor saved as the network.

    Args:
        net: in any mode; it stays as it is.
        winograd: run 3x3 convolutions of stride 1 on a CPU with fewer multiplications, which takes 16/9 more memory
            for their weights.

    Returns:
        The copy.

    Raises:
        TypeError: another model.
    """
    if not isinstance(net, VarifocalNet):
        raise TypeError(
            "folded() makes a fast copy of a VarifocalNet (varifocal, varifocal_chromosome, …), got "
            f"{type(net).__name__}"
        )
    trunks = [scale.trunk for scale in (net.g_net, net.l_net) if isinstance(scale.trunk, WideTrunk)]
    twin = copy.deepcopy(net, {id(trunk): FoldedTrunk(trunk, winograd=winograd) for trunk in trunks})
    vars(twin).pop("zoo_name", None)  # it cannot be made again by its name
    if cfg := getattr(twin, "pretrained_cfg", None):
        twin.pretrained_cfg = {key: value for key, value in cfg.items() if key != "architecture"}
    return twin.eval().requires_grad_(False)


class FoldedTrunk(nn.Module):
    """`WideTrunk` in evaluation.

    Args:
        trunk: whose parts are copied.
        winograd: see `folded`.
    """

    def __init__(self, trunk: WideTrunk, *, winograd: bool = True) -> None:
        super().__init__()
        self.in_chans, self.num_features, self.reduction = trunk.in_chans, trunk.num_features, trunk.reduction
        self.stem = copy.deepcopy(trunk.stem)
        units = [unit for group in trunk.stages for unit in group]  # type: ignore[attr-defined]
        self.units = nn.Sequential(*(_FoldedUnit(unit, winograd) for unit in units))
        self.norm = _ScaledReLU(trunk.norm)
        self.eval().requires_grad_(False)

    def forward(self, x: Float[Tensor, "batch in_chans height width"]) -> Float[Tensor, "batch dim h w"]:
        return self.norm(self.units(self.stem(x)))


class _FoldedUnit(nn.Module):
    """A wide unit without its second norm."""

    def __init__(self, unit: WideUnit, winograd: bool) -> None:
        super().__init__()
        self.before = _ScaledReLU(unit.bn1)
        first = copy.deepcopy(unit.conv1)
        fold_after(first, unit.bn2)
        self.conv1, self.conv2 = _Conv(first, winograd), _Conv(unit.conv2, winograd)
        self.shortcut = copy.deepcopy(unit.shortcut)

    def forward(self, x: Tensor) -> Tensor:
        p = self.before(x)
        h = self.conv2(self.conv1(p).relu_())
        return h.add_(x if self.shortcut is None else self.shortcut(p))


class _ScaledReLU(nn.Module):
    """relu(s x + t) of a batch norm in evaluation, one number a channel."""

    scale: Tensor
    shift: Tensor

    def __init__(self, norm: nn.BatchNorm2d) -> None:
        super().__init__()
        for name, value in zip(("scale", "shift"), norm_affine(norm), strict=True):
            self.register_buffer(name, value.to(norm.weight)[:, None, None].detach())

    def forward(self, x: Tensor) -> Tensor:
        return torch.addcmul(self.shift, x, self.scale).relu_()


class _Conv(nn.Module):
    """A 3x3 convolution, by Winograd's algorithm where that is possible and pays."""

    transformed: Tensor | None

    def __init__(self, conv: nn.Conv2d, winograd: bool) -> None:
        super().__init__()
        self.conv = copy.deepcopy(conv)
        weight = self.conv.weight
        able = winograd and self.conv.stride == (1, 1) and pays(weight)
        self.register_buffer("transformed", transformed_weight(weight.detach()) if able else None)

    def forward(self, x: Tensor) -> Tensor:
        if self.transformed is None or not self._is_plain(x):
            return F.conv2d(x, self.conv.weight, self.conv.bias, self.conv.stride, 1)
        return winograd_conv(x, self.transformed, self.conv.bias)

    def _is_plain(self, x: Tensor) -> bool:
        """Numbers on a CPU, of the weights' precision, that nothing is learnt from."""
        if must_compose(x) or autocasts(x) or x.device.type != "cpu" or x.dtype != self.conv.weight.dtype:
            return False
        return x.numel() > 0 and not (torch.is_grad_enabled() and x.requires_grad)
