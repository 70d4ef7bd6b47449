"""The Hopfield layer: stored patterns, states that associate with them, and values that are read out."""

import math
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from zoo.layers.hopfield.association_map import AssociationMap
from zoo.layers.hopfield.functional import hopfield_association
from zoo.layers.hopfield.inputs import check_batches, check_inputs, nowhere, score_mask
from zoo.layers.hopfield.options import (
    EMPTY,
    STOPS,
    activation_function,
    check_choice,
    counts_per_head,
    positive_int,
    positive_per_head,
    post_function,
    share,
)
from zoo.layers.hopfield.parts import append_pattern, apply, optional_linear, optional_norm, optional_pattern
from zoo.layers.hopfield.projections import Projected, project_inputs
from zoo.layers.hopfield.reference import Associated
from zoo.layers.hopfield.sizes import resolve_sizes
from zoo.layers.hopfield.temperature import InverseTemperature

#: Associations at most when they go on until nothing changes.
UNTIL_CONVERGENCE = 128
_STD = 0.02


@dataclass(frozen=True)
class HopfieldOutput:
    """All that a Hopfield layer has to tell of one call.

    Attributes:
        output: what calling the layer returns.
        association: after the last update and before dropout, (batch, heads, states, stored + bias and zero pattern).
        counts: per head, how often the association was computed.
    """

    output: Float[Tensor, "..."]
    association: Float[Tensor, "batch heads states stored"]
    counts: tuple[int, ...]


class Hopfield(nn.Module):
    """States associate with stored patterns, and are replaced by what they recall, as often as asked.

        q = W_q LN(state) + b_q,   k = W_k LN(stored) + b_k,   v = W_v LN(values) + b_v      for each head
        A = softmax(beta q k^T);   each further update: q = A k,  A = softmax(beta q k^T);   y = W_o concat(A v) + b_o

    One update is softmax attention; more of them are steps down the energy of a modern Hopfield network.

    Shapes: stored (B, S, stored_dim), state (B, L, dim), values (B, S, value_in_dim) -> (B, L, out_dim).

    Args:
        dim: width of the states; the stored patterns and values are as wide unless given. May be None when nothing is
            projected.
        num_heads: associations side by side, H.
        head_dim: width D in which states and stored patterns are compared; dim // num_heads if None, dim if no input is
            projected.
        value_dim: width P of what a head reads out; head_dim if None.
        out_dim: width of the output; dim if None.
        stored_dim, value_in_dim: widths of the stored patterns and of the values, where they differ from dim.
        beta: inverse temperature, a number or one a head; 1 / sqrt(head_dim) if None, 1 if there is nothing but the
            association. That default is for attention: a memory wants a larger one.
        learn_beta: learn beta, one a head (stored as its logarithm).
        num_updates: associations computed, 1 or more, a number or one a head; None goes on until nothing changes (at
            most 128 times, with a warning if that was not enough).
        tol: a head stops when its association matrix changed less than this, in Frobenius norm, the largest of the
            batch (a number or one a head). None makes all updates, without waiting for the device.
        stop: "association", the test above, as the authors' code: a sample's result may depend on its batch; "state":
            each state stops alone, when it moved by less than tol times its length.
        post: done to every new state before it is compared again: "l2" (unit length), "layer_norm", or a function.
        association: map from scores to associations, see `zoo.layers.hopfield.maps.associate`.
        alpha, k: its options; alpha of "entmax" may be one a head, and of fewer than k stored patterns all are taken.
        learn_alpha: learn alpha of "entmax", one a head, between 1 and 2.
        norm_stored, norm_state, norm_value: layer norm of each input: True, False, or {"affine": ..., "eps": ...} to
            say whether it has scale and shift (it has) and its epsilon (1e-5).
        norm_association: layer norm of the heads of q and k, one for all, before the first update; the same forms, and
            no scale and shift unless asked for.
        project_stored, project_state, project_value: False takes an input as it is, the same for each head; it must
            then have head_dim (values: value_dim) numbers.
        project_out: False returns the heads side by side, (B, L, num_heads * value_dim).
        connect_values: values go through the projection of the stored patterns first.
        activation: function of the output, or its name in torch.
        dropout: share of the association that is dropped in training.
        bias: of all projections.
        bias_pattern: one more stored pattern and value, learned.
        zero_pattern: one more stored pattern, the last, of score 0 and value 0: "nothing".
        empty: what a state gives to which masks leave no pattern at all: "zero", an output of 0, or "raise", an error
            (which waits for the device).
        batch_first: False for (length, batch, width).

    Raises:
        ValueError, TypeError: a size, name or number out of range, or options that contradict each other; in the call,
            inputs and masks that do not fit.

    Source: Ramsauer et al., "Hopfield Networks is All You Need" (2021, arXiv 2008.02217).
    """

    def __init__(
        self,
        dim: int | None = None,
        *,
        num_heads: int = 1,
        head_dim: int | None = None,
        value_dim: int | None = None,
        out_dim: int | None = None,
        stored_dim: int | None = None,
        value_in_dim: int | None = None,
        beta: float | Sequence[float] | Tensor | None = None,
        learn_beta: bool = False,
        num_updates: int | Sequence[int] | Tensor | None = 1,
        tol: float | Sequence[float] | Tensor | None = 1e-4,
        stop: str = "association",
        post: str | Callable[[Tensor], Tensor] | None = None,
        association: str = "softmax",
        alpha: float | Sequence[float] | Tensor | None = None,
        learn_alpha: bool = False,
        k: int | None = None,
        norm_stored: bool | Mapping[str, Any] = True,
        norm_state: bool | Mapping[str, Any] = True,
        norm_value: bool | Mapping[str, Any] = True,
        norm_association: bool | Mapping[str, Any] = False,
        project_stored: bool = True,
        project_state: bool = True,
        project_value: bool = True,
        project_out: bool = True,
        connect_values: bool = False,
        activation: str | Callable[[Tensor], Tensor] | None = None,
        dropout: float = 0.0,
        bias: bool = True,
        bias_pattern: bool = False,
        zero_pattern: bool = False,
        empty: str = "zero",
        batch_first: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        place: dict[str, Any] = {"device": device, "dtype": dtype}
        self.num_heads = positive_int("num_heads", num_heads)
        self.sizes = resolve_sizes(
            dim=dim,
            num_heads=num_heads,
            head_dim=head_dim,
            value_dim=value_dim,
            out_dim=out_dim,
            stored_dim=stored_dim,
            value_in_dim=value_in_dim,
            project_state=project_state,
            project_stored=project_stored,
            project_value=project_value,
            project_out=project_out,
            connect_values=connect_values,
        )
        check_choice("stop", stop, STOPS)
        check_choice("empty", empty, EMPTY)
        if bias_pattern and not project_stored:
            raise ValueError("bias_pattern is learned in the projected space; it needs project_stored=True")
        if num_updates is None and tol is None:
            raise ValueError("num_updates=None goes on until nothing changes and needs a tol, got tol None")
        until = num_updates is None
        self.until_convergence = until
        self.num_updates = counts_per_head("num_updates", UNTIL_CONVERGENCE if until else num_updates, num_heads)
        self.tol = None if tol is None else positive_per_head("tol", tol, num_heads)
        self.stop = stop
        self.post = post_function(post)
        self.activation = activation_function(activation)
        self.dropout = share("dropout", dropout)
        self.connect_values = bool(connect_values)
        self.zero_pattern = bool(zero_pattern)
        self.empty = empty
        self.batch_first = bool(batch_first)

        sizes, heads = self.sizes, num_heads
        self.norm_stored = optional_norm("norm_stored", norm_stored, sizes.stored, place)
        self.norm_state = optional_norm("norm_state", norm_state, sizes.state, place)
        self.norm_value = optional_norm("norm_value", norm_value, sizes.value, place)
        self.norm_association = optional_norm("norm_association", norm_association, sizes.head, place, affine=False)
        inner, read = heads * (sizes.head or 0), heads * (sizes.read or 0)
        value_in = inner if connect_values and project_stored else sizes.value
        self.proj_state = optional_linear(project_state, sizes.state, inner, bias, place)
        self.proj_stored = optional_linear(project_stored, sizes.stored, inner, bias, place)
        self.proj_value = optional_linear(project_value, value_in, read, bias, place)
        self.out_proj = optional_linear(project_out, read, sizes.out, bias, place)
        self.bias_stored = optional_pattern(bias_pattern, heads, sizes.head, place)
        self.bias_value = optional_pattern(bias_pattern, heads, sizes.read, place)
        parts = (self.proj_state, self.proj_stored, self.proj_value, self.out_proj, self.norm_association)
        bare = not connect_values and all(part is None for part in parts)
        default = 1.0 if bare or sizes.head is None else 1 / math.sqrt(sizes.head)
        start = positive_per_head("beta", default if beta is None else beta, heads)
        self.inverse_temperature = InverseTemperature(start, learn=learn_beta, **place)
        self.map = AssociationMap(association, heads, alpha=alpha, learn_alpha=learn_alpha, k=k, **place)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Projections and patterns from N(0, 0.02^2), their biases 0; norms, beta and alpha to their start."""
        for part in self.children():
            if isinstance(part, nn.Linear):
                nn.init.normal_(part.weight, std=_STD)
                if part.bias is not None:
                    nn.init.zeros_(part.bias)
            elif hasattr(part, "reset_parameters"):
                part.reset_parameters()  # pyright: ignore[reportCallIssue]
        if self.bias_stored is not None and self.bias_value is not None:
            nn.init.normal_(self.bias_stored, std=_STD)
            nn.init.normal_(self.bias_value, std=_STD)

    @property
    def beta(self) -> Tensor:
        """The inverse temperature of each head, (heads,)."""
        return self.inverse_temperature()

    @property
    def extra_patterns(self) -> int:
        """Stored patterns beside those given: the bias and the zero pattern."""
        return int(self.bias_stored is not None) + int(self.zero_pattern)

    def forward(
        self,
        stored: Float[Tensor, "_ _ _"],
        state: Float[Tensor, "_ _ _"] | None = None,
        values: Float[Tensor, "_ _ _"] | None = None,
        *,
        padding_mask: Bool[Tensor, "..."] | None = None,
        association_mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "_ _ _"]:
        """Recall.

        Args:
            stored: the stored patterns.
            state: the states; the stored patterns if None.
            values: what is read out; the stored patterns if None.
            padding_mask: (B, S), True = ignore this stored pattern. Its numbers must be finite all the same.
            association_mask: (L, S), (B * num_heads, L, S) with row b * num_heads + h, or four axes that broadcast to
                (B, num_heads, L, S); True = forbid, or a float that is added to the scaled scores.
        """
        return self._call(stored, state, values, padding_mask, association_mask, False)[0]

    def recall(
        self,
        stored: Float[Tensor, "_ _ _"],
        state: Float[Tensor, "_ _ _"] | None = None,
        values: Float[Tensor, "_ _ _"] | None = None,
        *,
        padding_mask: Bool[Tensor, "..."] | None = None,
        association_mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
    ) -> HopfieldOutput:
        """As `forward`, with the association matrix and how often it was computed."""
        output, found = self._call(stored, state, values, padding_mask, association_mask, True)
        return as_output(output, found)

    def association(
        self,
        stored: Float[Tensor, "_ _ _"],
        state: Float[Tensor, "_ _ _"] | None = None,
        values: Float[Tensor, "_ _ _"] | None = None,
        *,
        padding_mask: Bool[Tensor, "..."] | None = None,
        association_mask: Bool[Tensor, "..."] | Float[Tensor, "..."] | None = None,
    ) -> Float[Tensor, "batch heads states stored"]:
        """The association after the last update and before dropout, (B, H, L, S + bias and zero pattern)."""
        masks = {"padding_mask": padding_mask, "association_mask": association_mask}
        return self.recall(stored, state, values, **masks).association

    def projected_values(self, values: Float[Tensor, "_ _ _"]) -> Float[Tensor, "batch heads stored value_dim"]:
        """What is read out of every stored pattern, (B, H, S + bias and zero pattern, value_dim).

        Args:
            values: as in the call; the stored patterns where those serve.
        """
        check_inputs({"values": (values, self.sizes.value)})
        values = values if self.batch_first else values.transpose(0, 1)
        return self._value_heads(*project_inputs([self._value_input(values)]))

    def _call(
        self,
        stored: Tensor,
        state: Tensor | None,
        values: Tensor | None,
        padding_mask: Tensor | None,
        association_mask: Tensor | None,
        need_association: bool,
    ) -> tuple[Tensor, Associated]:
        stored, state, values = self._inputs(stored, state, values)
        check_batches({"stored": stored.shape[0], "state": state.shape[0], "values": values.shape[0]})
        batch = stored.shape[0]
        output, found = self.associate(batch, stored, state, values, padding_mask, association_mask, need_association)
        return (output if self.batch_first else output.transpose(0, 1)), found

    def _inputs(self, stored: Tensor, state: Tensor | None, values: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        """All three, checked, batch first."""
        state = stored if state is None else state
        values = stored if values is None else values
        sizes = self.sizes
        check_inputs({"stored": (stored, sizes.stored), "state": (state, sizes.state), "values": (values, sizes.value)})
        if self.batch_first:
            return stored, state, values
        return stored.transpose(0, 1), state.transpose(0, 1), values.transpose(0, 1)

    def associate(
        self,
        batch: int,
        stored: Tensor,
        state: Tensor,
        values: Tensor,
        padding_mask: Tensor | None = None,
        association_mask: Tensor | None = None,
        need_association: bool = False,
    ) -> tuple[Tensor, Associated]:
        """The whole layer on inputs that are batch first, of which a batch of 1 serves all: what wrappers call."""
        if stored.shape[1] != values.shape[1]:
            raise ValueError(f"there must be a value for each of {stored.shape[1]} patterns, got {values.shape[1]}")
        self.check_patterns(stored.shape[1])
        q, k, v = self.project(stored, state, values)
        return self.associate_projected(batch, q, k, v, padding_mask, association_mask, need_association)

    def associate_projected(
        self,
        batch: int,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        padding_mask: Tensor | None = None,
        association_mask: Tensor | None = None,
        need_association: bool = False,
    ) -> tuple[Tensor, Associated]:
        """What `associate` does behind the projections."""
        shape = (batch, self.num_heads, q.shape[2], k.shape[2] - self.extra_patterns)
        mask = score_mask(padding_mask, association_mask, shape, self.extra_patterns, q.dtype)
        found = self.associate_heads(q, k, v, mask, need_association)
        return self.read_out(found.result, mask), found

    def check_patterns(self, stored: int) -> None:
        """Refuse to associate with nothing, where samples have so many stored patterns.

        Raises:
            ValueError: there is none, nor a bias or zero pattern.
        """
        if not stored + self.extra_patterns:
            raise ValueError("there is no stored pattern; store one, or set zero_pattern or bias_pattern")

    def project(self, stored: Tensor, state: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """q (B, H, L, D), k (B, H, S, D) and v (B, H, S, P), with the bias and zero pattern."""
        parts = (self._state_input(state), self._stored_input(stored), self._value_input(values))
        q, k, v = project_inputs(parts)
        return self._state_heads(q), self._stored_heads(k), self._value_heads(v)

    def project_states(self, state: Tensor) -> Tensor:
        """q (B, H, L, D)."""
        return self._state_heads(*project_inputs([self._state_input(state)]))

    def project_patterns(self, stored: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """k (B, H, S, D) and v (B, H, S, P), with the bias and zero pattern."""
        k, v = project_inputs([self._stored_input(stored), self._value_input(values)])
        return self._stored_heads(k), self._value_heads(v)

    def _state_input(self, state: Tensor) -> Projected:
        return Projected(state, self.norm_state, self.proj_state)

    def _stored_input(self, stored: Tensor) -> Projected:
        return Projected(stored, self.norm_stored, self.proj_stored)

    def _value_input(self, values: Tensor) -> Projected:
        return Projected(values, self.norm_value, self.proj_stored if self._connected else self.proj_value)

    @property
    def _connected(self) -> bool:
        return self.connect_values and self.proj_stored is not None

    def _state_heads(self, q: Tensor) -> Tensor:
        return self._association_norm(self._heads(q, self.proj_state))

    def _stored_heads(self, k: Tensor) -> Tensor:
        k = self._association_norm(append_pattern(self._heads(k, self.proj_stored), self.bias_stored))
        # Behind the norm, whose shift would give it a score.
        return F.pad(k, (0, 0, 0, 1)) if self.zero_pattern else k

    def _value_heads(self, v: Tensor) -> Tensor:
        v = apply(self.proj_value, v) if self._connected else v
        v = append_pattern(self._heads(v, self.proj_stored if self._connected else self.proj_value), self.bias_value)
        return F.pad(v, (0, 0, 0, 1)) if self.zero_pattern else v

    def _association_norm(self, heads: Tensor) -> Tensor:
        if self.norm_association is None:
            return heads
        # Heads as they lie in memory: compiled, the backward pass of a norm takes its input to lie so.
        return self.norm_association(heads.transpose(1, 2).contiguous()).transpose(1, 2)

    def _heads(self, x: Tensor, projection: nn.Module | None) -> Tensor:
        """Of what was projected, or, the same for each head, of what was not."""
        if projection is None:
            return x.unsqueeze(1).expand(-1, self.num_heads, -1, -1)
        return x.unflatten(-1, (self.num_heads, -1)).transpose(1, 2)

    def associate_heads(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, need_association: bool = False
    ) -> Associated:
        """The association of heads, with the options of the layer."""
        found = hopfield_association(
            q,
            k,
            v,
            self.inverse_temperature(),
            mask,
            num_updates=self.num_updates,
            tol=self.tol,
            stop=self.stop,
            association=self.map.association,
            alpha=self.map(),
            top=None if self.map.k is None else min(self.map.k, k.shape[2]),
            post=self.post,
            dropout_p=self.dropout if self.training else 0.0,
            need_association=need_association,
        )
        if self.until_convergence and max(found.counts) == UNTIL_CONVERGENCE:
            warnings.warn(
                f"the association still changed after {UNTIL_CONVERGENCE} updates; set num_updates, or a larger tol "
                f"than {max(self.tol or ())}",
                stacklevel=3,
            )
        return found

    def read_out(self, result: Tensor, mask: Tensor | None) -> Tensor:
        """The output from what the heads read, (B, H, L, P) -> (B, L, out_dim); 0 where the mask leaves no pattern."""
        output = apply(self.out_proj, result.transpose(1, 2).flatten(2))
        if self.activation is not None:
            output = self.activation(output)
        if mask is None or self.extra_patterns:
            return output
        nothing = nowhere(mask)
        if self.empty == "raise" and bool(nothing.any()):
            raise ValueError("masks leave some state no stored pattern to associate with; empty='zero' gives 0 there")
        return output.masked_fill(nothing, 0.0)

    def extra_repr(self) -> str:
        sizes = self.sizes
        parts = [f"{sizes.state}, num_heads={self.num_heads}, head_dim={sizes.head}"]
        parts += [f"value_dim={sizes.read}"] * (sizes.read != sizes.head) + [f"out_dim={sizes.out}"]
        parts.append(f"num_updates={None if self.until_convergence else _short(self.num_updates)}")
        if self.until_convergence or max(self.num_updates) > 1:
            parts.append(f"tol={None if self.tol is None else _short(self.tol)}, stop={self.stop!r}")
        functions = {"post": self.post, "activation": self.activation}
        parts += [f"{name}={getattr(do, '__name__', do)}" for name, do in functions.items() if do is not None]
        parts += [f"dropout={self.dropout:g}"] * (self.dropout > 0)
        flags = {"connect_values": self.connect_values, "zero_pattern": self.zero_pattern}
        flags["bias_pattern"] = self.bias_stored is not None
        parts += [f"{name}=True" for name, on in flags.items() if on]
        return ", ".join(parts if self.batch_first else [*parts, "batch_first=False"])


def as_output(output: Tensor, found: Associated) -> HopfieldOutput:
    """Both in one, of an association that was asked for."""
    assert found.association is not None
    return HopfieldOutput(output, found.association, found.counts)


def _short(values: tuple[Any, ...]) -> Any:
    return values[0] if len(set(values)) == 1 else values
