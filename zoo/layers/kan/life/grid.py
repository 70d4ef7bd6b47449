"""Knots of a B-spline layer that follow the data, and finer ones; the curves stay what they were on the data.

From the sorted inputs of a sample, with eps = `grid_eps`,

    interior_j = eps (low + j step) + (1 - eps) sorted[index_j],        j = 0 ... G,

then k knots more on either side. New coefficients of all curves of an input are one K' x K matrix times the old ones,
the least-squares solution T_i of A_new T = A_old over the sample. Points spread over the new intervals count, too, with
a tiny weight: a curve keeps its shape where no sample falls, and there is always one solution.

Source: efficient-kan (2024); KAN (2024, arXiv 2404.19756).
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.basis import BSplineBasis
from zoo.layers.kan.basis.splines import functions_of_cell
from zoo.layers.kan.options import check_choice, check_count

RULES = ("efficient", "pykan")
_MARGIN = 0.01
_FAINT = 1e-8  # weight of all spread points together, the samples having 1
_RIDGE = 1e-14  # of the diagonal; keeps the solver from dividing by what rounding leaves
_INPUTS = 64  # at a time
_OUTSIDE = 1e-5  # of an interval: less may be rounding
_COMPARED = 256  # rows
_ROUNDING = 1e-4  # of the outputs; a smaller deviation is none
_USUAL = 0.95  # part of the rows; the others may be outliers


@torch.no_grad()
def update_grid(
    layer: Any,
    x: Float[Tensor, "rows in_features"],
    grid_eps: float = 0.02,
    rule: str = "efficient",
    margin: float | None = None,
) -> float:
    """Lay the knots where the inputs are; the curves keep their values on them as nearly as the new knots allow.

    An input that is the same in all rows keeps its knots.

    Args:
        layer: a `KANLinear` of B-splines; its knots and `weight` are changed.
        x: two or more rows.
        grid_eps: 1 for even knots, 0 for quantiles, between them a mixture. (Many descriptions say the reverse.)
        rule: "efficient", as efficient-kan takes quantiles, or "pykan".
        margin: by how much even knots go beyond the data; default 0.01, and 0 for "pykan".

    Returns:
        By how much the outputs changed, as a part of their deviation; without the twentieth that lies farthest out.

    Raises:
        TypeError: another basis.
        ValueError: an argument out of range.
    """
    basis = spline_basis(layer)
    check_choice("rule", rule, RULES)
    if not 0 <= grid_eps <= 1:
        raise ValueError(f"grid_eps must be from 0 (quantiles) to 1 (even), got {grid_eps}")
    margin = (_MARGIN if rule == "efficient" else 0.0) if margin is None else margin
    if not margin >= 0:
        raise ValueError(f"margin must be at least 0, got {margin}")
    some = x[:: -(-len(x) // _COMPARED)]
    before = layer(some)
    u = _where_doubles_are(layer.normalised(x))
    ordered = u.t().sort(-1).values.double()
    low, high = ordered[:, :1] - margin, ordered[:, -1:] + margin
    chosen = ordered[:, _indices(rule, len(u), basis.grid_size)]
    step = (high - low) / basis.grid_size
    even = low + step * torch.arange(basis.grid_size + 1, device=u.device)
    knots = _extended(grid_eps * even + (1 - grid_eps) * chosen, step, basis.order)
    knots = knots.to(basis.knots.dtype)
    old = basis.knots.to(u.device).expand_as(knots)
    varies = ordered[:, :1] < ordered[:, -1:]
    knots = torch.where(varies & _ascend(knots), knots, old)
    layer.weight.copy_(_refitted(layer.weight, old, knots, basis, u))
    basis.set_knots(knots)
    return _change(before, layer(some))


@torch.no_grad()
def refine(layer: Any, grid_size: int, x: Float[Tensor, "rows in_features"]) -> None:
    """More intervals between the same ends. `weight` becomes a new, larger parameter.

    The new knots lie between the old ones as those do. Where the old ones are among them (a multiple of the grid size)
    every curve is exactly what it was between the ends. Beyond an end it falls to 0 over `order` intervals of the new
    width, unless some of an input's samples lie there: then its outer knots on that side stay, and the curve with them.

    Args:
        layer: a `KANLinear` of B-splines.
        grid_size: intervals, more than there are.
        x: two or more rows, on which the curves keep their values as nearly as the new knots allow.

    Raises:
        TypeError: another basis.
        ValueError: a grid that is not larger.
    """
    basis = check_finer(layer, grid_size)
    u = _where_doubles_are(layer.normalised(x))
    old = basis.knots.to(u.device)
    interior = old[:, basis.order : -basis.order].double()
    place = torch.arange(grid_size + 1, device=old.device, dtype=interior.dtype) * (basis.grid_size / grid_size)
    left = place.round(decimals=9).floor().clamp_max(basis.grid_size - 1).long()
    share = place - left
    finer = interior[:, left] * (1 - share) + interior[:, left + 1] * share
    step = (interior[:, -1:] - interior[:, :1]) / grid_size
    knots = _with_old_ends(_extended(finer, step, basis.order).to(old.dtype), old, basis.order, u)
    weight = _refitted(layer.weight, old, knots, basis, u)
    layer.weight = nn.Parameter(weight.to(layer.weight.device), layer.weight.requires_grad)
    basis.set_knots(knots)


def spline_basis(layer: Any) -> BSplineBasis:
    """The basis of a layer, if it has knots.

    Raises:
        TypeError: it has none.
    """
    if not isinstance(layer.basis, BSplineBasis):
        raise TypeError(f"only B-splines have knots to move, the basis of this layer is {type(layer.basis).__name__}")
    return layer.basis


def check_finer(layer: Any, grid_size: int) -> BSplineBasis:
    """The basis of a layer, if it has knots, and fewer intervals than that.

    Raises:
        TypeError: it has no knots.
        ValueError: it has as many intervals, or more.
    """
    basis = spline_basis(layer)
    check_count("grid_size", grid_size)
    if grid_size <= basis.grid_size:
        raise ValueError(f"grid_size must be larger than the present {basis.grid_size}, got {grid_size}")
    return basis


def _change(before: Tensor, after: Tensor) -> float:
    """The size of the change over the deviation before, in the rows of every column that are not far out."""
    before, after = before.float(), after.float()
    deviation = (before - before.median(0).values).abs()
    usual = deviation <= deviation.quantile(_USUAL, 0)
    change, size = (float((values * usual).square().mean().sqrt()) for values in (after - before, deviation))
    rounding = _ROUNDING * float((before * usual).abs().mean())
    return change / size if size > rounding else 0.0


def _where_doubles_are(u: Tensor) -> Tensor:
    return u.cpu() if u.device.type == "mps" else u


def _indices(rule: str, rows: int, grid_size: int) -> Tensor:
    if rule == "efficient":
        return torch.linspace(0, rows - 1, grid_size + 1, dtype=torch.int64, device="cpu")
    return torch.tensor([*(int(rows / grid_size * i) for i in range(grid_size)), rows - 1])


def _extended(interior: Tensor, step: Tensor, order: int) -> Tensor:
    outwards = step * torch.arange(1, order + 1, device=interior.device)
    return torch.cat([interior[:, :1] - outwards.flip(-1), interior, interior[:, -1:] + outwards], -1)


def _with_old_ends(knots: Tensor, old: Tensor, order: int, u: Tensor) -> Tensor:
    """The knots, with the old ones beyond an end where there are samples beyond it."""
    low, high = knots[:, order], knots[:, -order - 1]
    tolerance = _OUTSIDE * (high - low) / (knots.shape[1] - 2 * order - 1)
    below, above = (u.amin(0) < low - tolerance).unsqueeze(-1), (u.amax(0) > high + tolerance).unsqueeze(-1)
    left = torch.where(below, old[:, :order], knots[:, :order])
    right = torch.where(above, old[:, -order:], knots[:, -order:])
    return torch.cat([left, knots[:, order:-order].expand(len(left), -1), right], -1)


def _ascend(knots: Tensor) -> Tensor:
    """Rows of knots that can serve: finite, in order, and not all in one place."""
    inner = (knots.diff() >= 0).all(-1) & (knots[:, -1] > knots[:, 0])
    return (inner & knots.isfinite().all(-1)).unsqueeze(-1)


def _refitted(weight: Tensor, old: Tensor, new: Tensor, basis: BSplineBasis, u: Tensor) -> Tensor:
    """The coefficients over the new knots, (out, in, K')."""
    old, new = (knots.expand(u.shape[1], -1) for knots in (old, new))
    parts = zip(*(tensor.split(_INPUTS) for tensor in (old, new, u.t())), strict=True)
    change = torch.cat([_transforms(before, after, samples, basis) for before, after, samples in parts])
    return torch.einsum("ikj,oij->oik", change, weight.to(change.device).double()).to(weight.dtype).contiguous()


def _transforms(old: Tensor, new: Tensor, samples: Tensor, basis: BSplineBasis) -> Tensor:
    """T_i of some inputs, (inputs, K', K)."""
    order = basis.order
    low, high = (end.unsqueeze(-1).to(new) for end in samples.aminmax(dim=1))
    # Intervals of the grid, and those beyond its ends that samples reach.
    reached = new.clamp(low.minimum(new[:, order, None]), high.maximum(new[:, -order - 1, None]))
    spread = _spread(reached, order)
    gram = target = torch.zeros((), dtype=torch.float64, device=samples.device)
    for points, weight in ((samples, 1 / samples.shape[1]), (spread, _FAINT / spread.shape[1])):
        before, after = (local_bsplines(points, knots, order).double() for knots in (old, new))
        gram = gram + weight * (after.mT @ after)
        target = target + weight * (after.mT @ before)
    scale = gram.diagonal(dim1=-2, dim2=-1).sqrt()
    scale = torch.where(scale > 0, 1 / scale, 0).unsqueeze(-1)  # 0: knots in one place, a function that is 0
    gram = gram * scale * scale.mT
    gram.diagonal(dim1=-2, dim2=-1).add_(_RIDGE).clamp_min_(_RIDGE)
    return scale * torch.linalg.solve(gram, scale * target)


def local_bsplines(
    points: Float[Tensor, "in_features rows"], knots: Float[Tensor, "in_features knots"], order: int
) -> Float[Tensor, "in_features rows bases"]:
    """All B-splines, by the recursion over the order + 1 that are not 0 in the cell of a point.

    Args:
        points: finite.
        knots: of each input, in ascending order; some may be equal, not all.
        order: 1 or more.
    """
    knots, count, k = knots.to(points), knots.shape[1], order
    # With more knots on either side every cell has its k + 1 functions. Those that the others make are left out.
    beyond = (knots[:, -1:] - knots[:, :1]) * torch.arange(1, k + 1, device=knots.device)
    padded = torch.cat([knots[:, :1] - beyond.flip(-1), knots, knots[:, -1:] + beyond], -1)
    x = points.clamp(padded[:, k - 1, None], padded[:, count + k, None]).contiguous()
    cell = (torch.searchsorted(padded, x, right=True) - 1).clamp_max(count + k - 1)
    near = [padded.gather(1, cell + d) for d in range(1 - k, k + 1)]
    left, right = [x - near[k - 1 - d] for d in range(k)], [near[k + d] - x for d in range(k)]
    values, _ = functions_of_cell(left, right)
    places = cell.unsqueeze(-1) + torch.arange(1 - k, 2, device=cell.device)
    spread = x.new_zeros(*x.shape, count + k + 1).scatter_(-1, places, torch.stack(values, -1))
    return spread[..., k + 1 : count]


def _spread(knots: Tensor, order: int) -> Tensor:
    """Points in every interval, order + 1 of them."""
    shares = (torch.arange(order + 1, device=knots.device) + 0.5) / (order + 1)
    return (knots[:, :-1, None] + knots.diff().unsqueeze(-1) * shares).flatten(1)
