"""Attention whose projections are KAN layers."""

import math
from collections.abc import Callable
from typing import Any

import torch
from einops import rearrange
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.kan.linear import KANLinear
from zoo.layers.kan.options import check_count


class KANAttention(nn.Module):
    """Multi-head attention with KAN layers for its projections, and a gate on its output.

        y = W_o(sigmoid(W_g(q)) * (softmax(W_q(q) W_k(k)^T / sqrt(d)) + bias) W_v(v)),        softmax over the keys.

    Shapes: q (*, queries, q_dim), k (*, keys, k_dim), v (*, keys, v_dim) -> (*, queries, q_dim). State dict:
    `linear_q`, `linear_k`, `linear_v`, `linear_g` if gated, `linear_o`, each as its layer.

    Args:
        q_dim, k_dim, v_dim: widths of queries, keys and values.
        head_dim: width of a head, d.
        num_heads: heads.
        gating: with the gate.
        layer: what makes a layer of two widths.
        options: keyword arguments of every layer.

    Raises:
        ValueError: a value out of range.

    Source: fast-kan (2024, arXiv 2405.06721).
    """

    def __init__(
        self,
        q_dim: int,
        k_dim: int,
        v_dim: int,
        head_dim: int,
        num_heads: int,
        *,
        gating: bool = True,
        layer: Callable[..., nn.Module] = KANLinear.fast,
        **options: Any,
    ) -> None:
        super().__init__()
        self.head_dim = check_count("head_dim", head_dim)
        self.num_heads = check_count("num_heads", num_heads)
        width = head_dim * num_heads
        self.linear_q = layer(q_dim, width, **options)
        self.linear_k = layer(k_dim, width, **options)
        self.linear_v = layer(v_dim, width, **options)
        self.linear_g = layer(q_dim, width, **options) if gating else None
        self.linear_o = layer(width, q_dim, **options)

    def reset_parameters(self) -> None:
        """Every projection's."""
        for projection in self.children():
            projection.reset_parameters()  # pyright: ignore[reportCallIssue]

    def forward(
        self,
        q: Float[Tensor, "*batch queries q_dim"],
        k: Float[Tensor, "*batch keys k_dim"],
        v: Float[Tensor, "*batch keys v_dim"],
        bias: Float[Tensor, "*batch queries keys"] | None = None,
    ) -> Float[Tensor, "*batch queries q_dim"]:
        """Attend from q to v where k answers.

        Args:
            q, k, v: see the class.
            bias: added to the shares of every head after the softmax, as fast-kan does: no mask can be made of it.
        """
        heads = {"h": self.num_heads}
        queries = rearrange(self.linear_q(q), "... q (h d) -> ... h q d", **heads)
        keys = rearrange(self.linear_k(k), "... k (h d) -> ... h k d", **heads)
        values = rearrange(self.linear_v(v), "... k (h d) -> ... h k d", **heads)
        shares = (queries @ keys.mT / math.sqrt(self.head_dim)).softmax(-1)
        if bias is not None:
            shares = shares + bias.unsqueeze(-3)
        mixed = rearrange(shares @ values, "... h q d -> ... q (h d)")
        if self.linear_g is not None:
            mixed = torch.sigmoid(self.linear_g(q)) * mixed
        return self.linear_o(mixed)

    def extra_repr(self) -> str:
        return f"head_dim={self.head_dim}, num_heads={self.num_heads}"
