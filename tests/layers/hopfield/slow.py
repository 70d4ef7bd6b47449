"""The authors' layers as described: one sample, one head, one update after the other, from their options and names.

Nothing of it is shared with the layers under test.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_CORE = "association_core."
_NAMES = {"q": "state_pattern", "k": "stored_pattern", "v": "pattern_projection"}


@dataclass
class Found:
    """What a call gives: output, associations (B, H, L, S), projected patterns (B, H, S, P), evaluations a head."""

    output: Tensor
    association: Tensor
    projected: Tensor
    counts: list[int]


class Options:
    """The authors' options with their defaults, and the sizes that follow."""

    def __init__(self, **given: Any) -> None:
        self.given = given
        self.heads: int = given.get("num_heads", 1)
        r = given.get("input_size")
        self.static = {part: bool(given.get(f"{name}_as_static")) for part, name in _NAMES.items()}
        self.connected = bool(given.get("pattern_projection_as_connected"))
        self.hidden = given.get("hidden_size") or (None if r is None else r // self.heads)
        self.read = given.get("pattern_size") or self.hidden
        full = {
            "q": r,
            "k": given.get("stored_pattern_size") or r,
            "v": given.get("pattern_projection_size") or r,
        }
        needed = {"q": self.hidden, "k": self.hidden, "v": self.read}
        self.width = {part: needed[part] if self.static[part] else full[part] for part in full}
        self.through = self.connected and not self.static["k"]
        if self.through:
            self.width["v"] = self.width["k"]
        self.space_norm = bool(given.get("normalize_hopfield_space"))
        self.projects_out = not given.get("disable_out_projection")
        self.out = given.get("output_size") or r
        bare = all(self.static.values()) and not (self.connected or self.space_norm or self.projects_out)
        self.bare = bare

    def scaling(self, width: int) -> list[float]:
        value = self.given.get("scaling")
        value = (1.0 if self.bare else 1 / math.sqrt(width)) if value is None else value
        return _each(value, self.heads)

    def norm(self, name: str, *, on: bool) -> tuple[bool, float] | None:
        """Whether it has scale and shift, and its epsilon; None for no norm."""
        if not self.given.get(f"normalize_{name}", on):
            return None
        return self.given.get(f"normalize_{name}_affine", on), self.given.get(f"normalize_{name}_eps", 1e-5)

    @property
    def packed(self) -> bool:
        sizes = ("stored_pattern_size", "pattern_projection_size", "pattern_size")
        return not self.connected and all(self.given.get(name) is None for name in sizes)


def _each(value: Any, heads: int) -> list[Any]:
    value = value.tolist() if isinstance(value, Tensor) else value
    return value if isinstance(value, list) else [value] * heads


def official_state(cls: str, options: dict[str, Any], draw: Callable[..., Tensor]) -> dict[str, Tensor]:
    """A state dict in the authors' layout, of `draw(*shape)`."""
    o = Options(**options)
    prefix = "" if cls == "Hopfield" else "hopfield."
    bias = options.get("input_bias", True)
    rows = {"q": o.heads * (o.hidden or 0), "k": o.heads * (o.hidden or 0), "v": o.heads * (o.read or 0)}
    projected = [part for part in "qkv" if not o.static[part]]
    state: dict[str, Tensor] = {}
    for part, name in _NAMES.items():
        norm = o.norm(name, on=True)
        if norm is not None and norm[0]:
            state |= {f"norm_{name}.weight": draw(o.width[part]), f"norm_{name}.bias": draw(o.width[part])}
    if projected and o.packed:
        state[f"{_CORE}in_proj_weight"] = draw(sum(rows[part] for part in projected), options["input_size"])
    elif projected:
        widths = {**o.width, "v": rows["k"] if o.through else o.width["v"]}
        state |= {f"{_CORE}{part}_proj_weight": draw(rows[part], widths[part]) for part in projected}
    if projected and bias:
        # The part of the values is there even where they are not projected.
        state[f"{_CORE}in_proj_bias"] = draw(sum(rows[part] for part in {*projected, "v"}))
    if o.projects_out:
        state[f"{_CORE}out_proj.weight"] = draw(o.out, rows["v"])
        if bias:
            state[f"{_CORE}out_proj.bias"] = draw(o.out)
    space = o.norm("hopfield_space", on=False)
    if space is not None and options.get("normalize_hopfield_space_affine"):
        state |= {f"{_CORE}p_norm_weight": draw(o.hidden), f"{_CORE}p_norm_bias": draw(o.hidden)}
    state = {f"{prefix}{name}": value for name, value in state.items()}
    quantity = options.get("quantity", 1)
    if cls == "HopfieldPooling":
        state["pooling_weights"] = draw(1, quantity, o.width["q"])
    if cls == "HopfieldLayer":
        state["lookup_weights"] = draw(1, quantity, o.width["k"])
        if options.get("lookup_weights_as_separated"):
            state["target_weights"] = draw(1, quantity, o.width["v"])
    return state


def slow(cls: str, options: dict[str, Any], state: dict[str, Tensor], inputs: dict[str, Tensor]) -> Found:
    """What a layer of the authors gives: x for a pooling (with `projection`) or lookup layer, else stored, state and
    projection, where missing ones are the stored patterns; and both masks."""
    o = Options(**options)
    first = options.get("batch_first", True)
    given = {k: v if first or k.endswith("mask") else v.transpose(0, 1) for k, v in inputs.items()}
    own = {k.removeprefix("hopfield."): v for k, v in state.items()}
    x = given.get("x")
    if cls == "HopfieldPooling":
        assert x is not None
        stored, values = x, given.get("projection", x)
        states = own["pooling_weights"].expand(len(x), -1, -1)
    elif cls == "HopfieldLayer":
        assert x is not None
        states, stored = x, own["lookup_weights"].expand(len(x), -1, -1)
        values = own["target_weights"].expand(len(x), -1, -1) if "target_weights" in own else stored
    else:
        stored = given["stored"]
        states, values = given.get("state", stored), given.get("projection", stored)
    found = _associate(o, own, stored, states, values, given.get("padding_mask"), given.get("association_mask"))
    if cls == "HopfieldPooling":
        found.output = found.output.flatten(1)
    elif not first:
        found.output = found.output.transpose(0, 1)
    return found


def _associate(
    o: Options,
    own: dict[str, Tensor],
    stored: Tensor,
    states: Tensor,
    values: Tensor,
    padding: Tensor | None,
    mask: Tensor | None,
) -> Found:
    batch, count, length = len(stored), stored.shape[1], states.shape[1]
    weights, biases = _projections(o, own)
    normed = {
        part: _norm(o.norm(_NAMES[part], on=True), own, f"norm_{_NAMES[part]}.", x)
        for part, x in {"q": states, "k": stored, "v": values}.items()
    }
    zero = bool(o.given.get("add_zero_association"))
    heads: dict[str, list[list[Tensor]]] = {part: [] for part in "qkv"}
    for b in range(batch):
        for part, x in normed.items():
            x = x[b]
            if part == "v" and o.through:
                x = _linear(x, weights["k"], biases.get("k"))
            if weights[part] is None:
                each = list(x.chunk(o.heads, -1)) if part == "v" and o.through else [x] * o.heads
            else:
                each = list(_linear(x, weights[part], biases.get(part)).chunk(o.heads, -1))
            if part in "qk" and o.space_norm:
                how = (bool(o.given.get("normalize_hopfield_space_affine")), o.norm("hopfield_space", on=False)[1])
                each = [_norm(how, own, f"{_CORE}p_norm_", head) for head in each]
            if part != "q" and zero:
                each = [torch.cat([head, torch.zeros_like(head[:1])]) for head in each]
            heads[part].append(each)
    betas = o.scaling(heads["k"][0][0].shape[-1])
    most, eps = o.given.get("update_steps_max", 0), _each(o.given.get("update_steps_eps", 1e-4), o.heads)
    updates = _each(most, o.heads)
    alphas = _each(o.given.get("alpha"), o.heads)
    results, matrices, counts = [], [], []
    for h in range(o.heads):
        added = [
            [_added(padding, mask, b, h, o.heads, i, count, zero, stored) for i in range(length)] for b in range(batch)
        ]

        def matrix(b: int, q: Tensor, h: int = h, added: list[list[Tensor]] = added) -> Tensor:
            rows = [
                slow_map(betas[h] * (heads["k"][b][h] @ q[i]) + added[b][i], o.given, alphas[h]) for i in range(length)
            ]
            return torch.stack(rows) if rows else q.new_zeros(0, count + zero)

        last = [matrix(b, heads["q"][b][h]) for b in range(batch)]
        done = 0
        while updates[h] is None or done < updates[h]:
            new = [matrix(b, _post(last[b] @ heads["k"][b][h], o.given.get("post"))) for b in range(batch)]
            change = max(float((new[b] - last[b]).detach().norm()) for b in range(batch))
            last, done = new, done + 1
            if change <= eps[h]:
                break
        counts.append(done + 1)
        matrices.append(torch.stack(last))
        results.append(torch.stack([last[b] @ heads["v"][b][h] for b in range(batch)]))
    output = torch.cat(results, -1)
    if o.projects_out:
        output = _linear(output, own[f"{_CORE}out_proj.weight"], own.get(f"{_CORE}out_proj.bias"))
    activation = o.given.get("association_activation")
    if activation is not None:
        output = (getattr(torch, activation, None) or getattr(F, activation))(output)
    association = torch.stack(matrices, 1)
    nothing = (association.sum((1, 3)) == 0).unsqueeze(-1)
    projected = torch.stack([torch.stack(heads["v"][b]) for b in range(batch)])
    return Found(output.masked_fill(nothing, 0.0), association, projected, counts)


def _post(states: Tensor, name: str | None) -> Tensor:
    """What is done to every new state, which the authors do not have."""
    if name == "l2":
        return states / states.square().sum(-1, keepdim=True).sqrt()
    return _norm((False, 1e-5), {}, "", states) if name == "layer_norm" else states


def _projections(o: Options, own: dict[str, Tensor]) -> tuple[dict[str, Any], dict[str, Tensor]]:
    rows = {"q": o.heads * (o.hidden or 0), "k": o.heads * (o.hidden or 0), "v": o.heads * (o.read or 0)}
    projected = [part for part in "qkv" if not o.static[part]]
    weights: dict[str, Any] = dict.fromkeys("qkv")
    if o.packed and projected:
        parts = own[f"{_CORE}in_proj_weight"].split([rows[part] for part in projected])
        weights |= dict(zip(projected, parts, strict=True))
    else:
        weights |= {part: own[f"{_CORE}{part}_proj_weight"] for part in projected}
    bias = own.get(f"{_CORE}in_proj_bias")
    if bias is None:
        return weights, {}
    present = [part for part in "qkv" if part in projected or part == "v"]
    return weights, dict(zip(present, bias.split([rows[part] for part in present]), strict=True))


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    y = x @ weight.T
    return y if bias is None else y + bias


def _norm(how: tuple[bool, float] | None, own: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
    if how is None:
        return x
    centred = x - x.mean(-1, keepdim=True)
    y = centred / (centred.square().mean(-1, keepdim=True) + how[1]).sqrt()
    return y * own[f"{name}weight"] + own[f"{name}bias"] if how[0] else y


def _added(
    padding: Tensor | None,
    mask: Tensor | None,
    b: int,
    h: int,
    heads: int,
    i: int,
    count: int,
    zero: bool,
    like: Tensor,
) -> Tensor:
    """To be added to the scores of one state."""
    total = like.new_zeros(count)
    if padding is not None:
        total = total.masked_fill(padding[b], -torch.inf)
    if mask is not None:
        row = mask[i] if mask.ndim == 2 else mask[b * heads + h, i]
        total = total.masked_fill(row, -torch.inf) if row.dtype == torch.bool else total + row
    return torch.cat([total, total.new_zeros(1)]) if zero else total


# --- maps, of one row of scores ---------------------------------------------------------------------------------------


def slow_map(scores: Tensor, options: dict[str, Any], alpha: float | None) -> Tensor:
    """Weights by bisection, to the last digits; the threshold's gradient by one exact Newton step from the root."""
    allowed = scores > -torch.inf
    if not allowed.any():
        return torch.zeros_like(scores)
    z = scores[allowed]
    p = torch.zeros_like(scores)
    p[allowed] = _MAPS[options.get("association", "softmax")](z, options.get("k"), alpha)
    return p


def _softmax(z: Tensor, *_: Any) -> Tensor:
    e = (z - z.max().detach()).exp()
    return e / e.sum()


def _entmax(z: Tensor, _: Any, alpha: float | None) -> Tensor:
    alpha = 1.5 if alpha is None else alpha
    if alpha == 1:
        return _softmax(z)
    scaled, power = (alpha - 1) * z, 1 / (alpha - 1)
    return _powers(scaled - _root(scaled, power), power)


def _normmax(z: Tensor, _: Any, alpha: float | None) -> Tensor:
    alpha = 2.0 if alpha is None else alpha
    p = _powers(z - _root(z, alpha / (alpha - 1)), 1 / (alpha - 1))
    return p / p.sum()


def _budget(z: Tensor, k: int | None, _: Any) -> Tensor:
    values = z.tolist()
    low, high = min(values) - 2, max(values)
    for _step in range(60):
        middle = (low + high) / 2
        found = sum(min(max(value - middle, 0), 1) for value in values)
        low, high = (middle, high) if found > (k or 1) else (low, middle)
    p = (z.detach() - low).clamp(0, 1)
    inside = (p > 0) & (p < 1)
    if not inside.any():
        return p
    threshold = (z[inside].sum() - ((k or 1) - (p >= 1).sum())) / inside.sum()
    return torch.where(inside, z - threshold, p)


def _topk(z: Tensor, k: int | None, _: Any) -> Tensor:
    kept = set(z.argsort(descending=True)[: k or 8].tolist())
    e = torch.stack([(z[i] - z.max().detach()).exp() if i in kept else 0 * z[i] for i in range(len(z))])
    return e / e.sum()


def _powers(u: Tensor, power: float) -> Tensor:
    positive = u > 0
    return torch.where(positive, torch.where(positive, u, torch.ones_like(u)) ** power, torch.zeros_like(u))


def _root(z: Tensor, power: float) -> Tensor:
    """t with sum (z - t)_+^power = 1."""
    values = z.tolist()
    low, high = max(values) - 1, max(values)
    for _ in range(60):
        middle = (low + high) / 2
        found = sum((value - middle) ** power for value in values if value > middle)
        low, high = (middle, high) if found > 1 else (low, middle)
    slope = (power * _powers(z.detach() - low, power - 1)).sum()
    return low + (_powers(z - low, power).sum() - 1) / slope


_MAPS = {
    "softmax": _softmax,
    "sparsemax": lambda z, k, _: _entmax(z, k, 2.0),
    "entmax": _entmax,
    "normmax": _normmax,
    "budget": _budget,
    "topk": _topk,
}
