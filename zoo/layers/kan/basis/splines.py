"""B-splines of order k over knots g_0 <= ... <= g_n: the recursion for any knots, and shorter ways for even ones.

    B_j^0(x) = 1 if g_j <= x < g_{j+1}, else 0
    B_j^d(x) = (x - g_j) / (g_{j+d} - g_j) B_j^{d-1}(x) + (g_{j+d+1} - x) / (g_{j+d+1} - g_{j+1}) B_{j+1}^{d-1}(x)

The order is the degree of the polynomial pieces. All are 0 outside [g_0, g_n); NaN gives NaN.

Source: C. de Boor, "On calculating with B-splines" (1972).
"""

import torch
from jaxtyping import Float
from torch import Tensor

_CLOSED_ORDERS = (1, 2, 3)


def cox_de_boor(
    x: Float[Tensor, "*batch in_features"], knots: Float[Tensor, "rows knots"], order: int
) -> Float[Tensor, "*batch in_features bases"]:
    """All B-splines of x, for any knots, as the recursion says.

    Args:
        x: inputs.
        knots: (1, n) for all inputs or (in_features, n), each row in ascending order; equal knots are allowed.
        order: 0 or more; there are n - 1 - order functions.
    """
    x = x.unsqueeze(-1)
    bases = ((x >= knots[:, :-1]) & (x < knots[:, 1:])).to(x.dtype)
    # Outside the knots every function is 0, and infinity must not make 0 * inf of it. (A clamp halves slopes at its
    # ends.)
    x = torch.where((x < knots[:, :1]) | (x > knots[:, -1:]), knots[:, :1], x)
    if order == 0:
        return bases + 0 * x  # NaN stays NaN
    for d in range(1, order + 1):
        rising = (x - knots[:, : -d - 1]) * _inverse(knots[:, d:-1] - knots[:, : -d - 1])
        falling = (knots[:, d + 1 :] - x) * _inverse(knots[:, d + 1 :] - knots[:, 1:-d])
        bases = rising * bases[..., :-1] + falling * bases[..., 1:]
    return bases


def cox_de_boor_derivative(
    x: Float[Tensor, "*batch in_features"], knots: Float[Tensor, "rows knots"], order: int
) -> Float[Tensor, "*batch in_features bases"]:
    """The derivatives of all B-splines of order 1 or more, for any knots; arguments as for `cox_de_boor`.

    B_j^k' = k (B_j^{k-1} / (g_{j+k} - g_j) - B_{j+1}^{k-1} / (g_{j+k+1} - g_{j+1})).
    """
    scaled = cox_de_boor(x, knots, order - 1) * (order * _inverse(knots[:, order:] - knots[:, :-order]))
    return scaled[..., :-1] - scaled[..., 1:]


def _inverse(differences: Tensor) -> Tensor:
    """1 / differences, and 0 where knots coincide."""
    empty = differences <= 0
    return torch.where(empty, 0, 1 / torch.where(empty, 1, differences))


def functions_of_cell(left: list[Tensor], right: list[Tensor]) -> tuple[list[Tensor], list[Tensor]]:
    """The order + 1 functions that are not 0 in a cell g_c <= x < g_{c+1}, from left to right.

    Args:
        left, right: x - g_{c-d} and g_{c+1+d} - x for d = 0 ... order - 1.

    Returns:
        Their values, and those of the functions one order lower over the lengths of their supports.
    """
    values, shares = [torch.ones_like(left[0])], []
    for d in range(len(left)):
        shares = [values[m] / (right[m] + left[d - m]) for m in range(d + 1)]
        inner = [left[d - m] * shares[m] + right[m + 1] * shares[m + 1] for m in range(d)]
        values = [right[0] * shares[0], *inner, left[0] * shares[d]]
    return values, shares


def uniform_bsplines(
    x: Float[Tensor, "*batch in_features"], knots: Float[Tensor, "rows knots"], order: int
) -> Float[Tensor, "*batch in_features bases"]:
    """All B-splines of x, for evenly spaced knots; arguments as for `cox_de_boor`.

    In s = (x - g_j) / h every function is the same bell: orders 1 to 3 are written out, the others take the recursion
    over the order + 1 functions that are not 0 in the cell of x.
    """
    count = knots.shape[-1] - 1
    cell, f = _cell(x, knots)
    if order not in _CLOSED_ORDERS:
        inside = (x >= knots[:, 0]) & (x < knots[:, -1])
        return _local_recursion(cell, f, inside | x.isnan(), count, order)
    s = (cell.unsqueeze(-1) - torch.arange(count - order, device=x.device)) + f.unsqueeze(-1)
    if order == 1:
        # The slopes at knots are those to the right, as in the recursion; a comparison with NaN leads to its value.
        outside = (s < 0) | (s >= 2) | (x >= knots[:, -1]).unsqueeze(-1)
        return torch.where(outside, 0, torch.where(s < 1, s, 2 - s))
    a = (s - (order + 1) / 2).abs()
    if order == 2:
        return ((1.5 - a).clamp_min(0).square() - 3 * (0.5 - a).clamp_min(0).square()) / 2
    return ((2 - a).clamp_min(0).pow(3) - 4 * (1 - a).clamp_min(0).pow(3)) / 6


def _cell(x: Tensor, knots: Tensor) -> tuple[Tensor, Tensor]:
    """The cell g_c <= x < g_{c+1} and (x - g_c) / h; the first or last cell for what lies outside.

    A distance from g_0 instead would lose the digits of a fine grid; one from every g_j, the sum 1 of the functions.
    """
    last = knots.shape[-1] - 2
    start, per_unit = knots[:, 0], (last + 1) / (knots[:, -1] - knots[:, 0])
    rows = knots.expand(*x.shape, last + 2)

    def knot(index: Tensor) -> Tensor:
        return rows.gather(-1, index.unsqueeze(-1)).squeeze(-1)

    # NaN as an index would lie anywhere: the index is cleaned, the value is not.
    cell = ((x - start) * per_unit).detach().nan_to_num(0.0).clamp(0, last).long()
    cell = (cell + (x >= knot(cell + 1)).long() - (x < knot(cell)).long()).clamp(0, last)
    return cell, (x - knot(cell)) * per_unit


def _local_recursion(cell: Tensor, f: Tensor, inside: Tensor, count: int, order: int) -> Tensor:
    """The order + 1 functions of each cell, put in their places among zeros."""
    f, given = torch.where(inside, f, 0), f
    values = [torch.ones_like(f)]
    for d in range(1, order + 1):
        grown = [(1 - f) * values[0] / d]
        grown += [((f + d - m) * values[m - 1] + (m + 1 - f) * values[m]) / d for m in range(1, d)]
        values = [*grown, f * values[-1] / d]
    local = torch.where(inside.unsqueeze(-1), torch.stack(values, -1), 0)
    # Function j is number j - cell + order of its cell; those left of the first and right of the last are cut off.
    places = cell.unsqueeze(-1) + torch.arange(order + 1, device=f.device)
    spread = local.new_zeros(*f.shape, count + order).scatter(-1, places, local)
    bases = spread[..., order:count]
    return torch.where(given.isnan().unsqueeze(-1), given.unsqueeze(-1), bases)
