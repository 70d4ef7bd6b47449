"""Pooling by learned states: a set of patterns becomes what a few questions recall from it."""

from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from zoo.layers.hopfield.hopfield import Hopfield, HopfieldOutput, as_output
from zoo.layers.hopfield.inputs import check_batches, check_inputs
from zoo.layers.hopfield.options import check_choice, positive_int
from zoo.layers.hopfield.reference import Associated

REDUCTIONS = ("mean", "concat")
_STD = 0.02


class HopfieldPooling(nn.Module):
    """The tokens are stored patterns; learned states, the same for every sample, associate with them.

        y_q = Hopfield(stored=x, state=r_q, values=x) for each of `quantity` learned states r_q;   y = mean_q y_q

    Each learned state is a question that every sample is asked; it passes the norm and the projection of the states
    like any input, and `association` tells which tokens answered.

    Shapes: (B, N, dim) -> (B, out_dim), or with reduce="concat" (B, quantity * out_dim).

    Args:
        dim: width of the tokens.
        quantity: learned states.
        trainable: train them.
        reduce: "mean" over the states keeps the width; "concat" sets their results side by side, as the authors' code.
        options: of `Hopfield`.

    Raises:
        ValueError, TypeError: as `Hopfield`; an unknown reduction.

    Source: Ramsauer et al., "Hopfield Networks is All You Need" (2021, arXiv 2008.02217).
    """

    permutation_invariant: ClassVar[bool] = True

    def __init__(
        self,
        dim: int | None = None,
        *,
        quantity: int = 1,
        trainable: bool = True,
        reduce: str = "mean",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        self.quantity = positive_int("quantity", quantity)
        check_choice("reduce", reduce, REDUCTIONS)
        self.reduce = reduce
        self.hopfield = Hopfield(dim, **options, device=device, dtype=dtype)
        width = self.hopfield.sizes.state
        if width is None:
            raise ValueError("the learned states need a width: give dim or head_dim")
        states = torch.empty(quantity, width, device=device, dtype=dtype)
        self.state_patterns = nn.Parameter(states, requires_grad=trainable)
        self._reset_states()

    def _reset_states(self) -> None:
        nn.init.normal_(self.state_patterns, std=_STD)

    def reset_parameters(self) -> None:
        """The learned states from N(0, 0.02^2); the rest as `Hopfield`."""
        self.hopfield.reset_parameters()
        self._reset_states()

    @property
    def out_features(self) -> int:
        """Width of the output."""
        width = self.hopfield.sizes.out or 0
        return self.quantity * width if self.reduce == "concat" else width

    @property
    def feat_mult(self) -> int:
        """How many times as wide as a token the output is.

        Raises:
            ValueError: it is no multiple.
        """
        dim = self.hopfield.sizes.stored or 0
        if not dim or self.out_features % dim:
            raise ValueError(f"the output is {self.out_features} wide, no multiple of the {dim} of a token")
        return self.out_features // dim

    def forward(
        self,
        x: Float[Tensor, "_ _ _"],
        padding_mask: Bool[Tensor, "batch tokens"] | None = None,
        *,
        values: Float[Tensor, "_ _ _"] | None = None,
        association_mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch out_features"]:
        """Pool.

        Args:
            x: the tokens, the stored patterns.
            padding_mask: (B, N), True = ignore this token.
            values: what is read out; x if None.
            association_mask: as `Hopfield` has it, with the learned states for L.
        """
        return self._pool(x, padding_mask, values, association_mask, False)[0]

    def recall(
        self,
        x: Float[Tensor, "_ _ _"],
        padding_mask: Bool[Tensor, "batch tokens"] | None = None,
        *,
        values: Float[Tensor, "_ _ _"] | None = None,
        association_mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
    ) -> HopfieldOutput:
        """As `forward`, with the association matrix and how often it was computed."""
        return as_output(*self._pool(x, padding_mask, values, association_mask, True))

    def association(
        self,
        x: Float[Tensor, "_ _ _"],
        padding_mask: Bool[Tensor, "batch tokens"] | None = None,
        *,
        association_mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
        values: Float[Tensor, "_ _ _"] | None = None,
    ) -> Float[Tensor, "batch heads quantity tokens"]:
        """How much every learned state took from every token, (B, H, quantity, N + bias and zero pattern)."""
        return self.recall(x, padding_mask, values=values, association_mask=association_mask).association

    def _pool(
        self,
        x: Tensor,
        padding_mask: Tensor | None,
        values: Tensor | None,
        association_mask: Tensor | None,
        need_association: bool,
    ) -> tuple[Tensor, Associated]:
        values = x if values is None else values
        sizes = self.hopfield.sizes
        check_inputs({"x": (x, sizes.stored), "values": (values, sizes.value)})
        if not self.hopfield.batch_first:
            x, values = x.transpose(0, 1), values.transpose(0, 1)
        check_batches({"x": x.shape[0], "values": values.shape[0]})
        states = self.state_patterns.unsqueeze(0)
        output, found = self.hopfield.associate(
            x.shape[0], x, states, values, padding_mask, association_mask, need_association
        )
        return (output.flatten(1) if self.reduce == "concat" else output.mean(1)), found

    def extra_repr(self) -> str:
        frozen = "" if self.state_patterns.requires_grad else ", trainable=False"
        return f"quantity={self.quantity}, reduce={self.reduce!r}{frozen}"
