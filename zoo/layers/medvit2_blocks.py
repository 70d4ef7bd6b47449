"""The two blocks of MedViTV2: local (neighbourhood attention) and global (pooled attention, then a KAN).

Source: MedViTV2 (2025, arXiv 2502.13693). Where paper and released code differ, the code is followed: the KAN sits
behind the concatenation and works on all channels.
"""

from typing import Any

import torch
from jaxtyping import Float
from timm.layers import DropPath
from torch import Tensor, nn

from zoo.layers.folding import fold_before
from zoo.layers.kan import KANBlock
from zoo.layers.medvit2_parts import (
    ConvAttention,
    Device,
    LocalFeedForward,
    PatchEmbed,
    PooledAttention,
    round_channels,
    to_map,
    to_tokens,
)
from zoo.layers.neighborhood import NeighborhoodAttention2d

TOKEN_ORDERS = ("memory", "spatial")


def _check_block(in_channels: int, out_channels: int, stride: int, head_dim: int, token_order: str) -> None:
    if in_channels < 1 or out_channels < 1:
        raise ValueError(f"in_channels and out_channels must be at least 1, got {in_channels} and {out_channels}")
    if stride not in (1, 2):
        raise ValueError(f"stride must be 1 or 2, got {stride}")
    if head_dim < 1 or out_channels % head_dim:
        raise ValueError(
            f"out_channels must be a multiple of head_dim, got {out_channels} and {head_dim}; "
            f"use {round_channels(out_channels, max(head_dim, 1))} channels or another head_dim"
        )
    if token_order not in TOKEN_ORDERS:
        raise ValueError(f"token_order must be one of {', '.join(map(repr, TOKEN_ORDERS))}, got {token_order!r}")


class LFPBlock(nn.Module):
    """Local feature block: neighbourhood attention, then a depthwise-convolution feed-forward.

        x = PatchEmbed(x);   x = x + NA(BN1(x));   n = BN2(x);   y = x + n + F(n)

    (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)).

    Args:
        in_channels, out_channels: widths; out_channels a multiple of `head_dim`.
        stride: 1 or 2.
        kernel_size, dilation: of the neighbourhood; their product may not exceed a side of the map after the stride.
        head_dim: channels of an attention head.
        conv_kernel_size: of the depthwise convolution, odd.
        mlp_ratio: widening of the feed-forward.
        drop_path: probability of dropping the attention branch of a sample.
        attn_drop: dropout of attention weights.
        token_order: "memory" (published weights) or "spatial", see `to_tokens`.
        attn_backend: see `NeighborhoodAttention2d`.

    Raises:
        ValueError: an option out of range; in the call, a map smaller than the neighbourhood.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        kernel_size: int = 7,
        dilation: int = 1,
        head_dim: int = 32,
        conv_kernel_size: int = 3,
        mlp_ratio: int = 3,
        drop_path: float = 0.0,
        attn_drop: float = 0.0,
        token_order: str = "memory",
        attn_backend: str = "auto",
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _check_block(in_channels, out_channels, stride, head_dim, token_order)
        if conv_kernel_size < 1 or conv_kernel_size % 2 == 0:
            raise ValueError(f"conv_kernel_size must be an odd number of at least 1, got {conv_kernel_size}")
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.stride = stride
        self.memory_order = token_order == "memory"
        self.patch_embed = PatchEmbed(in_channels, out_channels, stride, **dd)
        self.norm1: nn.Module = nn.BatchNorm2d(out_channels, **dd)
        self.attn = NeighborhoodAttention2d(
            out_channels,
            out_channels // head_dim,
            kernel_size,
            dilation,
            rel_pos_bias=True,
            attn_drop=attn_drop,
            backend=attn_backend,
            **dd,
        )
        self.drop_path = DropPath(drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = nn.BatchNorm2d(out_channels, **dd)
        self.conv = LocalFeedForward(out_channels, conv_kernel_size, mlp_ratio, **dd)

    def forward(self, x: Float[Tensor, "batch chans height width"]) -> Float[Tensor, "batch out new_h new_w"]:
        # type: (Tensor) -> Tensor
        x = self.patch_embed(x)
        tokens = to_tokens(self.norm1(x), self.memory_order)
        x = x + self.drop_path(to_map(self.attn(tokens), self.memory_order))
        # The feed-forward adds its own input and the block adds x: both sums are in the released code.
        return x + self.conv(self.norm2(x))

    def fuse(self) -> None:
        """Fold the batch norms that a neighbouring linear map can take; for evaluation only."""
        self.patch_embed.fuse()
        self.conv.fuse()
        # In memory order the features of a token are pixels, which a norm over channels does not scale alike.
        if not self.memory_order and not isinstance(self.norm1, nn.Identity):
            fold_before(self.norm1, self.attn.qkv)
            self.norm1 = nn.Identity()


class GFPBlock(nn.Module):
    """Global feature block: pooled self-attention and convolutional attention side by side, then a KAN.

        x = PatchEmbed(x);  x = x + MHSA(BN1(x));  o = PatchEmbed(x);  o = o + MHCA(o)
        x = [x, o];  y = x + KAN(BN2(x))

    (B, in_channels, H, W) -> (B, out_channels, ceil(H / stride), ceil(W / stride)). The self-attention has
    `a = round_channels(out_channels * mix_block_ratio)` channels, the convolutional one the remaining ones.

    Args:
        in_channels, out_channels: widths; out_channels a multiple of `head_dim`.
        stride: 1 or 2.
        sr_ratio: square root of the tokens that are averaged into one key.
        head_dim: channels of a head, in both attentions.
        mix_block_ratio: share of the self-attention.
        kan_ratio: hidden width of the KAN over out_channels.
        drop_path: p; the self-attention drops with 0.75 p, the convolutional one with 0.25 p, the KAN with p.
        attn_drop, proj_drop: dropout of the self-attention's weights and output.
        base_branch: SiLU branch in the KAN (the paper's counts include it, the released code does not).
        token_order: "memory" (published weights) or "spatial", see `to_tokens`.
        kan_backend: see `switch_linear`.

    Raises:
        ValueError: an option out of range, or no channels left for the convolutional attention.
    """

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        *,
        stride: int = 1,
        sr_ratio: int = 1,
        head_dim: int = 32,
        mix_block_ratio: float = 0.75,
        kan_ratio: int = 2,
        drop_path: float = 0.0,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        base_branch: bool = False,
        token_order: str = "memory",
        kan_backend: str = "auto",
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        _check_block(in_channels, out_channels, stride, head_dim, token_order)
        if sr_ratio < 1:
            raise ValueError(f"sr_ratio must be at least 1, got {sr_ratio}")
        attn_channels = round_channels(int(out_channels * mix_block_ratio))
        conv_channels = out_channels - attn_channels
        if conv_channels < head_dim or conv_channels % head_dim or attn_channels % head_dim:
            raise ValueError(
                f"out_channels {out_channels} with mix_block_ratio {mix_block_ratio} splits into {attn_channels} "
                f"attention and {conv_channels} convolution channels, but each must be a positive multiple of "
                f"head_dim {head_dim}; widen the block or lower mix_block_ratio"
            )
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.stride = stride
        self.memory_order = token_order == "memory"
        self.patch_embed = PatchEmbed(in_channels, attn_channels, stride, **dd)
        self.norm1: nn.Module = nn.BatchNorm2d(attn_channels, **dd)
        self.e_mhsa = PooledAttention(
            attn_channels, head_dim=head_dim, sr_ratio=sr_ratio, attn_drop=attn_drop, proj_drop=proj_drop, **dd
        )
        self.drop_path1 = DropPath(0.75 * drop_path) if drop_path > 0 else nn.Identity()
        self.projection = PatchEmbed(attn_channels, conv_channels, **dd)
        self.mhca = ConvAttention(conv_channels, head_dim=head_dim, **dd)
        self.drop_path2 = DropPath(0.25 * drop_path) if drop_path > 0 else nn.Identity()
        self.norm2 = nn.BatchNorm2d(out_channels, **dd)
        self.kan = KANBlock(out_channels, kan_ratio * out_channels, base_branch=base_branch, backend=kan_backend, **dd)
        self.drop_path3 = DropPath(drop_path) if drop_path > 0 else nn.Identity()

    def forward(self, x: Float[Tensor, "batch chans height width"]) -> Float[Tensor, "batch out new_h new_w"]:
        # type: (Tensor) -> Tensor
        x = self.patch_embed(x)
        attended = self.e_mhsa(self.norm1(x).flatten(2).transpose(1, 2))
        x = x + self.drop_path1(attended.transpose(1, 2).reshape(x.shape))
        o = self.projection(x)
        o = o + self.drop_path2(self.mhca(o))
        x = torch.cat([x, o], dim=1)
        tokens = self.kan(to_tokens(self.norm2(x), self.memory_order))
        return x + self.drop_path3(to_map(tokens, self.memory_order))

    def fuse(self) -> None:
        """Fold the batch norms that a neighbouring linear map can take; for evaluation only."""
        self.patch_embed.fuse()
        self.projection.fuse()
        self.mhca.fuse()
        if not isinstance(self.norm1, nn.Identity):
            self.e_mhsa.fuse(self.norm1)
            self.norm1 = nn.Identity()
