"""Which function is a curve? The best c f(a x + b) + d for each of a library, by scanning and zooming."""

import math
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from zoo.layers.kan.symbolic.library import SymbolicFunction, chosen_functions, preference

_POINTS = 128  # of the curve, while scanning
_FINE = 512  # while zooming
_STEP = 0.2  # of a and b, for x scaled to [-1, 1]
_REACH = 10.0  # of a and b
_MOST = 100.0  # of a, for x that is wide in its own unit
_SHIFTS = 801
# Farther away, or slower, every function is a line with an error too small to see, and c f + d the difference of two
# numbers so large that nothing is left of it.
_FARTHEST = 50.0  # shift, for x scaled to [-1, 1]
_SLOWEST = 0.1  # a
_CANDIDATES = 4
_FINER = 11  # points a zoom looks at, in each direction
_ZOOMS = 7
_FLAT = 1e-9  # of its size: what varies less is a constant


@dataclass(frozen=True)
class SymbolicFit:
    """y = c f(a x + b) + d, and how well it does.

    Args:
        function: f.
        a, b, c, d: the affine maps before and behind it.
        r2: share of the variance of y that is explained, R^2, from 0 to 1.
        score: what the choice makes small; see `fit_edge`.
    """

    function: SymbolicFunction
    a: float
    b: float
    c: float
    d: float
    r2: float
    score: float

    @property
    def name(self) -> str:
        """Name of the function."""
        return self.function.name

    def __call__(self, x: Float[Tensor, "*points"]) -> Float[Tensor, "*points"]:
        return self.c * self.function.function(self.a * x + self.b) + self.d

    def __str__(self) -> str:
        return f"{self.c:.4g} * {self.name}({self.a:.4g} x {self.b:+.4g}) {self.d:+.4g}, R2 {self.r2:.6f}"


@torch.no_grad()
def fit_edge(
    x: Float[Tensor, " points"],
    y: Float[Tensor, " values"],
    *,
    functions: Collection[str | SymbolicFunction] | None = None,
    weight_simple: float = 0.8,
) -> list[SymbolicFit]:
    """Fit every function of a library to a sampled curve.

    For each f the a and b of c f(a x + b) + d are scanned and zoomed in on for the highest R^2; c and d are then a
    line's. The scan runs over x scaled to [-1, 1], a from 0.1 to 10 (and up to 10 in the unit of x) and |b| up to 10;
    where only -b / a matters, over shifts up to 50. Computed on the CPU in float64.

    Args:
        x, y: points of the curve, in any order.
        functions: names from `FUNCTIONS` (or one name), or functions of one's own; all if None.
        weight_simple: between 0 and 1: how much a simple function is preferred to a close one.

    Returns:
        The fits, the smallest weight_simple * complexity + (1 - weight_simple) * log2(1 + 1e-5 - R^2) first.

    Raises:
        ValueError: fewer than 2 points, another number of y, values that are not finite, x all equal; an unknown name.

    Source: KAN (2024, arXiv 2404.19756), section 2.5; KAN 2.0 (2024, arXiv 2408.10205).
    """
    if not 0 <= weight_simple <= 1:
        raise ValueError(f"weight_simple must be between 0 and 1, got {weight_simple}")
    chosen = chosen_functions(functions)
    x, y = _checked(x, y)
    low, high = x.min(), x.max()
    middle, half = float((low + high) / 2), float((high - low) / 2)
    order = x.argsort()
    coarse, fine = (_Curve((x[few] - middle) / half, y[few]) for few in (_some(order, _POINTS), _some(order, _FINE)))
    fits = []
    for function in chosen:
        a, b = _best_inner(coarse, fine, function, min(max(_REACH, _REACH * half), _MOST))
        a, b = _unscaled(a, b, function, middle, half)
        c, d, r2 = _line(function.function(a * x + b), y)
        fits.append(SymbolicFit(function, a, b, c, d, r2, preference(r2, function.complexity, weight_simple)))
    return sorted(fits, key=lambda fit: fit.score)


def _checked(x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
    if x.ndim != 1 or x.shape != y.shape or len(x) < 2:
        raise ValueError(f"x and y must be as many points, 2 or more, got {tuple(x.shape)} and {tuple(y.shape)}")
    x, y = x.detach().cpu().double(), y.detach().cpu().double()  # the scan is made there, and not all have doubles
    if not (x.isfinite().all() and y.isfinite().all()):
        raise ValueError("x and y must be finite: there is NaN or infinity among the points")
    if x.max() <= x.min():
        raise ValueError(f"x must hold two different points or more, all are {float(x[0]):g}")
    return x, y


def _some(order: Tensor, most: int) -> Tensor:
    """At most so many of the indices, evenly among them."""
    return order[torch.linspace(0, len(order) - 1, min(len(order), most)).long()]


def _unscaled(a: float, b: float, function: SymbolicFunction, middle: float, half: float) -> tuple[float, float]:
    """a and b for x as it was given, as simple as they can be."""
    if function.search == "none":
        return 1.0, 0.0
    if function.search in {"shift", "signed shift"}:  # a multiple of a x + b does as well
        return a, b * half - a * middle
    if function.search == "rate":  # any b does as well
        return a / half, 0.0
    a, b = a / half, b - a * middle / half
    return a, b if function.period is None else math.remainder(b, function.period)


class _Curve:
    """The points of a curve, and how well c f(a x + b) + d does for many a and b at once."""

    def __init__(self, x: Tensor, y: Tensor) -> None:
        self.x = x
        self.y = y - y.mean()
        self.size = self.y.square().sum()

    def r2(self, function: Callable[[Tensor], Tensor], a: Tensor, b: Tensor) -> Tensor:
        """R^2 for pairs (a, b) of any shape; 0 where the function is not finite at a point, or constant."""
        found = []
        for part_a, part_b in zip(a.flatten().split(4096), b.flatten().split(4096), strict=True):
            values = function(part_a.unsqueeze(1) * self.x + part_b.unsqueeze(1))
            centred = values - values.mean(1, keepdim=True)
            sizes = centred.square().sum(1)
            varies = sizes.sqrt() > _FLAT * values.abs().amax(1)
            r2 = (centred @ self.y).square() / (sizes * self.size).clamp_min(torch.finfo(sizes.dtype).tiny)
            found.append(torch.where(varies & r2.isfinite(), r2, 0))
        return torch.cat(found).view(a.shape)


def _best_inner(coarse: _Curve, fine: _Curve, function: SymbolicFunction, reach: float) -> tuple[float, float]:
    """The a and b of the highest R^2, for x scaled to [-1, 1]."""
    best = (-1.0, 1.0, 0.0)
    for first, second, affine in _scans(function.search, reach):
        for p, q in _peaks(coarse, function, first, second, affine):
            best = max(best, _zoomed(fine, function, p, q, _spacing(first), _spacing(second), affine))
    return best[1], best[2]


_Affine = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]


def _scans(search: str, reach: float) -> Iterator[tuple[Tensor, Tensor, _Affine]]:
    """Values of two parameters, and the a and b that belong to them. A parameter of one value is not searched."""
    none = torch.zeros(1, dtype=torch.float64)

    def even(low: float, high: float, step: float) -> Tensor:
        return torch.linspace(low, high, round((high - low) / step) + 1, dtype=torch.float64)

    if search == "none":
        yield none, none, lambda p, q: (torch.ones_like(p), torch.zeros_like(p))
    elif search in {"shift", "signed shift"}:
        # The tangent of an angle: dense where the points are, and far beyond them.
        end = math.atan(_FARTHEST)
        angles = torch.linspace(-end, end, _SHIFTS, dtype=torch.float64)
        for sign in (1, -1)[: 2 if search == "signed shift" else 1]:
            yield (
                angles,
                none,
                lambda p, q, sign=sign: (torch.full_like(p, sign), -sign * torch.tan(p.clamp(-end, end))),
            )
    elif search == "rate":
        for sign in (1, -1):
            yield even(_SLOWEST, reach, _STEP / 4), none, lambda p, q, sign=sign: (sign * _not_slow(p), 0 * p)
    else:  # every function here is odd or even about some point, but for a number: c takes the sign of a
        yield even(_SLOWEST, reach, _STEP), even(-_REACH, _REACH, _STEP), lambda p, q: (_not_slow(p), q)


def _not_slow(a: Tensor) -> Tensor:
    return a.clamp_min(_SLOWEST)


def _spacing(values: Tensor) -> float:
    return float(values[1] - values[0]) if len(values) > 1 else 0.0


def _peaks(
    curve: _Curve, function: SymbolicFunction, first: Tensor, second: Tensor, affine: _Affine
) -> list[tuple[float, float]]:
    """The highest local maxima of the scan."""
    p, q = torch.meshgrid(first, second, indexing="ij")
    r2 = curve.r2(function.function, *affine(p, q))
    around = F.max_pool2d(r2[None], 3, stride=1, padding=1)[0]
    heights = torch.where(r2 >= around, r2, -1).flatten()
    chosen = heights.topk(min(_CANDIDATES, heights.numel())).indices
    return [(float(p.flatten()[i]), float(q.flatten()[i])) for i in chosen if heights[i] >= 0]


def _zoomed(
    curve: _Curve, function: SymbolicFunction, p: float, q: float, step_p: float, step_q: float, affine: _Affine
) -> tuple[float, float, float]:
    """R^2, a and b after looking closer and closer around a pair of parameters."""
    best = (-1.0, 1.0, 0.0)
    for _ in range(_ZOOMS):
        ways = [
            torch.linspace(at - step, at + step, _FINER, dtype=torch.float64) if step else torch.tensor([at]).double()
            for at, step in ((p, step_p), (q, step_q))
        ]
        grid = torch.meshgrid(*ways, indexing="ij")
        a, b = affine(*grid)
        r2 = curve.r2(function.function, a, b).flatten()
        index = int(r2.argmax())
        best = max(best, (float(r2[index]), float(a.flatten()[index]), float(b.flatten()[index])))
        p, q = (float(way.flatten()[index]) for way in grid)
        step_p, step_q = step_p / 4, step_q / 4
    return best


def _line(values: Tensor, y: Tensor) -> tuple[float, float, float]:
    """c and d of the best c * values + d for y, and its R^2."""
    centred, target = values - values.mean(), y - y.mean()
    size, wanted = centred.square().sum(), target.square().sum()
    if wanted.sqrt() <= _FLAT * y.abs().max():
        return 0.0, float(y.mean()), 1.0
    if not centred.isfinite().all() or size.sqrt() <= _FLAT * values.abs().max():
        return 0.0, float(y.mean()), 0.0
    c = (centred @ target) / size
    return float(c), float(y.mean() - c * values.mean()), float((centred @ target).square() / (size * wanted))
