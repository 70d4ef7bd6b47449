"""Pooling by learned states: a set of patterns becomes what a few questions recall from it."""

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from zoo.eager import must_compose
from zoo.layers.hopfield.absorbed import absorbed_association, absorbing_saves, can_absorb
from zoo.layers.hopfield.bags import EqualBags, RaggedBags
from zoo.layers.hopfield.hopfield import Hopfield, HopfieldOutput, as_output
from zoo.layers.hopfield.inputs import check_batches, check_inputs, score_mask
from zoo.layers.hopfield.normed import working_dtype
from zoo.layers.hopfield.options import check_choice, check_keywords, positive_int
from zoo.layers.hopfield.ragged import is_ragged, ragged_bags
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
        check_keywords(HopfieldPooling, options, Hopfield)
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
        x: Float[Tensor, "..."],
        padding_mask: Bool[Tensor, "batch tokens"] | None = None,
        *,
        values: Float[Tensor, "_ _ _"] | None = None,
        association_mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
        offsets: Int[Tensor, "..."] | Sequence[int] | None = None,
    ) -> Float[Tensor, "batch out_features"]:
        """Pool.

        Args:
            x: the tokens, the stored patterns, (B, N, dim); or ragged bags of them, see `offsets`.
            padding_mask: (B, N), True = ignore this token. Its numbers must be finite all the same.
            values: what is read out; x if None.
            association_mask: as `Hopfield` has it, with the learned states for L.
            offsets: x is (rows, dim), bag behind bag, and these say where each starts and the last one ends, (B + 1,);
                a NumPy array too.
                Nothing is padded then (but for sparse maps, `norm_association` and dropout in training). A jagged
                nested tensor needs none. Ragged bags come without masks and values.
        """
        if is_ragged(x, offsets):
            return self._pool_ragged(x, offsets, padding_mask, values, association_mask, False)[0]
        return self._pool(x, padding_mask, values, association_mask, False)[0]

    def recall(
        self,
        x: Float[Tensor, "..."],
        padding_mask: Bool[Tensor, "batch tokens"] | None = None,
        *,
        values: Float[Tensor, "_ _ _"] | None = None,
        association_mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
        offsets: Int[Tensor, "..."] | Sequence[int] | None = None,
    ) -> HopfieldOutput:
        """As `forward`, with the association matrix and how often it was computed; ragged bags are padded for it."""
        if is_ragged(x, offsets):
            return as_output(*self._pool_ragged(x, offsets, padding_mask, values, association_mask, True))
        return as_output(*self._pool(x, padding_mask, values, association_mask, True))

    def association(
        self,
        x: Float[Tensor, "..."],
        padding_mask: Bool[Tensor, "batch tokens"] | None = None,
        *,
        association_mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
        values: Float[Tensor, "_ _ _"] | None = None,
        offsets: Int[Tensor, "..."] | Sequence[int] | None = None,
    ) -> Float[Tensor, "batch heads quantity stored"]:
        """How much every learned state took from every token, (B, H, quantity, N + bias and zero pattern)."""
        masks = {"padding_mask": padding_mask, "association_mask": association_mask}
        return self.recall(x, values=values, offsets=offsets, **masks).association

    def _pool(
        self,
        x: Tensor,
        padding_mask: Tensor | None,
        values: Tensor | None,
        association_mask: Tensor | None,
        need_association: bool,
    ) -> tuple[Tensor, Associated]:
        layer = self.hopfield
        own = values is None or values is x
        values = x if values is None else values
        check_inputs({"x": (x, layer.sizes.stored), "values": (values, layer.sizes.value)})
        if not layer.batch_first:
            x, values = x.transpose(0, 1), values.transpose(0, 1)
        check_batches({"x": x.shape[0], "values": values.shape[0]})
        states = self.state_patterns.unsqueeze(0)
        learned = association_mask is not None and association_mask.requires_grad
        if own and not (need_association or learned or must_compose(x)) and self._absorbs(x.shape[0] * x.shape[1]):
            batch, count, width = x.shape
            layer.check_patterns(count)
            shape = (batch, layer.num_heads, self.quantity, count)
            mask = score_mask(padding_mask, association_mask, shape, 0, working_dtype(x))
            bags = EqualBags(batch, count, mask, layer.num_heads, self.quantity)
            found = absorbed_association(layer, x.reshape(batch * count, width), bags, states)
            return self._reduce(layer.read_out(found.result, mask)), found
        output, found = layer.associate(x.shape[0], x, states, values, padding_mask, association_mask, need_association)
        return self._reduce(output), found

    def _pool_ragged(
        self,
        x: Tensor,
        offsets: Tensor | Sequence[int] | None,
        padding_mask: Tensor | None,
        values: Tensor | None,
        association_mask: Tensor | None,
        need_association: bool,
    ) -> tuple[Tensor, Associated]:
        given = {"padding_mask": padding_mask, "values": values, "association_mask": association_mask}
        if extra := [name for name, value in given.items() if value is not None]:
            raise ValueError(
                f"ragged bags come without masks and values, got {', '.join(extra)}; pad them, or leave it"
            )
        layer, states = self.hopfield, self.state_patterns.unsqueeze(0)
        rows, bags = ragged_bags(x, offsets, layer.sizes.stored)
        if can_absorb(layer) and not need_association:
            found = absorbed_association(layer, rows, bags, states)
            return self._reduce(layer.read_out(found.result, _empty(bags))), found
        padded, inside = bags.padding(rows)
        output, found = layer.associate(bags.count, padded, states, padded, ~inside, None, need_association)
        return self._reduce(output), found

    def _absorbs(self, rows: int) -> bool:
        return can_absorb(self.hopfield) and absorbing_saves(self.hopfield, rows, self.quantity)

    def _reduce(self, output: Tensor) -> Tensor:
        return output.flatten(1) if self.reduce == "concat" else output.mean(1)

    def extra_repr(self) -> str:
        frozen = "" if self.state_patterns.requires_grad else ", trainable=False"
        return f"quantity={self.quantity}, reduce={self.reduce!r}{frozen}"


def _empty(bags: RaggedBags) -> Tensor | None:
    """As a mask of scores, (bags, 1, 1, 1), which bags have no rows; None if all have."""
    if all(bags.sizes):
        return None
    return torch.tensor([0.0 if size else -torch.inf for size in bags.sizes], device=bags.device).view(-1, 1, 1, 1)
