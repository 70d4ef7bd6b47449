"""The wide residual unit.

    p = ReLU(BN1(x)),   h = conv2(ReLU(BN2(conv1(p)))),   y = h + x,  or  h + shortcut(p)

The shortcut, a 1x1 convolution that is fed by p and not by x, is there where channels or size change.

"Wide Residual Networks", Zagoruyko and Komodakis, 2016, arXiv:1605.07146.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

Device = torch.device | str | None


class WideUnit(nn.Module):
    """y = conv2(ReLU(BN2(conv1(p)))) + x with p = ReLU(BN1(x)); shortcut(p) in the place of x where shapes differ.

    Shapes: (batch, in_chans, height, width) to (batch, out_chans, ceil(height / stride), ceil(width / stride)).

    Args:
        in_chans: channels of x.
        out_chans: channels of y.
        stride: of the first convolution.

    Raises:
        ValueError: a size below 1.
    """

    def __init__(
        self, in_chans: int, out_chans: int, *, stride: int = 1, device: Device = None, dtype: torch.dtype | None = None
    ) -> None:
        super().__init__()
        if min(in_chans, out_chans, stride) < 1:
            raise ValueError(
                f"in_chans, out_chans and stride must be at least 1, got {in_chans}, {out_chans} and {stride}"
            )
        dd: Any = {"device": device, "dtype": dtype}
        self.in_chans, self.out_chans, self.stride = in_chans, out_chans, stride
        self.bn1 = nn.BatchNorm2d(in_chans, **dd)
        self.conv1 = nn.Conv2d(in_chans, out_chans, 3, stride, 1, bias=False, **dd)
        self.bn2 = nn.BatchNorm2d(out_chans, **dd)
        self.conv2 = nn.Conv2d(out_chans, out_chans, 3, 1, 1, bias=False, **dd)
        same = in_chans == out_chans and stride == 1
        self.shortcut = None if same else nn.Conv2d(in_chans, out_chans, 1, stride, bias=False, **dd)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Convolutions Kaiming normal by their outputs, norms 1 and 0."""
        for part in self.children():
            if isinstance(part, nn.Conv2d):
                nn.init.kaiming_normal_(part.weight, mode="fan_out", nonlinearity="relu")
            elif isinstance(part, nn.BatchNorm2d):
                part.reset_parameters()

    def forward(self, x: Float[Tensor, "batch in_chans height width"]) -> Float[Tensor, "batch out_chans h w"]:
        p = F.relu(self.bn1(x), inplace=True)
        h = self.conv2(F.relu(self.bn2(self.conv1(p)), inplace=True))
        return h + (x if self.shortcut is None else self.shortcut(p))

    def extra_repr(self) -> str:
        return f"{self.in_chans}, {self.out_chans}, stride={self.stride}"
