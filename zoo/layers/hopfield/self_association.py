"""Self-association as the token mixer of a transformer block."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from timm.layers import apply_rot_embed_cat
from torch import Tensor, nn

from zoo.layers.hopfield.hopfield import Hopfield
from zoo.layers.hopfield.inputs import check_inputs, score_mask
from zoo.layers.hopfield.options import check_keywords
from zoo.layers.plain import _linear, _packed, _take


class HopfieldSelfAssociation(nn.Module):
    """Every token is a state that associates with all tokens as stored patterns: `Hopfield` with one input.

    Shapes: (batch, tokens, dim) -> the same.

    Args:
        dim: channels.
        num_heads: associations side by side.
        qkv_bias: bias of all projections.
        attn_drop: dropout on the association, in training.
        proj_drop: dropout on the output, in training.
        norm_inputs: layer norms of the layer's own; the blocks of a backbone have normed already.
        num_updates: associations computed; 1 is attention.
        tol: None makes all updates, without a test.
        rotate_half: the rotary embedding pairs channel i with i + d / 2 instead of with its neighbour.
        options: of `Hopfield`.

    Raises:
        ValueError, TypeError: as `Hopfield`; in the call, a mask that does not broadcast.

    Source: Ramsauer et al., "Hopfield Networks is All You Need" (2021, arXiv 2008.02217).
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
        norm_inputs: bool = False,
        num_updates: int | Sequence[int] | None = 1,
        tol: float | None = None,
        rotate_half: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_keywords(HopfieldSelfAssociation, options, Hopfield)
        self.dim = dim
        self.rotate_half = rotate_half
        norms = dict.fromkeys(("norm_stored", "norm_state", "norm_value"), norm_inputs)
        self.hopfield = Hopfield(
            dim,
            num_heads=num_heads,
            bias=qkv_bias,
            dropout=attn_drop,
            num_updates=num_updates,
            tol=tol,
            device=device,
            dtype=dtype,
            **{**norms, **options},
        )
        self.proj_drop = nn.Dropout(proj_drop)

    @property
    def num_heads(self) -> int:
        """Associations side by side."""
        return self.hopfield.num_heads

    def reset_parameters(self) -> None:
        """As `Hopfield`."""
        self.hopfield.reset_parameters()

    def forward(
        self,
        x: Float[Tensor, "batch tokens dim"],
        attn_mask: Float[Tensor, "..."] | Bool[Tensor, "..."] | None = None,
        rope: Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Associate.

        Args:
            x: the tokens.
            attn_mask: added to the scores, or True where a state may look; broadcast to (batch, heads, tokens, tokens).
            rope: timm's rotary embedding (…, positions, 2 d) of the last `positions` tokens; class and register
                tokens before them are not turned. States and stored patterns are turned once, before the first update.
        """
        check_inputs({"x": (x, self.dim)})
        batch, tokens, _ = x.shape
        q, k, v = self.hopfield.project(x, x, x)
        if rope is not None:
            q, k = self._turn(q, rope, tokens), self._turn(k, rope, tokens)
        shape = (batch, self.num_heads, tokens, tokens)
        if attn_mask is not None:
            forbidden = ~attn_mask if attn_mask.dtype == torch.bool else attn_mask
            attn_mask = forbidden[(None,) * (4 - attn_mask.ndim)]
            sizes = zip(attn_mask.shape, shape, strict=False)
            if attn_mask.ndim != 4 or any(size not in (1, full) for size, full in sizes):
                raise ValueError(f"attn_mask must broadcast to {shape}, got {tuple(forbidden.shape)}")
        mask = score_mask(None, attn_mask, shape, self.hopfield.extra_patterns, q.dtype)
        found = self.hopfield.associate_heads(q, k, v, mask)
        return self.proj_drop(self.hopfield.read_out(found.result, mask))

    def _turn(self, heads: Tensor, rope: Tensor, tokens: int) -> Tensor:
        """Turn the last of the tokens; neither those before nor the bias and zero pattern behind."""
        first = tokens - rope.shape[-2]
        turned = apply_rot_embed_cat(heads[:, :, first:tokens], rope, half=self.rotate_half)
        return torch.cat([heads[:, :, :first], turned, heads[:, :, tokens:]], dim=2)

    def imitate(self, reference: nn.Module, inputs: Tensor) -> bool:
        """Take the projections of an attention of the same sizes: `qkv` (or `q_proj`, `k_proj`, `v_proj`) and `proj`.

        With one update, the default beta and no norms the copy is exact.

        Args:
            reference: the attention to be replaced.
            inputs: sequences (batch, tokens, dim), to see what the copy is worth.

        Returns:
            False, and nothing is changed, where the reference has other parts or sizes, or where the copy is no nearer
            to it than the layer was.
        """
        packed, proj = _packed(reference), getattr(reference, "proj", None)
        if packed is None or not isinstance(proj, nn.Linear) or getattr(reference, "num_heads", None) != self.num_heads:
            return False
        values = {f"hopfield.{name}": value for name, value in _linear(proj, "out_proj.").items()}
        for end in ("weight", "bias"):
            whole = packed[f"qkv.{end}"]
            parts = (None,) * 3 if whole is None else whole.chunk(3)
            for name, part in zip(("state", "stored", "value"), parts, strict=True):
                values[f"hopfield.proj_{name}.{end}"] = part
        return _take(self, values, reference, inputs, exactly=False)

    def extra_repr(self) -> str:
        return f"{self.dim}, num_heads={self.num_heads}"
