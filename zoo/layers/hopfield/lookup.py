"""Lookup in learned patterns: states associate with prototypes that belong to the layer, not to the sample."""

from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from zoo.layers.hopfield.hopfield import Hopfield, HopfieldOutput, as_output
from zoo.layers.hopfield.inputs import check_inputs
from zoo.layers.hopfield.options import check_keywords, positive_int
from zoo.layers.hopfield.projections import is_plain
from zoo.layers.hopfield.reference import Associated
from zoo.weight_cache import WeightCache

_STD = 0.02


class HopfieldLayer(nn.Module):
    """The inputs are states; the stored patterns, and what they stand for, are learned.

        y = Hopfield(stored=p_1..p_Q, state=x, values=p_1..p_Q, or with `separate_targets` t_1..t_Q)

    The projected patterns are made once a call, and in evaluation without gradients kept until a parameter changes.

    Shapes: (B, L, dim) -> (B, L, out_dim).

    Args:
        dim: width of the inputs.
        quantity: stored patterns, Q.
        trainable: train the stored patterns.
        separate_targets: values of their own instead of the stored patterns themselves.
        trainable_targets: train those.
        options: of `Hopfield`; value_in_dim is the width of separate targets.

    Raises:
        ValueError, TypeError: as `Hopfield`.

    Source: Ramsauer et al., "Hopfield Networks is All You Need" (2021, arXiv 2008.02217).
    """

    def __init__(
        self,
        dim: int | None = None,
        *,
        quantity: int = 1,
        trainable: bool = True,
        separate_targets: bool = False,
        trainable_targets: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        **options: Any,
    ) -> None:
        super().__init__()
        check_keywords(HopfieldLayer, options, Hopfield)
        self.quantity = positive_int("quantity", quantity)
        self.hopfield = Hopfield(dim, **options, device=device, dtype=dtype)
        stored, value = self.hopfield.sizes.stored, self.hopfield.sizes.value
        if stored is None or value is None:
            raise ValueError("the stored patterns need a width: give dim or head_dim")
        if not separate_targets and stored != value:
            raise ValueError(f"values are {value} wide and stored patterns {stored}; they need separate_targets=True")
        patterns = torch.empty(quantity, stored, device=device, dtype=dtype)
        self.stored_patterns = nn.Parameter(patterns, requires_grad=trainable)
        self.target_patterns = None
        if separate_targets:
            targets = torch.empty(quantity, value, device=device, dtype=dtype)
            self.target_patterns = nn.Parameter(targets, requires_grad=trainable_targets)
        self._cache = WeightCache()
        self._reset_patterns()

    def _reset_patterns(self) -> None:
        nn.init.normal_(self.stored_patterns, std=_STD)
        if self.target_patterns is not None:
            nn.init.normal_(self.target_patterns, std=_STD)

    def reset_parameters(self) -> None:
        """Stored patterns and targets from N(0, 0.02^2); the rest as `Hopfield`."""
        self.hopfield.reset_parameters()
        self._reset_patterns()

    @torch.no_grad()
    def store(self, patterns: Float[Tensor, "quantity _"], targets: Float[Tensor, "quantity _"] | None = None) -> None:
        """Start from samples: copy them into the stored patterns, and what they stand for into the targets.

        Args:
            patterns: (quantity, width of a stored pattern).
            targets: (quantity, width of a target), for a layer with separate targets.

        Raises:
            ValueError: another shape, NaN or infinity, or targets for a layer without.
        """
        given = [("patterns", patterns, self.stored_patterns)]
        if targets is not None:
            if self.target_patterns is None:
                raise ValueError("targets need a layer with separate_targets=True")
            given.append(("targets", targets, self.target_patterns))
        for name, value, own in given:
            if value.shape != own.shape:
                raise ValueError(f"{name} must be {tuple(own.shape)}, got {tuple(value.shape)}")
            if not bool(value.isfinite().all()):
                raise ValueError(f"{name} must be finite, got NaN or infinity")
        for _, value, own in given:
            own.copy_(value)

    def forward(
        self,
        x: Float[Tensor, "_ _ _"],
        *,
        padding_mask: Bool[Tensor, "batch quantity"] | None = None,
        association_mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "_ _ _"]:
        """Look up.

        Args:
            x: the states.
            padding_mask: (B, quantity), True = ignore this stored pattern.
            association_mask: as `Hopfield` has it.
        """
        output, _ = self._look_up(x, padding_mask, association_mask, False)
        return output if self.hopfield.batch_first else output.transpose(0, 1)

    def recall(
        self,
        x: Float[Tensor, "_ _ _"],
        *,
        padding_mask: Bool[Tensor, "batch quantity"] | None = None,
        association_mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
    ) -> HopfieldOutput:
        """As `forward`, with the association matrix and how often it was computed."""
        output, found = self._look_up(x, padding_mask, association_mask, True)
        return as_output(output if self.hopfield.batch_first else output.transpose(0, 1), found)

    def association(
        self,
        x: Float[Tensor, "_ _ _"],
        *,
        padding_mask: Bool[Tensor, "batch quantity"] | None = None,
        association_mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch heads states stored"]:
        """How much every state took from every stored pattern, (B, H, L, quantity + bias and zero pattern)."""
        return self.recall(x, padding_mask=padding_mask, association_mask=association_mask).association

    def projected_values(self) -> Float[Tensor, "1 heads stored value_dim"]:
        """What is read out of every stored pattern, (1, H, quantity + bias and zero pattern, value_dim)."""
        _, values = self._patterns()
        return self.hopfield.projected_values(values if self.hopfield.batch_first else values.transpose(0, 1))

    def _patterns(self) -> tuple[Tensor, Tensor]:
        stored = self.stored_patterns.unsqueeze(0)
        return stored, (stored if self.target_patterns is None else self.target_patterns.unsqueeze(0))

    def _look_up(
        self, x: Tensor, padding_mask: Tensor | None, association_mask: Tensor | None, need_association: bool
    ) -> tuple[Tensor, Associated]:
        check_inputs({"x": (x, self.hopfield.sizes.state)})
        x = x if self.hopfield.batch_first else x.transpose(0, 1)
        layer = self.hopfield
        layer.check_patterns(self.quantity)
        q, (k, v) = layer.project_states(x), self._projected_patterns()
        return layer.associate_projected(x.shape[0], q, k, v, padding_mask, association_mask, need_association)

    def _projected_patterns(self) -> tuple[Tensor, Tensor]:
        """k and v, which no sample changes: in evaluation without gradients kept until a parameter does."""
        layer = self.hopfield
        parts = (layer.norm_stored, layer.norm_value, layer.proj_stored, layer.proj_value, layer.norm_association)
        given = [part for part in parts if part is not None]
        if self.training or not all(is_plain(part) for part in given):
            self._cache.clear()
            return layer.project_patterns(*self._patterns())
        own = (self.stored_patterns, self.target_patterns, layer.bias_stored, layer.bias_value)
        read = [x for x in own if x is not None] + [x for part in given for x in part.parameters()]
        k, v = self._cache.get(tuple(read), lambda: layer.project_patterns(*self._patterns()))
        assert k is not None
        assert v is not None
        return k, v

    def extra_repr(self) -> str:
        parts = [f"quantity={self.quantity}"]
        parts += ["trainable=False"] * (not self.stored_patterns.requires_grad)
        if self.target_patterns is not None:
            parts.append("separate_targets=True")
            parts += ["trainable_targets=False"] * (not self.target_patterns.requires_grad)
        return ", ".join(parts)
