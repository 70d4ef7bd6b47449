"""Encoder and decoder layers with Hopfield associations in place of attention."""

import copy
from collections.abc import Callable

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from zoo.layers.hopfield.hopfield import Hopfield
from zoo.layers.hopfield.options import activation_function, positive_int, share


class _FeedForward(nn.Module):
    """x = LN(x + drop(W2 drop(act(W1 x))))"""

    def __init__(
        self,
        dim: int,
        hidden: int,
        dropout: float,
        activation: str | Callable[[Tensor], Tensor],
        device: torch.device | str | None,
        dtype: torch.dtype | None,
    ) -> None:
        super().__init__()
        self.linear1 = nn.Linear(dim, positive_int("dim_feedforward", hidden), device=device, dtype=dtype)
        self.linear2 = nn.Linear(hidden, dim, device=device, dtype=dtype)
        self.norm = nn.LayerNorm(dim, device=device, dtype=dtype)
        self.drop = nn.Dropout(share("dropout", dropout))
        self.activation = activation_function(activation)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.linear1(x)
        hidden = hidden if self.activation is None else self.activation(hidden)
        return self.norm(x + self.drop(self.linear2(self.drop(hidden))))


class HopfieldEncoderLayer(nn.Module):
    """x = LN(x + drop(association(x)));  x = LN(x + drop(W2 drop(act(W1 x)))).

    The association norms its inputs itself, unless built otherwise.

    Shapes: (B, L, dim) -> the same.

    Args:
        association: a `Hopfield` whose inputs and output are dim wide; it is copied, and the copy drawn anew.
        dim_feedforward: width of the feed-forward part.
        dropout: after the association, the activation and the feed-forward part.
        activation: a function, or its name in torch.

    Raises:
        ValueError, TypeError: as `Hopfield`; an association of other widths.

    Source: Ramsauer et al., "Hopfield Networks is All You Need" (2021, arXiv 2008.02217).
    """

    def __init__(
        self,
        association: Hopfield,
        *,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = "relu",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        dim = _width("association", association)
        self.association = _own(association, device, dtype)
        self.norm = nn.LayerNorm(dim, device=device, dtype=dtype)
        self.drop = nn.Dropout(share("dropout", dropout))
        self.feed_forward = _FeedForward(dim, dim_feedforward, dropout, activation, device, dtype)

    def reset_parameters(self) -> None:
        """The association as `Hopfield`; linear layers and norms as torch has them."""
        _reset(self.association, self.norm, *self.feed_forward.children())

    def forward(
        self,
        x: Float[Tensor, "_ _ dim"],
        *,
        padding_mask: Bool[Tensor, "..."] | None = None,
        association_mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "_ _ dim"]:
        """Encode; masks as `Hopfield` has them."""
        found = self.association(x, padding_mask=padding_mask, association_mask=association_mask)
        return self.feed_forward(self.norm(x + self.drop(found)))


class HopfieldDecoderLayer(nn.Module):
    """As the encoder layer, with a second association between: states from the target, patterns from the memory.

        x = LN(x + drop(self_association(x)));  x = LN(x + drop(cross_association(memory, x, memory)));  feed-forward

    Shapes: x (B, L, dim), memory (B, S, width of the cross association's stored patterns) -> (B, L, dim).

    Args:
        self_association, cross_association: `Hopfield`s, copied, and the copies drawn anew.
        dim_feedforward, dropout, activation: as `HopfieldEncoderLayer`.

    Raises:
        ValueError, TypeError: as `HopfieldEncoderLayer`.

    Source: Ramsauer et al., "Hopfield Networks is All You Need" (2021, arXiv 2008.02217).
    """

    def __init__(
        self,
        self_association: Hopfield,
        cross_association: Hopfield,
        *,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: str | Callable[[Tensor], Tensor] = "relu",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        dim = _width("self_association", self_association)
        if (cross := _width("cross_association", cross_association)) != dim:
            raise ValueError(f"both associations must be equally wide, got {dim} and {cross}")
        self.self_association = _own(self_association, device, dtype)
        self.cross_association = _own(cross_association, device, dtype)
        self.norm_self = nn.LayerNorm(dim, device=device, dtype=dtype)
        self.norm_cross = nn.LayerNorm(dim, device=device, dtype=dtype)
        self.drop = nn.Dropout(share("dropout", dropout))
        self.feed_forward = _FeedForward(dim, dim_feedforward, dropout, activation, device, dtype)

    def reset_parameters(self) -> None:
        """The associations as `Hopfield`; linear layers and norms as torch has them."""
        parts = (self.self_association, self.cross_association, self.norm_self, self.norm_cross)
        _reset(*parts, *self.feed_forward.children())

    def forward(
        self,
        x: Float[Tensor, "_ _ dim"],
        memory: Float[Tensor, "_ _ _"],
        *,
        padding_mask: Bool[Tensor, "..."] | None = None,
        association_mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
        memory_padding_mask: Bool[Tensor, "..."] | None = None,
        memory_association_mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "_ _ dim"]:
        """Decode; masks as `Hopfield` has them, those of the memory for the cross association."""
        found = self.self_association(x, padding_mask=padding_mask, association_mask=association_mask)
        x = self.norm_self(x + self.drop(found))
        masks = {"padding_mask": memory_padding_mask, "association_mask": memory_association_mask}
        found = self.cross_association(memory, x, memory, **masks)
        return self.feed_forward(self.norm_cross(x + self.drop(found)))


def _width(name: str, association: Hopfield) -> int:
    if not isinstance(association, Hopfield):
        raise TypeError(f"{name} must be a Hopfield, got {type(association).__name__}")
    sizes = association.sizes
    if sizes.out is None or sizes.out != sizes.state:
        raise ValueError(f"{name} must give back the width of its states, got {sizes.state} in and {sizes.out} out")
    return sizes.out


def _own(association: Hopfield, device: torch.device | str | None, dtype: torch.dtype | None) -> Hopfield:
    own = copy.deepcopy(association).to(device=device, dtype=dtype)
    own.reset_parameters()
    return own


def _reset(*parts: nn.Module) -> None:
    for part in parts:
        if hasattr(part, "reset_parameters"):
            part.reset_parameters()  # pyright: ignore[reportCallIssue]
