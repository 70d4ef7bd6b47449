"""Neighbourhood attention as layers: projections around the functional form."""

from collections.abc import Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from zoo.layers.neighborhood.functional import BACKENDS, neighborhood_attention_packed
from zoo.layers.neighborhood.imitation import copy_projections
from zoo.layers.neighborhood.windows import Windows, check_input

# Checks and the tile plan are Python on sizes: leaves for torch.fx.
torch.fx.wrap("check_input")
torch.fx.wrap("neighborhood_attention_packed")


class _NeighborhoodAttention(nn.Module):
    """What the layers of one, two and three spatial axes share."""

    rank: ClassVar[int]

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        kernel_size: int | Sequence[int] = 7,
        dilation: int | Sequence[int] | None = 1,
        *,
        causal: bool | Sequence[bool] = False,
        rel_pos_bias: bool = False,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        super().__init__()
        windows = Windows.of(self.rank, kernel_size, dilation, causal)
        if num_heads < 1 or dim < 1 or dim % num_heads:
            raise ValueError(f"dim must be a positive multiple of num_heads, got dim {dim} and num_heads {num_heads}")
        if not 0.0 <= attn_drop < 1.0:
            raise ValueError(f"attn_drop must be at least 0 and below 1, got {attn_drop}")
        if backend not in BACKENDS:
            raise ValueError(f"backend must be one of {', '.join(BACKENDS)}, got {backend!r}")
        self.dim = dim
        self.num_heads = num_heads
        self.kernel_size, self.dilation, self.causal = windows
        self.scale = (dim // num_heads) ** -0.5 if qk_scale is None else float(qk_scale)
        self.attn_drop = float(attn_drop)  # TorchScript tells 0 from 0.0
        self.backend = backend
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias, device=device, dtype=dtype)
        self.rpb: nn.Parameter | None
        if rel_pos_bias:
            offsets = [2 * kernel - 1 for kernel in windows.kernel_size]
            self.rpb = nn.Parameter(torch.empty(num_heads, *offsets, device=device, dtype=dtype))
            windows.check_bias(self.rpb, num_heads)
        else:
            self.register_parameter("rpb", None)
        self.proj = nn.Linear(dim, dim, device=device, dtype=dtype)
        self.proj_drop = nn.Dropout(proj_drop)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Weights and position bias truncated normal with std 0.02, other biases 0."""
        for layer in (self.qkv, self.proj):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        if self.rpb is not None:
            nn.init.trunc_normal_(self.rpb, std=0.02)

    def _forward(self, x: Tensor) -> Tensor:
        attended = neighborhood_attention_packed(
            self.qkv(check_input(x, self.rank, self.dim)),
            self.num_heads,
            self.kernel_size,
            self.dilation,
            self.causal,
            self.rpb,
            self.scale,
            dropout_p=self.attn_drop if self.training else 0.0,
            backend=self.backend,
        )
        return self.proj_drop(self.proj(attended))

    def imitate(self, reference: nn.Module, inputs: Float[Tensor, "*batch channels"]) -> bool:
        """Take over the projections of another attention; what is left of the difference is the neighbourhood.

        The weights and biases of `qkv` (or `q_proj`, `k_proj`, `v_proj`) and `proj` are copied, with the reference's
        own scale of the scores. A position bias takes Swin's table where that is of its size, and is 0 otherwise.
        The copy is exact where the window is the whole map: dilation 1 and `kernel_size` equal to its sides.

        Args:
            reference: an attention with as many heads and channels, such as timm's.
            inputs: not needed.

        Returns:
            False, with nothing changed, if the sizes do not agree, the reference has a bias for which there is no
            place, norms or a gate between the projections, or values that are not finite.
        """
        return copy_projections(self, reference)

    def extra_repr(self) -> str:
        def short(values: Sequence) -> str:
            return str(values[0]) if len(set(values)) == 1 else str(tuple(values))

        parts = [
            f"{self.dim}, num_heads={self.num_heads}, kernel_size={short(self.kernel_size)}",
            f"dilation={short(self.dilation)}",
        ]
        if any(self.causal):
            parts.append(f"causal={short(self.causal)}")
        if self.rpb is not None:
            parts.append("rel_pos_bias=True")
        if self.attn_drop:
            parts.append(f"attn_drop={self.attn_drop}")
        if self.backend != "auto":
            parts.append(f"backend={self.backend!r}")
        return ", ".join(parts)

    def __prepare_scriptable__(self) -> nn.Module:
        from zoo.layers.neighborhood.scripting import stand_in  # it builds on this module

        return stand_in(self)


class NeighborhoodAttention1d(_NeighborhoodAttention):
    """Multi-head attention in which each token of a sequence sees its ``kernel_size`` nearest neighbours.

    x (batch, length, dim) -> (batch, length, dim):

        y = W_o . softmax(scale q k^T + rpb) v,    q, k, v = W_qkv x

    with the window of :func:`neighborhood_attention`. Parameters carry NATTEN's names (``qkv``, ``rpb``, ``proj``), so
    its state dicts load as they are.

    Args:
        dim: channels; a multiple of ``num_heads``.
        num_heads: attention heads.
        kernel_size: keys per axis, >= 2; ``kernel_size * dilation`` may not exceed the axis of the input.
        dilation: step between keys per axis; ``None`` means 1.
        causal: per axis, whether a query sees only itself and what comes before it.
        rel_pos_bias: learn a bias per head and relative position; not with ``causal``.
        qkv_bias: bias of the q, k, v projection.
        qk_scale: factor of the scores, ``head_dim ** -0.5`` by default.
        attn_drop: dropout on attention weights, in training.
        proj_drop: dropout on the output, in training.
        backend: as in :func:`neighborhood_attention`.

    Raises:
        ValueError: sizes that do not fit together, at construction, or a map too small for the window, in the call.

    Neighborhood Attention Transformer, 2023, arXiv 2204.07143.
    """

    rank = 1

    def forward(self, x: Float[Tensor, "batch length dim"]) -> Float[Tensor, "batch length dim"]:
        return self._forward(x)


class NeighborhoodAttention2d(_NeighborhoodAttention):
    """Multi-head attention in which each token of a map sees the ``kernel_size`` x ``kernel_size`` around it.

    x (batch, height, width, dim) -> (batch, height, width, dim). Options as in :class:`NeighborhoodAttention1d`;
    ``kernel_size``, ``dilation`` and ``causal`` are one value or (along height, along width).
    """

    rank = 2
    layout: ClassVar[str] = "NHWC"

    def forward(self, x: Float[Tensor, "batch height width dim"]) -> Float[Tensor, "batch height width dim"]:
        return self._forward(x)

    def mix_prefix(
        self, prefix: Float[Tensor, "batch prefix dim"], map: Float[Tensor, "batch height width dim"]
    ) -> Float[Tensor, "batch prefix dim"]:
        """What class and register tokens get: they have no place on the map, so they see all of it and each other.

        Softmax attention with the layer's own projections, heads, scale and dropout, without position bias.

        Args:
            prefix: the tokens in front of the map.
            map: the map as the layer itself gets it.
        """
        tokens = torch.cat([prefix, map.flatten(1, 2)], 1)
        q, k, v = self.qkv(tokens).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        dropout_p = self.attn_drop if self.training else 0.0
        q = q[:, :, : prefix.shape[1]]
        attended = F.scaled_dot_product_attention(q, k, v, dropout_p=dropout_p, scale=self.scale)
        return self.proj_drop(self.proj(attended.transpose(1, 2).flatten(-2)))


class NeighborhoodAttention3d(_NeighborhoodAttention):
    """Multi-head attention in which each token of a volume or video sees a box around it.

    x (batch, depth, height, width, dim) -> the same shape. Options as in :class:`NeighborhoodAttention1d`;
    ``kernel_size``, ``dilation`` and ``causal`` are one value or one per axis (for video: ``causal=(True, False,
    False)``).
    """

    rank = 3

    def forward(
        self, x: Float[Tensor, "batch depth height width dim"]
    ) -> Float[Tensor, "batch depth height width dim"]:
        return self._forward(x)


class DiNA(NeighborhoodAttention2d):
    """:class:`NeighborhoodAttention2d` of which the dilation must be said: no default can suit every map.

    ``kernel_size * dilation`` equal to the side of the map is the widest sight that the layer can have.

    Dilated Neighborhood Attention Transformer, 2022, arXiv 2209.15001.
    """

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        kernel_size: int | Sequence[int] = 7,
        dilation: int | Sequence[int] | None = None,
        *,
        causal: bool | Sequence[bool] = False,
        rel_pos_bias: bool = False,
        qkv_bias: bool = True,
        qk_scale: float | None = None,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        backend: str = "auto",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ):
        if dilation is None:
            raise TypeError("DiNA needs a dilation, such as 2; NeighborhoodAttention2d is the layer without one")
        super().__init__(
            dim,
            num_heads,
            kernel_size,
            dilation,
            causal=causal,
            rel_pos_bias=rel_pos_bias,
            qkv_bias=qkv_bias,
            qk_scale=qk_scale,
            attn_drop=attn_drop,
            proj_drop=proj_drop,
            backend=backend,
            device=device,
            dtype=dtype,
        )
