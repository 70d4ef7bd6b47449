"""One small module per kind that keeps the contract, to be broken in one place each in `broken.py`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from timm.layers import apply_rot_embed_cat
from torch import Tensor, nn


class Head(nn.Module):
    def __init__(self, in_features, out_features, *, bias=True, device=None, dtype=None):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.weight = nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        self.bias = nn.Parameter(torch.empty(out_features, device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight)
        if self.bias is not None:
            nn.init.zeros_(self.bias)

    def forward(self, x: Tensor) -> Tensor:
        return F.linear(x, self.weight, self.bias)


class Pool(nn.Module):
    feat_mult = 2
    permutation_invariant = True

    def __init__(self, dim, *, device=None, dtype=None):
        super().__init__()
        self.weight = nn.Parameter(torch.empty(dim, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.weight * x.mean(1), x.amax(1)], dim=-1)


class Mlp(nn.Module):
    """On tokens; our own are not used here: no compiler sees through their checks."""

    def __init__(
        self, in_features, hidden_features=None, out_features=None, *, act_layer=None, drop=0.0, device=None, dtype=None
    ):
        super().__init__()
        hidden = hidden_features or in_features
        self.fc1 = self._map(in_features, hidden, device=device, dtype=dtype)
        self.act = (act_layer or nn.GELU)()
        self.fc2 = self._map(hidden, out_features or in_features, device=device, dtype=dtype)
        self.drop = nn.Dropout(drop)

    def _map(self, width, out, **kwargs) -> nn.Module:
        return nn.Linear(width, out, **kwargs)

    def reset_parameters(self) -> None:
        self.fc1.reset_parameters()
        self.fc2.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.act(self.fc1(x))))


class MlpOfMaps(Mlp):
    layout = "NCHW"

    def _map(self, width, out, **kwargs) -> nn.Module:
        return nn.Conv2d(width, out, 1, **kwargs)


class Attention(nn.Module):
    def __init__(self, dim, num_heads=8, *, qkv_bias=True, attn_drop=0.0, proj_drop=0.0, device=None, dtype=None):
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias, device=device, dtype=dtype)
        self.drop, self.proj_drop = nn.Dropout(attn_drop), nn.Dropout(proj_drop)

    def reset_parameters(self) -> None:
        self.qkv.reset_parameters()

    def forward(self, x: Tensor, attn_mask: Tensor | None = None, rope: Tensor | None = None) -> Tensor:
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).view(batch, tokens, 3, self.num_heads, dim // self.num_heads).permute(2, 0, 3, 1, 4)
        if rope is not None:
            at = tokens - len(rope)
            q = torch.cat([q[:, :, :at], apply_rot_embed_cat(q[:, :, at:], rope)], 2)
            k = torch.cat([k[:, :, :at], apply_rot_embed_cat(k[:, :, at:], rope)], 2)
        weights = q @ k.mT
        if attn_mask is not None:
            hidden = ~attn_mask if attn_mask.dtype == torch.bool else attn_mask == -torch.inf
            weights = weights.masked_fill(hidden, -torch.inf)
        return self.proj_drop((self.drop(weights.softmax(-1)) @ v).transpose(1, 2).reshape(x.shape))


class MixerOfMaps(nn.Module):
    layout = "NHWC"

    def __init__(self, dim, num_heads=8, *, qkv_bias=True, attn_drop=0.0, proj_drop=0.0, device=None, dtype=None):
        super().__init__()
        self.inner = Attention(
            dim, num_heads, qkv_bias=qkv_bias, attn_drop=attn_drop, proj_drop=proj_drop, device=device, dtype=dtype
        )

    def reset_parameters(self) -> None:
        self.inner.reset_parameters()

    def forward(self, x: Tensor, attn_mask: Tensor | None = None) -> Tensor:
        return self.inner(x.flatten(1, 2), attn_mask).reshape(x.shape)

    def mix_prefix(self, prefix: Tensor, map: Tensor) -> Tensor:
        tokens = torch.cat([prefix, map.flatten(1, 2)], dim=1)
        return self.inner(tokens)[:, : prefix.shape[1]]


class Act(nn.Module):
    def __init__(self, *, device=None, dtype=None):
        super().__init__()
        self.slope = nn.Parameter(torch.empty((), device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.ones_(self.slope)

    def forward(self, x: Tensor) -> Tensor:
        return self.slope * x.tanh()


class Upsampler(nn.Module):
    def __init__(self, in_chans, out_chans, scale, *, device=None, dtype=None):
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv2d(in_chans, out_chans, 3, padding=1, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        self.conv.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x).repeat_interleave(self.scale, -1).repeat_interleave(self.scale, -2)


class Circuit(nn.Module):
    """A product of cosines: no linear layer, and no leading axes but the batch."""

    def __init__(self, in_features, out_features, *, device=None, dtype=None):
        super().__init__()
        self.in_features, self.out_features = in_features, out_features
        self.phase = nn.Parameter(torch.empty(out_features, in_features, device=device, dtype=dtype))
        self.reset_parameters()

    def reset_parameters(self) -> None:
        nn.init.uniform_(self.phase)

    def forward(self, x: Tensor) -> Tensor:
        return (x[:, None] + self.phase).cos().prod(-1)


class Stitch(nn.Module):
    def __init__(self, in_dim, out_dim, *, device=None, dtype=None):
        super().__init__()
        self.in_dim, self.out_dim = in_dim, out_dim
        self.transform = nn.Linear(in_dim, out_dim, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        self.transform.reset_parameters()

    def forward(self, x: Tensor) -> Tensor:
        return self.transform(x)


class Memory(nn.Module):
    """Two inputs, two outputs: a kind whose contract has no call."""

    def __init__(self, width=4, *, device=None, dtype=None):
        super().__init__()
        self.linear = nn.Linear(width, width, device=device, dtype=dtype)

    def reset_parameters(self) -> None:
        self.linear.reset_parameters()

    def forward(self, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        return self.linear(a), self.linear(b)


SOUND = {
    "head": Head,
    "circuit": Circuit,
    "pool": Pool,
    "mlp": MlpOfMaps,
    "mixer": MixerOfMaps,
    "act": Act,
    "upsampler": Upsampler,
    "stitch": Stitch,
}
