"""The parts of MedViTV2's blocks: token orders, convolutional pieces and the pooled attention.

Source: MedViTV2 (2025, arXiv 2502.13693). Where paper and released code differ, the code is followed: batch norm
everywhere and hardswish.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from timm.layers import use_fused_attn
from torch import Tensor, nn

from zoo.layers.folding import fold_after, fold_before

Device = torch.device | str | None

# TorchScript cannot read shape annotations: the type comment under a signature is what it goes by.


def to_tokens(x: Tensor, memory: bool) -> Tensor:
    """(B, C, H, W) -> (B, H, W, C): a permutation, or the same memory under another name.

    The released code takes the memory of an NCHW map as if it were NHWC: a "token" is then C consecutive numbers of
    one channel's raster. Published weights were trained so. The view needs NCHW memory, whatever the layout of x.
    """
    b, c, h, w = x.shape
    return x.contiguous().view(b, h, w, c) if memory else x.permute(0, 2, 3, 1)


def to_map(tokens: Tensor, memory: bool) -> Tensor:
    """The way back of `to_tokens`: (B, H, W, C) -> (B, C, H, W)."""
    b, h, w, c = tokens.shape
    return tokens.contiguous().view(b, c, h, w) if memory else tokens.permute(0, 3, 1, 2)


def round_channels(channels: int, divisor: int = 32) -> int:
    """The multiple of `divisor` nearest to `channels`, at least `divisor`, and not below 90 % of `channels`."""
    rounded = max(divisor, (channels + divisor // 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


class ConvNormAct(nn.Module):
    """A step of the stem: 3x3 convolution (padding 1, no bias), batch norm, ReLU; (B, I, H, W) -> (B, O, H/s, W/s)."""

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, *, device: Device = None, dtype: Any = None
    ) -> None:
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.conv = nn.Conv2d(in_channels, out_channels, 3, stride, 1, bias=False, **dd)
        self.norm = nn.BatchNorm2d(out_channels, **dd)
        self.act = nn.ReLU(inplace=True)

    def forward(self, x: Float[Tensor, "batch chans height width"]) -> Float[Tensor, "batch out new_h new_w"]:
        # type: (Tensor) -> Tensor
        return self.act(self.norm(self.conv(x)))

    def fuse(self) -> None:
        fold_after(self.conv, self.norm)
        self.norm = nn.Identity()


class PatchEmbed(nn.Module):
    """Change of width and resolution between blocks: 2x2 average pool (stride 2), 1x1 convolution, batch norm.

    (B, I, H, W) -> (B, O, ceil(H / stride), ceil(W / stride)). At stride 1 with I = O it is the identity and has no
    parameters. The pool averages what there is at an odd border.
    """

    def __init__(
        self, in_channels: int, out_channels: int, stride: int = 1, *, device: Device = None, dtype: Any = None
    ) -> None:
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.avgpool: nn.Module = nn.Identity()
        self.conv: nn.Module = nn.Identity()
        self.norm: nn.Module = nn.Identity()
        if stride == 2:
            self.avgpool = nn.AvgPool2d(2, 2, ceil_mode=True, count_include_pad=False)
        if stride == 2 or in_channels != out_channels:
            self.conv = nn.Conv2d(in_channels, out_channels, 1, bias=False, **dd)
            self.norm = nn.BatchNorm2d(out_channels, **dd)

    def forward(self, x: Float[Tensor, "batch chans height width"]) -> Float[Tensor, "batch out new_h new_w"]:
        # type: (Tensor) -> Tensor
        return self.norm(self.conv(self.avgpool(x)))

    def fuse(self) -> None:
        if not isinstance(self.norm, nn.Identity):
            fold_after(self.conv, self.norm)
            self.norm = nn.Identity()


class ChannelGate(nn.Module):
    """`x * hardsigmoid(W2 relu(W1 mean(x) + b1) + b2)`, one factor per channel. (B, C, H, W) -> the same."""

    def __init__(self, channels: int, hidden: int, *, device: Device = None, dtype: Any = None) -> None:
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.fc = nn.Sequential(
            nn.Linear(channels, hidden, **dd),
            nn.ReLU(inplace=True),
            nn.Linear(hidden, channels, **dd),
            nn.Hardsigmoid(),
        )

    def forward(self, x: Float[Tensor, "batch chans height width"]) -> Float[Tensor, "batch chans height width"]:
        # type: (Tensor) -> Tensor
        gate = self.fc(x.mean((2, 3)))
        return x * gate[:, :, None, None]


class LocalFeedForward(nn.Module):
    """Inverted bottleneck of the local block: `x + F(x)`, (B, C, H, W) -> the same.

    F: 1x1 convolution to `mlp_ratio * C`, depthwise convolution, channel gate, 1x1 convolution back, with batch norms
    and hardswish between.

    Args:
        channels: C.
        kernel_size: of the depthwise convolution, odd.
        mlp_ratio: widening, an integer. The gate has `mlp_ratio` hidden units: the released code reduces its
            `mlp_ratio * C` channels by the factor C, and the weights depend on it.
    """

    def __init__(
        self, channels: int, kernel_size: int = 3, mlp_ratio: int = 3, *, device: Device = None, dtype: Any = None
    ) -> None:
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        wide = mlp_ratio * channels
        self.conv = nn.Sequential(
            nn.Conv2d(channels, wide, 1, bias=False, **dd),
            nn.BatchNorm2d(wide, **dd),
            nn.Hardswish(inplace=True),
            nn.Conv2d(wide, wide, kernel_size, padding=kernel_size // 2, groups=wide, bias=False, **dd),
            nn.BatchNorm2d(wide, **dd),
            nn.Hardswish(inplace=True),
            ChannelGate(wide, mlp_ratio, **dd),
            nn.Conv2d(wide, channels, 1, bias=False, **dd),
            nn.BatchNorm2d(channels, **dd),
        )

    def forward(self, x: Float[Tensor, "batch chans height width"]) -> Float[Tensor, "batch chans height width"]:
        # type: (Tensor) -> Tensor
        return x + self.conv(x)

    def fuse(self) -> None:
        for conv, norm in ((0, 1), (3, 4), (7, 8)):
            if not isinstance(self.conv[norm], nn.Identity):
                fold_after(self.conv[conv], self.conv[norm])
                self.conv[norm] = nn.Identity()


class PooledAttention(nn.Module):
    """Multi-head self-attention on tokens whose keys and values are pooled: (B, N, C) -> (B, N, C).

    `sr_ratio ** 2` consecutive tokens are averaged into one key (the remainder at the end is left out) and
    batch-normalised; at `sr_ratio` 1 the keys are the tokens themselves.

    Args:
        dim: C, a multiple of `head_dim`.
        head_dim: channels of a head.
        sr_ratio: square root of the tokens per key.
        attn_drop, proj_drop: dropout of weights and of the output.

    Raises:
        ValueError: in the call, fewer than `sr_ratio ** 2` tokens.
    """

    def __init__(
        self,
        dim: int,
        *,
        head_dim: int = 32,
        sr_ratio: int = 1,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        device: Device = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.num_heads = dim // head_dim
        self.head_dim = head_dim
        self.group = sr_ratio**2
        self.fused_attn = use_fused_attn()
        self.q = nn.Linear(dim, dim, **dd)
        self.k = nn.Linear(dim, dim, **dd)
        self.v = nn.Linear(dim, dim, **dd)
        self.proj = nn.Linear(dim, dim, **dd)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj_drop = nn.Dropout(proj_drop)
        self.norm: nn.Module = nn.BatchNorm1d(dim, **dd) if sr_ratio > 1 else nn.Identity()

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        # type: (Tensor) -> Tensor
        b, n, c = x.shape
        if not torch.jit.is_scripting():
            self._check(b, n)
        keys = self._pool(x)
        m = keys.shape[1]
        q = self.q(x).view(b, n, self.num_heads, self.head_dim).transpose(1, 2)
        k = self.k(keys).view(b, m, self.num_heads, self.head_dim).transpose(1, 2)
        v = self.v(keys).view(b, m, self.num_heads, self.head_dim).transpose(1, 2)
        if self.fused_attn:
            x = F.scaled_dot_product_attention(q, k, v, dropout_p=self.attn_drop.p if self.training else 0.0)
        else:
            scores = (q * self.head_dim**-0.5) @ k.transpose(-2, -1)
            x = self.attn_drop(scores.softmax(dim=-1)) @ v
        return self.proj_drop(self.proj(x.transpose(1, 2).reshape(b, n, c)))

    def _check(self, batch: int, tokens: int) -> None:
        if self.group == 1 or torch.compiler.is_compiling():
            return
        count = tokens // self.group
        if count < 1:
            raise ValueError(
                f"{tokens} tokens are fewer than the {self.group} that are averaged into one key; use a larger map or "
                "a smaller sr_ratio"
            )
        if self.training and batch * count == 1:
            raise ValueError(
                f"batch norm needs more than one value per channel in training, but a batch of 1 with {tokens} tokens "
                f"leaves one key of {self.group} tokens; use a larger batch or evaluation mode"
            )

    def _pool(self, x: Tensor) -> Tensor:
        if self.group == 1:
            return x
        b, n, c = x.shape
        count = n // self.group
        x = x[:, : count * self.group].reshape(b * count, self.group, c).mean(1)
        return self.norm(x).view(b, count, c)

    def fuse(self, before: nn.Module) -> None:
        """Take the batch norm `before` the tokens, and that of the keys, into q, k and v."""
        fold_before(before, self.q)
        for layer in (self.k, self.v):
            if not isinstance(self.norm, nn.Identity):
                fold_before(self.norm, layer)
            fold_before(before, layer)
        self.norm = nn.Identity()


class ConvAttention(nn.Module):
    """Multi-head convolutional attention: grouped 3x3 convolution, batch norm, ReLU, 1x1 convolution.

    (B, C, H, W) -> the same; one group per `head_dim` channels.
    """

    def __init__(self, channels: int, *, head_dim: int = 32, device: Device = None, dtype: Any = None) -> None:
        super().__init__()
        dd: dict[str, Any] = {"device": device, "dtype": dtype}
        self.group_conv3x3 = nn.Conv2d(channels, channels, 3, padding=1, groups=channels // head_dim, bias=False, **dd)
        self.norm: nn.Module = nn.BatchNorm2d(channels, **dd)
        self.act = nn.ReLU(inplace=True)
        self.projection = nn.Conv2d(channels, channels, 1, bias=False, **dd)

    def forward(self, x: Float[Tensor, "batch chans height width"]) -> Float[Tensor, "batch chans height width"]:
        # type: (Tensor) -> Tensor
        return self.projection(self.act(self.norm(self.group_conv3x3(x))))

    def fuse(self) -> None:
        if not isinstance(self.norm, nn.Identity):
            fold_after(self.group_conv3x3, self.norm)
            self.norm = nn.Identity()
