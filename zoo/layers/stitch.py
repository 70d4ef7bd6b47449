"""The stitching layer: a learnt linear map from the features of one network to those of another.

    y = W x + b,                 W (out_dim, in_dim), at every token or place of a map

It starts as the least-squares map between the two networks' features on a few images, which `StitchLayer.fit` finds:

    min_A |[X 1] A - Y|^2,       W^T = A without its last row, b = that row

With `lora_rank` r, W stays as it is and a product of two small matrices learns beside it: y = (W + B A / r) x + b.

"Stitchable Neural Networks", Pan, Cai and Zhuang, CVPR 2023, arXiv:2302.06586; the small matrices, and maps in both
directions: "Stitched ViTs are Flexible Vision Backbones", Pan et al., ECCV 2024, arXiv:2307.00154.
"""

import math
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.least_squares import NormalEquations
from zoo.naming import did_you_mean

#: The layouts of features, by name.
LAYOUTS = {
    "tokens": "(batch, tokens, channels)",
    "nhwc": "(batch, height, width, channels)",
    "nchw": "(batch, channels, height, width)",
}
_MOST_PREFIX = 16  # class and register tokens: no network has more, so a larger surplus of tokens is something else


class StitchLayer(nn.Module):
    """y = W x + b at every token or place, in the layout of the network that goes on.

    Shapes: (batch, tokens, in_dim), (batch, height, width, in_dim) or (batch, in_dim, height, width) to any of the
    three with out_dim, as `layout` and `end_layout` say. The tokens of a map are its rows, one after the other.

    Args:
        in_dim: channels of the front network.
        out_dim: channels of the end network.
        layout: of the front's features, "tokens", "nhwc" or "nchw"; with "nchw" W is the weight of a 1x1 convolution.
        end_layout: of the end's features; the front's if None.
        grid: height and width of the map that tokens become; a square if None.
        lora_rank: rank of the product that learns beside a frozen W; with 0 W itself learns. The product is never
            added to the stored W, in evaluation neither: `merged` gives a layer in which it is.
        bias: add b.

    Raises:
        ValueError: a size below 1, a negative rank, an unknown layout, or a grid where no tokens become a map.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        *,
        layout: str = "tokens",
        end_layout: str | None = None,
        grid: Sequence[int] | None = None,
        lora_rank: int = 0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if in_dim < 1 or out_dim < 1:
            raise ValueError(f"in_dim and out_dim must be at least 1, got {in_dim} and {out_dim}")
        if lora_rank < 0:
            raise ValueError(f"lora_rank must be at least 0, got {lora_rank}")
        end_layout = layout if end_layout is None else end_layout
        _check_layout(layout)
        _check_layout(end_layout)
        if grid is not None and (layout != "tokens" or end_layout == "tokens"):
            raise ValueError(f"grid is for tokens that become a map, not for {layout!r} to {end_layout!r}")
        if grid is not None and (len(grid) != 2 or min(grid) < 1):
            raise ValueError(f"grid must be (height, width), both at least 1, got {tuple(grid)}")
        self.in_dim, self.out_dim, self.lora_rank = in_dim, out_dim, lora_rank
        self.layout, self.end_layout = layout, end_layout
        self.grid = None if grid is None else (grid[0], grid[1])
        options: Any = {"bias": bias, "device": device, "dtype": dtype}
        if lora_rank:
            self.transform = _LowRank(in_dim, out_dim, lora_rank, convolution=layout == "nchw", **options)
        elif layout == "nchw":
            self.transform = nn.Conv2d(in_dim, out_dim, 1, **options)
        else:
            self.transform = nn.Linear(in_dim, out_dim, **options)

    def reset_parameters(self) -> None:
        """As torch draws its linear layers; the low-rank product starts at 0."""
        self.transform.reset_parameters()

    def forward(self, x: Float[Tensor, "batch *front"]) -> Float[Tensor, "batch *end"]:
        """The features for the end network.

        Raises:
            ValueError: features of another layout or width than the layer's, or tokens that are no map.
        """
        _check_features(x, self.layout, self.in_dim, "front")
        return self._in_end_layout(self.transform(x))

    @torch.no_grad()
    def fit(self, pairs: Iterable[tuple[Tensor, Tensor]], *, rcond: float | None = None, ridge: float = 0.0) -> None:
        """Set W and b to the least-squares map from front features to end features.

        The sums are in float64, so that nothing of the batches is kept; a low-rank product is set to 0.

        Args:
            pairs: batches (X, Y) of what the front's block gives and what the end's block is to be given, in the
                layouts of the two.
            rcond: directions in which X has a singular value of at most this part of its largest one count for
                nothing. None: max(rows, in_dim + 1) * eps of float32, as the authors have it, about 2e-3 for 100
                images of 197 tokens, where it is what regularises; it grows with the rows, so give one for many more.
            ridge: weight of |A|^2, relative to the mean squared norm of the columns of [X 1].

        Raises:
            ValueError: features of another layout or width than the layer's, or that do not belong to the same
                places; values that are not finite; no rows; features that are 0 throughout, or a cut-off that leaves
                nothing of them; a negative cut-off or ridge. The layer stays as it was.
            TypeError: something else than pairs.
        """
        if self.transform.weight.is_meta:
            raise ValueError('a layer on the device "meta" has no values to be set: call to_empty first')
        if rcond is not None and not 0 <= rcond < 1:
            raise ValueError(f"rcond must be at least 0 and below 1, got {rcond}")
        if not 0 <= ridge < math.inf:
            raise ValueError(f"ridge must be at least 0 and finite, got {ridge}")
        equations = NormalEquations(constant=self.transform.bias is not None, mixed=rcond is None)
        numbers = count()
        for pair in pairs:
            number = next(numbers)  # enumerate would keep a pair while the next is made
            if not isinstance(pair, tuple | list) or len(pair) != 2:
                raise TypeError(f"fit takes pairs (front features, end features), got {type(pair).__name__}")
            try:
                equations.add(*self._rows(*pair))
            except ValueError as error:
                raise ValueError(f"pair {number}: {error}") from error
            del pair
        if equations.count == 0:
            raise ValueError("fit needs at least one row of features, got none")
        self.take(equations.solve(ridge, cutoff=equations.float32_cutoff if rcond is None else rcond))

    @torch.no_grad()
    def take(self, coefficients: Float[Tensor, "coefficients out_dim"]) -> None:
        """Set W and b to a map from rows of front features to rows of end features; a low-rank product becomes 0.

        Args:
            coefficients: A of [X 1] A = Y, or of X A = Y where the layer has no bias.

        Raises:
            ValueError: another shape.
        """
        weight, bias = self.transform.weight, self.transform.bias
        wanted = (self.in_dim + (bias is not None), self.out_dim)
        if coefficients.shape != wanted:
            raise ValueError(f"coefficients must be {wanted}, got {tuple(coefficients.shape)}")
        weight.copy_(coefficients[: self.in_dim].t().reshape(weight.shape))
        if bias is not None:
            bias.copy_(coefficients[-1])
        if isinstance(self.transform, _LowRank):
            self.transform.lora_B.zero_()

    @torch.no_grad()
    def merged(self) -> "StitchLayer":
        """A layer of its own without a low-rank product that gives the same: its weight is W + B A / r."""
        old = self.transform
        layer = StitchLayer(
            self.in_dim,
            self.out_dim,
            layout=self.layout,
            end_layout=self.end_layout,
            grid=self.grid,
            bias=old.bias is not None,
            device="meta",  # nothing is drawn
        )
        layer.transform.weight = nn.Parameter(old.whole() if isinstance(old, _LowRank) else old.weight.clone())
        if old.bias is not None:
            layer.transform.bias = nn.Parameter(old.bias.clone())
        return layer.train(self.training)

    def extra_repr(self) -> str:
        """Layouts, and the grid."""
        text = f"layout={self.layout!r}, end_layout={self.end_layout!r}"
        return text if self.grid is None else f"{text}, grid={self.grid}"

    def _in_end_layout(self, features: Tensor) -> Tensor:
        """Features in the front's layout, of any width, in the end's."""
        if self.layout == self.end_layout:
            return features
        if self.layout == "tokens":
            features = features.unflatten(1, _map_of(features.shape[1], self.grid))
        elif self.layout == "nchw":
            features = features.permute(0, 2, 3, 1)
        if self.end_layout == "tokens":
            return features.flatten(1, 2)
        return features.permute(0, 3, 1, 2) if self.end_layout == "nchw" else features

    def _rows(self, front: Tensor, end: Tensor) -> tuple[Tensor, Tensor]:
        """Rows of the two that belong together."""
        _check_features(front, self.layout, self.in_dim, "front")
        _check_features(end, self.end_layout, self.out_dim, "end")
        moved = self._in_end_layout(front)
        given, wanted = _places(end, self.end_layout), _places(moved, self.end_layout)
        if given != wanted:
            surplus = given[-1] - wanted[-1] if self.layout != "tokens" and self.end_layout == "tokens" else 0
            raise ValueError(
                f"front features {tuple(front.shape)} belong to end features (batch, places) {wanted}, got {given}"
                + _prefix_hint(surplus)
            )
        for of, features in (("front", front), ("end", end)):
            if features.numel() and not torch.stack(features.aminmax()).isfinite().all():
                raise ValueError(f"{of} features have NaN or infinite values")
        return rows_of(moved, self.end_layout), rows_of(end, self.end_layout)


class _LowRank(nn.Module):
    """y = W x + b + B A x / r with W frozen; on maps in NCHW, each matrix is a 1x1 convolution."""

    def __init__(
        self,
        in_dim: int,
        out_dim: int,
        rank: int,
        *,
        convolution: bool,
        bias: bool,
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        place: Any = {"device": device, "dtype": dtype}
        shape = (out_dim, in_dim, 1, 1) if convolution else (out_dim, in_dim)
        self.weight = nn.Parameter(torch.empty(shape, **place), requires_grad=False)
        self.bias = nn.Parameter(torch.empty(out_dim, **place)) if bias else None
        self.lora_A = nn.Parameter(torch.empty(rank, in_dim, **place))
        self.lora_B = nn.Parameter(torch.empty(out_dim, rank, **place))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            bound = 1 / math.sqrt(self.weight.shape[1])
            nn.init.uniform_(self.bias, -bound, bound)
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))
        nn.init.zeros_(self.lora_B)

    def forward(self, x: Tensor) -> Tensor:
        scaled = self.lora_B / len(self.lora_A)
        if self.weight.ndim == 2:
            return F.linear(x, self.weight, self.bias) + F.linear(F.linear(x, self.lora_A), scaled)
        small = F.conv2d(x, self.lora_A[..., None, None])
        return F.conv2d(x, self.weight, self.bias) + F.conv2d(small, scaled[..., None, None])

    def whole(self) -> Tensor:
        """W + B A / r, rounded once."""
        wide = torch.promote_types(self.weight.dtype, torch.float32)
        product = self.lora_B.to(wide) @ self.lora_A.to(wide) / len(self.lora_A)
        return (self.weight.to(wide) + product.reshape(self.weight.shape)).to(self.weight.dtype)

    def extra_repr(self) -> str:
        out_dim, in_dim = self.weight.shape[:2]
        return f"{in_dim}, {out_dim}, rank={len(self.lora_A)}, bias={self.bias is not None}"


def rows_of(features: Float[Tensor, "batch *places"], layout: str) -> Float[Tensor, "rows channels"]:
    """One row for each token or place: the batch outermost, then the rows of a map.

    Args:
        features: in the layout.
        layout: "tokens", "nhwc" or "nchw".

    Raises:
        ValueError: an unknown layout.
    """
    _check_layout(layout)
    features = features.permute(0, 2, 3, 1) if layout == "nchw" else features
    return features.flatten(0, -2)


def _places(features: Tensor, layout: str) -> tuple[int, ...]:
    """The shape without the channels."""
    return (features.shape[0], *features.shape[2:]) if layout == "nchw" else tuple(features.shape[:-1])


def _map_of(tokens: int, grid: tuple[int, int] | None) -> tuple[int, int]:
    """Height and width of the map that tokens become."""
    height, width = grid or (math.isqrt(tokens),) * 2
    if height * width != tokens:
        what = f"do not fill the grid {height}x{width}" if grid else "are no square map; for another, give grid"
        raise ValueError(f"{tokens} tokens {what}{_prefix_hint(tokens - height * width)}")
    return height, width


def _prefix_hint(surplus: int) -> str:
    if not 0 < surplus <= _MOST_PREFIX:
        return ""
    return f". If {surplus} of them are class or register tokens, leave these out: they have no place in a map"


def _check_layout(layout: str) -> None:
    if layout not in LAYOUTS:
        raise ValueError(f"unknown layout {layout!r}{did_you_mean(layout, LAYOUTS) or '.'} Layouts: {_list()}")


def _list() -> str:
    return ", ".join(f"{name} {axes}" for name, axes in LAYOUTS.items())


def _check_features(features: Tensor, layout: str, width: int, of: str) -> None:
    maps = layout != "tokens"
    if features.ndim != 3 + maps or features.shape[1 if layout == "nchw" else -1] != width:
        raise ValueError(
            f"{of} features must be {LAYOUTS[layout]} with {width} channels, got the shape {tuple(features.shape)}"
        )
