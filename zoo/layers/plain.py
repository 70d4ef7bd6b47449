"""The plain layers of a transformer under the contract of the kinds: what the others are compared with.

Names of parameters and default initialisation are those of timm (1.0.31), so its checkpoints fit.
"""

from collections.abc import Callable, Mapping
from typing import Any, ClassVar

import timm.layers
import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from timm.layers import apply_rot_embed_cat, get_act_layer
from timm.layers.create_act import _ACT_LAYER_DEFAULT
from torch import Tensor, nn

from zoo.layers.modes import evaluating
from zoo.naming import did_you_mean

#: How far outputs of two layers with the same parameters may lie apart, by the norm of one of them.
_SAME = {torch.float64: 1e-9, torch.float32: 1e-4}


class Linear(nn.Linear):
    """y = W x + b, on the last axis.

    Shapes: (*, in_features) -> (*, out_features).

    Args:
        in_features: inputs.
        out_features: outputs.
        bias: add b.
    """

    def __init__(
        self,
        in_features: int,
        out_features: int,
        *,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__(in_features, out_features, bias, device=device, dtype=dtype)

    def imitate(self, reference: nn.Module, inputs: Tensor) -> bool:
        """Take the parameters of a linear layer of the same sizes; False, and nothing changed, for anything else.

        Args:
            reference: the layer to be replaced.
            inputs: rows (n, in_features) on which the two must then agree.
        """
        return isinstance(reference, nn.Linear) and _take(self, _linear(reference), reference, inputs)


class Mlp(timm.layers.Mlp):
    """Two linear maps with an activation between them: y = W2 act(W1 x + b1) + b2.

    Shapes: (*, in_features) -> (*, out_features).

    Args:
        in_features: width of the tokens.
        hidden_features: width between the two maps; in_features if None.
        out_features: in_features if None.
        act_layer: class of the activation, or timm's name of one; GELU if None.
        drop: dropout after the activation and after the second map.
        bias: add b1 and b2.

    Raises:
        ValueError: timm has no activation of that name; near names are in the message.
    """

    layout: ClassVar[str] = "NLC"

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        *,
        act_layer: Callable[..., nn.Module] | str | None = None,
        drop: float = 0.0,
        bias: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        act: Any = _activation(act_layer)
        super().__init__(
            in_features, hidden_features, out_features, act, bias=bias, drop=drop, device=device, dtype=dtype
        )

    def reset_parameters(self) -> None:
        """Both maps as torch draws its linear layers; an activation's parameters to their start."""
        for layer in (self.fc1, self.act, self.fc2):
            if hasattr(layer, "reset_parameters"):
                layer.reset_parameters()  # pyright: ignore[reportCallIssue]

    def forward(self, x: Float[Tensor, "*batch in_features"]) -> Float[Tensor, "*batch out_features"]:
        # type: (Tensor) -> Tensor
        return self.drop2(self.fc2(self.drop1(self.act(self.fc1(x)))))

    def imitate(self, reference: nn.Module, inputs: Tensor) -> bool:
        """Take `fc1` and `fc2` of a reference of the same sizes and activation, else change nothing and return False.

        Args:
            reference: the feed-forward part to be replaced.
            inputs: rows (n, in_features) on which the two must then agree.
        """
        first, second = (getattr(reference, name, None) for name in ("fc1", "fc2"))
        if not isinstance(first, nn.Linear) or not isinstance(second, nn.Linear):
            return False
        return _take(self, {**_linear(first, "fc1."), **_linear(second, "fc2.")}, reference, inputs)


class Attention(nn.Module):
    """Multi-head self-attention: y = W_o softmax(q k^T / sqrt(d)) v, with q, k, v = W_qkv x and d = dim / num_heads.

    Shapes: (batch, tokens, dim) -> the same; any batch of sequences, windows of a map too.

    Args:
        dim: channels; a multiple of num_heads.
        num_heads: attention heads.
        qkv_bias: bias of the q, k, v projection.
        attn_drop: dropout on attention weights, in training.
        proj_drop: dropout on the output, in training.
        rotate_half: the rotary embedding pairs channel i with i + d / 2 instead of with its neighbour.

    Raises:
        ValueError: dim is no multiple of num_heads.
    """

    layout: ClassVar[str] = "NLC"
    windows: ClassVar[bool] = True

    def __init__(
        self,
        dim: int,
        num_heads: int = 8,
        *,
        qkv_bias: bool = True,
        attn_drop: float = 0.0,
        proj_drop: float = 0.0,
        rotate_half: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if num_heads < 1 or dim < 1 or dim % num_heads:
            raise ValueError(f"dim must be a positive multiple of num_heads, got dim {dim} and num_heads {num_heads}")
        self.dim = dim
        self.num_heads = num_heads
        self.rotate_half = rotate_half
        self.qkv = nn.Linear(dim, 3 * dim, bias=qkv_bias, device=device, dtype=dtype)
        self.attn_drop = nn.Dropout(attn_drop)
        self.proj = nn.Linear(dim, dim, device=device, dtype=dtype)
        self.proj_drop = nn.Dropout(proj_drop)

    def reset_parameters(self) -> None:
        """Both maps as torch draws its linear layers."""
        self.qkv.reset_parameters()
        self.proj.reset_parameters()

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        attn_mask: Float[Tensor, "..."] | Bool[Tensor, "..."] | None = None,
        rope: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Attend.

        Args:
            x: the tokens.
            attn_mask: added to the scores, or True where a query may look; broadcast to (batch, heads, tokens, tokens).
            rope: timm's rotary embedding (…, positions, 2 d) of the last `positions` tokens; class and register
                tokens before them are not turned.
        """
        batch, tokens, dim = x.shape
        q, k, v = self.qkv(x).reshape(batch, tokens, 3, self.num_heads, dim // self.num_heads).permute(2, 0, 3, 1, 4)
        if rope is not None:
            q, k = self._turn(q, rope), self._turn(k, rope)
        if attn_mask is not None and attn_mask.dtype != torch.bool:
            attn_mask = attn_mask.to(q.dtype)
        drop = self.attn_drop.p if self.training else 0.0
        attended = F.scaled_dot_product_attention(q, k, v, attn_mask=attn_mask, dropout_p=drop)
        return self.proj_drop(self.proj(attended.transpose(1, 2).reshape(batch, tokens, dim)))

    def _turn(self, heads: Tensor, rope: Tensor) -> Tensor:
        prefix = heads.shape[-2] - rope.shape[-2]
        turned = apply_rot_embed_cat(heads[:, :, prefix:], rope, half=self.rotate_half)
        return torch.cat([heads[:, :, :prefix], turned], dim=2)

    def extra_repr(self) -> str:
        return f"{self.dim}, num_heads={self.num_heads}"

    def imitate(self, reference: nn.Module, inputs: Tensor) -> bool:
        """Take the projections of an attention of the same sizes: `qkv` (or `q_proj`, `k_proj`, `v_proj`) and `proj`.

        Args:
            reference: the attention to be replaced.
            inputs: sequences (batch, tokens, dim), to see what the copy is worth.

        Returns:
            False, and nothing is changed, where the reference has other parts or sizes, or computes something so
            different (normed queries, another scale) that the copy is no nearer to it than the layer was. Position
            biases of the reference are not copied: the layer has none.
        """
        packed, proj = _packed(reference), getattr(reference, "proj", None)
        if packed is None or not isinstance(proj, nn.Linear):
            return False
        if getattr(reference, "num_heads", None) != self.num_heads:
            return False
        if bool(getattr(reference, "rotate_half", False)) != self.rotate_half:
            return False
        # Normed queries make other scores of the same projections.
        names = ("q_norm", "k_norm", "norm")
        normed = any(not isinstance(getattr(reference, name, None), nn.Identity | None) for name in names)
        dropped = packed["qkv.bias"] is not None and self.qkv.bias is None
        exactly = normed or dropped or hasattr(reference, "logit_scale")
        return _take(self, {**packed, **_linear(proj, "proj.")}, reference, inputs, exactly=exactly)


class AveragePool(nn.Module):
    """The mean of the tokens: y = (1 / N) sum_n x_n.

    Shapes: (batch, tokens, dim) -> (batch, dim).

    Args:
        dim: channels.
        device, dtype: taken because every module takes them; there are no parameters.
    """

    feat_mult: ClassVar[int] = 1
    permutation_invariant: ClassVar[bool] = True

    def __init__(self, dim: int, *, device: torch.device | str | None = None, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.dim = dim

    def forward(self, x: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch dim"]:
        # type: (Tensor) -> Tensor
        return x.mean(1)

    def extra_repr(self) -> str:
        return str(self.dim)

    def imitate(self, reference: nn.Module, inputs: Tensor) -> bool:
        """Whether the reference is the mean too, by its values on `inputs` (batch, tokens, dim)."""
        return _take(self, {}, reference, inputs)


def _activation(layer: Callable[..., nn.Module] | str | None) -> Callable[..., nn.Module]:
    if layer is None:
        return nn.GELU
    if isinstance(layer, str) and layer.lower() not in _ACT_LAYER_DEFAULT:
        hint = did_you_mean(layer, _ACT_LAYER_DEFAULT) or f"; it has {', '.join(sorted(_ACT_LAYER_DEFAULT))}"
        raise ValueError(f"timm has no activation {layer!r}{hint}")
    return get_act_layer(layer)  # pyright: ignore[reportReturnType]


def _linear(layer: nn.Linear, prefix: str = "") -> dict[str, Tensor | None]:
    return {f"{prefix}weight": layer.weight, f"{prefix}bias": layer.bias}


def _packed(reference: nn.Module) -> dict[str, Tensor | None] | None:
    """Weight and bias of one projection to q, k and v, from the forms that timm's attentions have."""
    qkv = getattr(reference, "qkv", None)
    if isinstance(qkv, nn.Linear):
        bias = qkv.bias
        query, value = getattr(reference, "q_bias", None), getattr(reference, "v_bias", None)
        if bias is None and query is not None and value is not None:  # EVA, BEiT: keys have none that trains
            key = getattr(reference, "k_bias", None)
            bias = torch.cat([query, torch.zeros_like(query) if key is None else key, value])
        return {"qkv.weight": qkv.weight, "qkv.bias": bias}
    layers = [getattr(reference, name, None) for name in ("q_proj", "k_proj", "v_proj")]
    linear = [layer for layer in layers if isinstance(layer, nn.Linear)]
    if len(linear) != 3:
        return None
    zeros = [torch.zeros_like(layer.weight[:, 0]) for layer in linear]
    biases = [zero if layer.bias is None else layer.bias for layer, zero in zip(linear, zeros, strict=True)]
    return {"qkv.weight": torch.cat([layer.weight for layer in linear]), "qkv.bias": torch.cat(biases)}


@torch.no_grad()
def _take(
    module: nn.Module,
    values: Mapping[str, Tensor | None],
    reference: nn.Module,
    inputs: Tensor,
    *,
    exactly: bool = True,
) -> bool:
    """Copy `values` into the parameters of those names; undone when the outputs on `inputs` do not agree then.

    None stands for zeros. A value without a parameter is left out: the comparison tells whether it mattered. With
    `exactly=False` outputs must only be nearer to the reference's than they were.
    """
    own = {name: p for name, p in module.named_parameters() if name in values}
    given = {name: torch.zeros_like(p) if (v := values[name]) is None else v for name, p in own.items()}
    if any(given[name].shape != p.shape for name, p in own.items()):
        return False
    kept = {name: p.clone() for name, p in own.items()}
    with evaluating(module, reference):
        wanted, before = reference(inputs), module(inputs)
        for name, parameter in own.items():
            parameter.copy_(given[name])
        after = module(inputs)
    same = _agree(after, wanted)
    if not exactly and not same and isinstance(wanted, Tensor) and wanted.shape == after.shape:
        same = bool((after - wanted).norm() < (before - wanted).norm())
    if not same:
        for name, parameter in own.items():
            parameter.copy_(kept[name])
    return same


def _agree(ours: Tensor, theirs: object) -> bool:
    if not isinstance(theirs, Tensor) or theirs.shape != ours.shape:
        return False
    limit = _SAME.get(torch.promote_types(ours.dtype, theirs.dtype), 0.03)
    ours, theirs = ours.double(), theirs.double()
    return bool((ours - theirs).norm() <= limit * theirs.norm())
