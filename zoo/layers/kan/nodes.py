"""Nodes of a KAN that add and multiply."""

import torch
from jaxtyping import Float, Shaped
from torch import Tensor, nn

from zoo.layers.kan.options import check_count


class MultiplyNodes(nn.Module):
    """Nodes between KAN layers: the first sub-nodes are kept, the others are multiplied in groups.

        v = s * u + t,        z_m = v_m for m < S,        z_{S+p} = prod_a v_{S + p A + a},        y = s' * z + t'

    Shapes: (*, S + P A) -> (*, S + P). State dict, with `affine`: `subnode_scale` s and `subnode_bias` t (S + P A),
    `node_scale` s' and `node_bias` t' (S + P).

    Args:
        num_sum: sub-nodes that are nodes as they are, S.
        num_products: products, P.
        arity: factors of a product, A.
        affine: with the scales and biases, 1 and 0 at first. pykan has them and does not train them
            (`nodes.requires_grad_(False)`); without them s = s' = 1, t = t' = 0.

    Raises:
        ValueError: a value out of range, or no node at all; in the call, another number of sub-nodes.

    Source: KAN 2.0 (2024, arXiv 2408.10205).
    """

    def __init__(
        self,
        num_sum: int,
        num_products: int = 0,
        arity: int = 2,
        *,
        affine: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_sum = check_count("num_sum", num_sum, least=0)
        self.num_products = check_count("num_products", num_products, least=0)
        self.arity = check_count("arity", arity, least=2)
        if self.num_nodes == 0:
            raise ValueError("num_sum and num_products are both 0: there would be no node")

        def parameter(size: int) -> nn.Parameter | None:
            return nn.Parameter(torch.empty(size, device=device, dtype=dtype)) if affine else None

        self.subnode_scale, self.subnode_bias = parameter(self.num_subnodes), parameter(self.num_subnodes)
        self.node_scale, self.node_bias = parameter(self.num_nodes), parameter(self.num_nodes)
        self.reset_parameters()

    @property
    def num_subnodes(self) -> int:
        """Inputs: outputs of the layer before."""
        return self.num_sum + self.num_products * self.arity

    @property
    def num_nodes(self) -> int:
        """Outputs."""
        return self.num_sum + self.num_products

    def reset_parameters(self) -> None:
        """Scales 1, biases 0."""
        for scale, bias in ((self.subnode_scale, self.subnode_bias), (self.node_scale, self.node_bias)):
            if scale is not None and bias is not None:
                nn.init.ones_(scale)
                nn.init.zeros_(bias)

    def forward(self, u: Float[Tensor, "*batch subnodes"]) -> Float[Tensor, "*batch nodes"]:
        if u.shape[-1] != self.num_subnodes:
            raise ValueError(
                f"{self.num_sum} sums and {self.num_products} products of {self.arity} take {self.num_subnodes} "
                f"sub-nodes, got {u.shape[-1]} (last dimension)"
            )
        if self.subnode_scale is not None and self.subnode_bias is not None:
            u = u * self.subnode_scale + self.subnode_bias
        if self.num_products:
            sums, factors = u.split([self.num_sum, self.num_products * self.arity], -1)
            u = torch.cat([sums, factors.unflatten(-1, (self.num_products, self.arity)).prod(-1)], -1)
        if self.node_scale is not None and self.node_bias is not None:
            u = u * self.node_scale + self.node_bias
        return u

    def of_subnodes(self, values: Shaped[Tensor, "*batch nodes"]) -> Shaped[Tensor, "*batch subnodes"]:
        """Every sub-node's share in values of nodes: a product hands its own to each of its factors.

        Args:
            values: of nodes.
        """
        sums, products = values.split([self.num_sum, self.num_products], -1)
        return torch.cat([sums, products.repeat_interleave(self.arity, -1)], -1)

    def subnodes_of(self, nodes: list[int]) -> list[int]:
        """The numbers of the sub-nodes that belong to nodes.

        Args:
            nodes: their numbers, in ascending order.
        """
        owners = self.of_subnodes(torch.arange(self.num_nodes))
        return torch.isin(owners, torch.tensor(nodes, dtype=owners.dtype)).nonzero().flatten().tolist()

    @torch.no_grad()
    def keep(self, nodes: list[int]) -> None:
        """Remove all nodes but some, with their sub-nodes.

        Args:
            nodes: the numbers of those that stay, in ascending order.
        """
        kept = {"node": nodes, "subnode": self.subnodes_of(nodes)}
        for name, parameter in list(self._parameters.items()):
            if parameter is not None:
                chosen = parameter[kept[name.partition("_")[0]]]
                setattr(self, name, nn.Parameter(chosen, parameter.requires_grad))
        self.num_sum, self.num_products = sum(n < self.num_sum for n in nodes), sum(n >= self.num_sum for n in nodes)

    def extra_repr(self) -> str:
        affine = self.node_scale is not None
        return f"num_sum={self.num_sum}, num_products={self.num_products}, arity={self.arity}, affine={affine}"
