"""A KAN layer whose edges are functions with names."""

import copy
from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.linear import KANLinear
from zoo.layers.kan.symbolic.fitting import SymbolicFit


class SymbolicLinear(nn.Module):
    """y_o = sum_i c_oi f_oi(a_oi x_i + b_oi) + d_oi, with the f of a library; edges without one keep their curve.

    Shapes: (*, in_features) -> (*, out_features). State dict: `affine` (edges, 4), the a, b, c, d of every symbolic
    edge; `bias` (out_features) if the KAN layer has one; `numerical.*`, the KAN layer with the edges that are left,
    if there are any. Which function an edge has is no part of it.

    Args:
        layer: the KAN layer that the fits belong to.
        fits: by (out_index, in_index). Edges of the layer that are neither here nor masked keep their curves.

    Where a function is not defined, as the root of a negative number, the result is NaN, as the formula says.
    """

    out_index: Tensor
    in_index: Tensor
    numerical: KANLinear | None

    def __init__(self, layer: KANLinear, fits: Mapping[tuple[int, int], SymbolicFit]) -> None:
        super().__init__()
        self.in_features, self.out_features = layer.in_features, layer.out_features
        # Edges of one function lie together: one call of it for all of them.
        ordered = sorted(fits.items(), key=lambda item: (item[1].name, item[0]))
        self.edges = [edge for edge, _ in ordered]
        self.functions = [fit.function for _, fit in ordered]
        like = layer.weight.detach()
        values = [[fit.a, fit.b, fit.c, fit.d] for _, fit in ordered]
        self.affine = nn.Parameter(torch.tensor(values, dtype=like.dtype, device=like.device).view(-1, 4))
        outs, ins = torch.tensor(self.edges, dtype=torch.long, device=like.device).view(-1, 2).unbind(1)
        self.register_buffer("out_index", outs, persistent=False)
        self.register_buffer("in_index", ins, persistent=False)
        left = torch.ones_like(like[..., 0], dtype=torch.bool) if layer.mask is None else layer.mask.clone()
        left[outs, ins] = False
        self.bias = None if layer.bias is None else nn.Parameter(layer.bias.detach().clone())
        self.numerical = None
        if left.any():
            self.numerical = copy.deepcopy(layer)
            self.numerical.mask_edges(left)
            self.numerical.bias = None

    def curves(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch edges"]:
        """What every symbolic edge gives, in the order of `edges`."""
        a, b, c, d = self.affine.unbind(1)
        z = a * x[..., self.in_index] + b
        parts, start = [], 0
        for end in range(1, len(self.edges) + 1):
            if end == len(self.edges) or self.functions[end] is not self.functions[start]:
                parts.append(self.functions[start].function(z[..., start:end]))
                start = end
        return c * torch.cat(parts, -1) + d if parts else z

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        empty = x.new_zeros(*x.shape[:-1], self.out_features)
        y = empty.index_add(-1, self.out_index, self.curves(x).to(x.dtype))
        if self.bias is not None:
            y = y + self.bias
        return y if self.numerical is None else y + self.numerical(x)

    def expressions(self, sympy: Any, inputs: list[Any], digits: int, layer: int) -> list[Any]:
        """One sympy expression an output.

        Args:
            sympy: the module.
            inputs: expressions of the inputs.
            digits: significant digits of the numbers.
            layer: number of the layer: an edge with a curve of its own is written phi_layer_out_in(x).
        """

        def number(value: float) -> Any:
            return sympy.Float(f"{value:.{digits}g}", digits)

        found = [sympy.Integer(0)] * self.out_features
        for (out, into), function, (a, b, c, d) in zip(self.edges, self.functions, self.affine.tolist(), strict=True):
            inner = _line(sympy, number, a, inputs[into], b)
            found[out] += _line(sympy, number, c, function.expression(sympy, inner), d)
        if self.numerical is not None:
            for out, into in self.numerical.mask.nonzero().tolist():  # pyright: ignore[reportOptionalMemberAccess]
                found[out] += sympy.Function(f"phi_{layer}_{out}_{into}")(inputs[into])
        if self.bias is not None:
            found = [y + number(b) for y, b in zip(found, self.bias.tolist(), strict=True)]
        return found

    def extra_repr(self) -> str:
        kept = 0 if self.numerical is None else int(self.numerical.mask.sum())  # pyright: ignore[reportOptionalMemberAccess]
        return f"{self.in_features}, {self.out_features}, symbolic edges={len(self.edges)}, curves={kept}"


def _line(sympy: Any, number: Any, factor: float, expression: Any, term: float) -> Any:
    """factor * expression + term, without a factor of 1 or a term of 0."""
    scaled = expression if number(factor) == 1 else number(factor) * expression
    return scaled if number(term) == 0 else scaled + number(term)
