"""CARN-M: residual blocks whose results all go on to everything after them.

"Fast, Accurate, and Lightweight Super-Resolution with Cascading Residual Network", Ahn, Kang and Sohn, ECCV 2018,
arXiv:1803.08664.
"""

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.models.super_resolution.network import SuperResolutionNet
from zoo.weight_cache import WeightCache


class CARN(SuperResolutionNet):
    """conv 3x3, then three blocks in a cascade, each a cascade of one unit applied three times.

    A cascade: o_k = fuse_k([o_0, u_1, ..., u_k]) with u_k = unit_k(o_{k-1}), and `fuse` a 1x1 convolution, batch norm
    and ReLU. The unit: relu(x + conv 1x1(relu(grouped conv 3x3(relu(grouped conv 3x3(x)))))).

    As the authors of PCSR have it: with batch norm, which the paper's network has not, and one unit in a block.

    Args:
        scale: 2, 3, 4 or 8.
        nf: width.
        group: groups of the 3x3 convolutions in units and tail.
        in_chans, mean, std, no_upsampling: as in `SuperResolutionNet`.
    """

    scales: ClassVar[tuple[int, ...]] = (2, 3, 4, 8)

    def __init__(
        self,
        scale: int = 4,
        *,
        nf: int = 64,
        group: int = 4,
        in_chans: int = 3,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        no_upsampling: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(scale, in_chans, nf, mean, std, no_upsampling)
        place: Any = {"device": device, "dtype": dtype}
        self.entry = nn.Conv2d(in_chans, nf, 3, padding=1, **place)
        self.b1, self.b2, self.b3 = (CascadingBlock(nf, group, **place) for _ in range(3))
        self.c1, self.c2, self.c3 = (_fusion(parts * nf, nf, place) for parts in (2, 3, 4))
        if not no_upsampling:
            self.upsample = _Upsample(nf, scale, group, place)
            self.exit = nn.Conv2d(nf, in_chans, 3, padding=1, **place)
        self.folded = WeightCache()  # of `folding`

    def reset_parameters(self) -> None:
        """Everything as torch draws it."""
        for part in self.modules():
            if isinstance(part, nn.Conv2d | nn.BatchNorm2d):
                part.reset_parameters()

    def forward_features(
        self, x: Float[Tensor, "batch in_chans height width"]
    ) -> Float[Tensor, "batch nf height width"]:
        return cascade(self.entry(x), (self.b1, self.b2, self.b3), (self.c1, self.c2, self.c3))

    def forward_tail(
        self, features: Float[Tensor, "batch nf height width"], x: Float[Tensor, "batch in_chans height width"]
    ) -> Float[Tensor, "batch in_chans new_height new_width"]:
        return self.exit(self.upsample(features))


class CascadingBlock(nn.Module):
    """A cascade of one unit that is applied three times."""

    def __init__(self, nf: int, group: int, **place: Any) -> None:
        super().__init__()
        self.b1 = ResidualUnit(nf, group, **place)
        self.c1, self.c2, self.c3 = (_fusion(parts * nf, nf, place) for parts in (2, 3, 4))

    def forward(self, x: Float[Tensor, "batch nf height width"]) -> Float[Tensor, "batch nf height width"]:
        return cascade(x, (self.b1,) * 3, (self.c1, self.c2, self.c3))


class ResidualUnit(nn.Module):
    """relu(x + conv 1x1(relu(grouped conv 3x3(relu(grouped conv 3x3(x))))))."""

    def __init__(self, nf: int, group: int, **place: Any) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(nf, nf, 3, padding=1, groups=group, **place),
            nn.ReLU(),
            nn.Conv2d(nf, nf, 3, padding=1, groups=group, **place),
            nn.ReLU(),
            nn.Conv2d(nf, nf, 1, **place),
        )

    def forward(self, x: Float[Tensor, "batch nf height width"]) -> Float[Tensor, "batch nf height width"]:
        return (self.body(x) + x).relu()


class _Upsample(nn.Module):
    """The layers before the last one, under the names that they have in the authors' files."""

    def __init__(self, nf: int, scale: int, group: int, place: dict[str, Any]) -> None:
        super().__init__()
        steps = [3] if scale == 3 else [2] * (scale.bit_length() - 1)
        layers: list[nn.Module] = []
        for step in steps:
            layers += [
                nn.Conv2d(nf, step * step * nf, 3, padding=1, groups=group, **place),
                nn.ReLU(),
                nn.PixelShuffle(step),
            ]
        self.up = nn.Module()
        self.up.body = nn.Sequential(*layers)

    def forward(self, x: Float[Tensor, "batch nf height width"]) -> Float[Tensor, "batch nf new_height new_width"]:
        return self.up.get_submodule("body")(x)


def cascade(
    x: Tensor, units: Sequence[Callable[[Tensor], Tensor]], fusions: Sequence[Callable[[Tensor], Tensor]]
) -> Tensor:
    """o_k = fusion_k([x, u_1, ..., u_k]) with u_k = unit_k(o_{k-1}); the last of them."""
    out, all_of_them = x, x
    for unit, fusion in zip(units, fusions, strict=True):
        all_of_them = torch.cat([all_of_them, unit(out)], 1)
        out = fusion(all_of_them)
    return out


def _fusion(given: int, nf: int, place: dict[str, Any]) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(given, nf, 1, bias=False, **place), nn.BatchNorm2d(nf, **place), nn.ReLU())
