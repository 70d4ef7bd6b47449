"""A KAN read off as formulas."""

import copy
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.linear import KANLinear
from zoo.layers.kan.network import KAN
from zoo.layers.kan.nodes import MultiplyNodes
from zoo.layers.kan.symbolic.fitting import SymbolicFit, fit_edge
from zoo.layers.kan.symbolic.layer import SymbolicLinear
from zoo.layers.kan.symbolic.library import SymbolicFunction

Edge = tuple[int, int, int]


class SymbolicKAN(nn.Module):
    """A KAN whose edges are functions with names; `symbolic_network` makes it.

    Shapes: (*, in) -> (*, out). It trains like any module: a few steps of LBFGS on its parameters make the numbers of
    the formula as good as they can be.

    Args:
        layers: one for each layer of the KAN.
        nodes: the product nodes of the KAN, if it has any.
        fits: of every symbolic edge (layer, out_index, in_index), as they were found.
    """

    def __init__(
        self, layers: Sequence[SymbolicLinear], nodes: nn.ModuleList | None, fits: Mapping[Edge, SymbolicFit]
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.nodes = nodes
        self.fits = dict(fits)

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        for i, layer in enumerate(self.layers):
            x = layer(x)
            if self.nodes is not None:
                x = self.nodes[i](x)
        return x

    def formula(self, inputs: Sequence[Any] | None = None, *, digits: int = 4) -> list[Any]:
        """A sympy expression for every output, with the parameters as they are now.

        An edge that kept its curve is written phi_layer_out_in(...).

        Args:
            inputs: names of the inputs, or sympy expressions of them such as (x - mean) / std; x_0, x_1, ... if None.
            digits: significant digits of the numbers.

        Raises:
            ValueError: another number of inputs than the network has; digits below 1.
        """
        import sympy  # comes with torch, and takes half a second

        count = self.layers[0].in_features
        names = [f"x_{i}" for i in range(count)] if inputs is None else list(inputs)  # pyright: ignore[reportArgumentType]
        if len(names) != count:
            raise ValueError(f"the network has {count} inputs, got {len(names)} names")
        if digits < 1:
            raise ValueError(f"digits must be at least 1, got {digits}")
        found = [sympy.Symbol(name) if isinstance(name, str) else name for name in names]
        for i, layer in enumerate(self.layers):
            found = layer.expressions(sympy, found, digits, i)  # pyright: ignore[reportCallIssue]
            if self.nodes is not None:
                found = _through_nodes(self.nodes[i], found, digits)  # pyright: ignore[reportArgumentType]
        return found


def _through_nodes(nodes: MultiplyNodes, expressions: list[Any], digits: int) -> list[Any]:
    def affine(values: list[Any], scale: Tensor | None, bias: Tensor | None) -> list[Any]:
        if scale is None or bias is None:
            return values
        return [
            float(f"{s:.{digits}g}") * value + float(f"{b:.{digits}g}")
            for value, s, b in zip(values, scale.tolist(), bias.tolist(), strict=True)
        ]

    expressions = affine(expressions, nodes.subnode_scale, nodes.subnode_bias)
    found, factors = expressions[: nodes.num_sum], expressions[nodes.num_sum :]
    for start in range(0, len(factors), nodes.arity):
        product = factors[start]
        for factor in factors[start + 1 : start + nodes.arity]:
            product = product * factor
        found.append(product)
    return affine(found, nodes.node_scale, nodes.node_bias)


@torch.no_grad()
def symbolic_network(
    network: KAN | KANLinear,
    x: Float[Tensor, "batch in_features"],
    *,
    functions: Collection[str | SymbolicFunction] | None = None,
    edges: Mapping[Edge, str | SymbolicFunction] | None = None,
    min_r2: float = 0.0,
    weight_simple: float = 0.8,
) -> SymbolicKAN:
    """Replace the curves of a KAN by functions of a library: the curves as they are where the data lie.

    Masked edges are left out, so prune first: a fit takes about half a second an edge.

    Args:
        network: a KAN without norms: behind a norm a curve has no single input.
        x: examples of the inputs.
        functions: what an edge may be; all of `FUNCTIONS` if None.
        edges: a function for chosen edges (layer, out_index, in_index), whatever fits best.
        min_r2: edges whose best fit explains less of their curve keep it.
        weight_simple: how much a simple function is preferred to a close one; see `fit_edge`.

    Returns:
        A network of its own; the KAN is left as it is.

    Raises:
        TypeError: not a KAN, a layer that is no `KANLinear`.
        ValueError: a layer with a norm; fewer than two examples, values that are not finite; an unknown function; an
            R^2 out of range.
        KeyError: `edges` names an edge that is not there, or masked.

    Source: KAN (2024, arXiv 2404.19756), section 2.5.
    """
    if not 0 <= min_r2 <= 1:
        raise ValueError(f"min_r2 must be between 0 and 1, got {min_r2}")
    kan_layers, nodes = _parts(network)
    wanted = dict(edges or {})
    fits: dict[Edge, SymbolicFit] = {}
    layers = []
    for index, layer in enumerate(kan_layers):
        own: dict[tuple[int, int], SymbolicFit] = {}
        for out, into in _edges(layer):
            chosen = wanted.pop((index, out, into), None)
            values = x[:, into]
            if float(values.max()) == float(values.min()):  # a single point of the curve is all that is known
                values = values[:1] + torch.tensor([0.0, 1e-3], dtype=x.dtype, device=x.device)
                curve = layer.edge_curve(values[:1], into, out).expand(2)
            else:
                curve = layer.edge_curve(values, into, out)
            library = functions if chosen is None else [chosen]
            best = fit_edge(values, curve, functions=library, weight_simple=weight_simple)[0]
            if chosen is not None or best.r2 >= min_r2:
                own[out, into] = fits[index, out, into] = best
        layers.append(SymbolicLinear(layer, own))
        x = layer(x)
        if nodes is not None:
            x = nodes[index](x)
    if wanted:
        raise KeyError(
            f"edges: there is no edge {', '.join(map(str, wanted))} (layer, out_index, in_index), or it is masked"
        )
    return SymbolicKAN(layers, copy.deepcopy(nodes), fits)


def _parts(network: nn.Module) -> tuple[list[KANLinear], nn.ModuleList | None]:
    if isinstance(network, KANLinear):
        layers, nodes = [network], None
    elif isinstance(network, KAN):
        layers, nodes = list(network.layers), network.nodes
    else:
        raise TypeError(f"network must be a KAN or a KANLinear, got {type(network).__name__}")
    for index, layer in enumerate(layers):
        if not isinstance(layer, KANLinear):
            raise TypeError(f"layer {index} must be a KANLinear, got {type(layer).__name__}")
        if layer.norm is not None:
            raise ValueError(
                f"layer {index} has a {type(layer.norm).__name__}: behind it every curve depends on all inputs, and is "
                "no function of one; norm=None makes layers that can be read off"
            )
    return layers, nodes  # pyright: ignore[reportReturnType]


def _edges(layer: KANLinear) -> list[tuple[int, int]]:
    mask = torch.ones_like(layer.weight[..., 0], dtype=torch.bool) if layer.mask is None else layer.mask
    return [(out, into) for out, into in mask.nonzero().tolist()]
