"""Options of the authors' layers, by their names: chosen ones, and any number drawn at random."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from tests.layers.hopfield.slow import Options


class Case(NamedTuple):
    """Class, options, and what is given beside `x` or `stored`: state, projection, padding and a kind of mask."""

    cls: str
    options: dict[str, Any]
    given: tuple[str, ...]


def _hopfield(*given: str, **options: Any) -> Case:
    return Case("Hopfield", options, given)


def _pooling(*given: str, **options: Any) -> Case:
    return Case("HopfieldPooling", options, given)


def _lookup(*given: str, **options: Any) -> Case:
    return Case("HopfieldLayer", options, given)


_PARTS = ("stored_pattern", "state_pattern", "pattern_projection")
_STATIC = {f"{name}_as_static": True for name in _PARTS}
_BARE = {**_STATIC, **{f"normalize_{name}": False for name in _PARTS}, "disable_out_projection": True}
_SIX = {"input_size": 6, "num_heads": 2}
CASES: dict[str, Case] = {
    "connected, wide values": _hopfield("state", **_SIX, pattern_projection_as_connected=True, hidden_size=5),
    "connected, own values": _hopfield("state", "projection", **_SIX, pattern_projection_as_connected=True),
    "connected, static values": _hopfield(
        "state", **_SIX, pattern_projection_as_connected=True, pattern_projection_as_static=True
    ),
    "connected, static stored": _hopfield(
        "state", **_SIX, hidden_size=6, pattern_projection_as_connected=True, stored_pattern_as_static=True
    ),
    "connected, other stored": _hopfield(
        "state", "projection", **_SIX, pattern_projection_as_connected=True, stored_pattern_size=4
    ),
    "static stored": _hopfield("state", "projection", **_SIX, stored_pattern_as_static=True, update_steps_max=2),
    "static state": _hopfield("state", **_SIX, state_pattern_as_static=True, update_steps_max=1),
    "static values": _hopfield("state", "projection", **_SIX, pattern_projection_as_static=True),
    "static stored and values, one tensor": _hopfield(
        "state", **_SIX, stored_pattern_as_static=True, pattern_projection_as_static=True
    ),
    "static values of their own size": _hopfield(
        "state", "projection", **_SIX, pattern_projection_as_static=True, pattern_size=4
    ),
    "static stored, separate projections": _hopfield(
        "state", "projection", **_SIX, stored_pattern_as_static=True, pattern_projection_size=4
    ),
    "all static, space norm": _hopfield(
        "state", **_SIX, **_BARE, normalize_hopfield_space=True, normalize_hopfield_space_affine=True
    ),
    "all static, connected": _hopfield("state", **_SIX, **_BARE, pattern_projection_as_connected=True),
    "all static, output projection": _hopfield("state", **_SIX, **{**_BARE, "disable_out_projection": False}),
    "all static, three heads": _hopfield("state", **_BARE, num_heads=3, update_steps_max=2),
    "all static with norms": _hopfield("state", "projection", **_STATIC, disable_out_projection=True, input_size=6),
    "updates and limits a head": _hopfield(
        "state",
        "padding",
        input_size=6,
        num_heads=3,
        scaling=torch.tensor([0.5, 2.0, 4.0]),
        update_steps_max=torch.tensor([0, 5, 7]),
        update_steps_eps=torch.tensor([0.01, 0.3, 0.05]),
    ),
    "one limit, updates a head": _hopfield(
        "state", **_SIX, update_steps_max=torch.tensor([3, 6]), update_steps_eps=0.2, scaling=3.0
    ),
    "until nothing changes": _hopfield(
        "state", "padding", **_SIX, update_steps_max=None, update_steps_eps=0.05, scaling=2.0
    ),
    "zero pattern and all masks": _hopfield(
        "state", "padding", "bool3d", **_SIX, add_zero_association=True, update_steps_max=2, input_bias=False
    ),
    "zero pattern, space norm": _hopfield(
        "state",
        "float",
        **_SIX,
        add_zero_association=True,
        normalize_hopfield_space=True,
        hidden_size=4,
        normalize_hopfield_space_affine=True,
        update_steps_max=2,
    ),
    "space norm, other epsilon": _hopfield(
        "state", **_SIX, normalize_hopfield_space=True, normalize_hopfield_space_eps=0.1
    ),
    "padding and float masks": _hopfield("state", "padding", "float3d", **_SIX, update_steps_max=3),
    "length first": _hopfield("state", "projection", "padding", "bool", **_SIX, batch_first=False, update_steps_max=1),
    "no output projection, sigmoid": _hopfield(
        "state", **_SIX, disable_out_projection=True, association_activation="sigmoid", pattern_size=5
    ),
    "every size": _hopfield(
        "state",
        "projection",
        "float",
        input_size=7,
        num_heads=2,
        hidden_size=3,
        pattern_size=5,
        output_size=4,
        stored_pattern_size=6,
        pattern_projection_size=8,
        association_activation="relu",
    ),
    "pooling, two states, heads side by side": _pooling(
        "padding", **_SIX, quantity=2, disable_out_projection=True, pattern_size=5
    ),
    "pooling, length first": _pooling("padding", **_SIX, batch_first=False, quantity=2, update_steps_max=2),
    "pooling, static stored": _pooling(
        "float3d", **_SIX, hidden_size=6, stored_pattern_as_static=True, pattern_projection_as_static=True, quantity=3
    ),
    "pooling, connected, zero pattern": _pooling(
        "padding",
        "bool",
        **_SIX,
        pattern_projection_as_connected=True,
        add_zero_association=True,
        update_steps_max=3,
        quantity=2,
    ),
    "pooling, values of their own": _pooling(
        "projection", **_SIX, stored_pattern_size=5, pattern_projection_size=4, quantity=2, trainable=False
    ),
    "pooling, static state with its norm": _pooling(
        **_SIX, hidden_size=4, state_pattern_as_static=True, quantity=2, update_steps_max=1
    ),
    "pooling, space norm, stops": _pooling(
        "padding",
        **_SIX,
        normalize_hopfield_space=True,
        quantity=2,
        update_steps_max=5,
        update_steps_eps=0.1,
        scaling=3.0,
    ),
    "pooling, limits a head": _pooling(
        "padding",
        **_SIX,
        quantity=2,
        update_steps_max=torch.tensor([1, 6]),
        update_steps_eps=torch.tensor([0.5, 0.02]),
        scaling=torch.tensor([1.0, 3.0]),
    ),
    "lookup, separate targets": _lookup(
        "padding", **_SIX, quantity=5, lookup_weights_as_separated=True, update_steps_max=2
    ),
    "lookup, targets of their own size": _lookup(
        "float3d", **_SIX, quantity=5, lookup_weights_as_separated=True, pattern_projection_size=3, trainable=False
    ),
    "lookup, static targets": _lookup(
        "bool",
        **_SIX,
        quantity=5,
        lookup_weights_as_separated=True,
        pattern_projection_as_static=True,
        pattern_size=2,
        normalize_pattern_projection=False,
        disable_out_projection=True,
        lookup_targets_as_trainable=False,
    ),
    "lookup, static stored": _lookup(
        **_SIX, quantity=5, stored_pattern_as_static=True, pattern_projection_as_static=True
    ),
    "lookup, connected, zero pattern": _lookup(
        "padding", **_SIX, quantity=5, pattern_projection_as_connected=True, add_zero_association=True, scaling=2.0
    ),
    "lookup, length first": _lookup("padding", **_SIX, quantity=3, batch_first=False),
}


def generator(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def drawn_case(seed: int) -> Case:
    """Options drawn at random, of those that go together."""
    draw = generator(seed)

    def one(*values: Any) -> Any:
        return values[int(torch.randint(len(values), (), generator=draw))]

    cls = one("Hopfield", "HopfieldPooling", "HopfieldLayer")
    heads = one(1, 2, 3)
    options: dict[str, Any] = {"input_size": 6, "num_heads": heads, "hidden_size": one(None, 4)}
    options["update_steps_max"] = one(0, 1, 3, torch.randint(0, 4, (heads,), generator=draw))
    options["update_steps_eps"] = one(1e-4, 0.3, torch.rand(heads, generator=draw) + 0.01)
    options["scaling"] = one(None, 2.0, torch.rand(heads, generator=draw) * 3 + 0.1)
    for name in _PARTS:
        options[f"{name}_as_static"] = one(False, False, True)
        options[f"normalize_{name}"] = one(True, True, False)
        if not options[f"normalize_{name}"]:
            options[f"normalize_{name}_affine"] = False
    options["input_bias"], options["disable_out_projection"] = one(True, True, False), one(True, False)
    options["output_size"] = None if options["disable_out_projection"] else one(None, 5)
    options["normalize_hopfield_space"] = space = one(False, False, True)
    options["normalize_hopfield_space_affine"] = space and one(True, False)
    options["add_zero_association"] = one(False, True)
    options["pattern_projection_as_connected"] = connected = one(False, False, True)
    static = [options[f"{name}_as_static"] for name in ("stored_pattern", "pattern_projection")]
    if not connected:
        options["pattern_size"] = one(None, 3)
        options["stored_pattern_size"] = None if static[0] else one(None, 5)
        options["pattern_projection_size"] = None if static[1] else one(None, 4)
    options["association"] = one("softmax", "softmax", "softmax", "sparsemax", "entmax")
    if options["association"] == "entmax":
        options["alpha"] = one(1.3, torch.rand(heads, generator=draw) + 1)
    widths = Options(**options).width
    if cls != "Hopfield":
        options["quantity"] = one(1, 2, 4)
    apart = widths["k"] != widths["v"]
    if cls == "HopfieldLayer":
        options["lookup_weights_as_separated"] = apart or one(True, False)
    given = [one("padding", ""), one("", "bool", "bool3d", "float", "float3d")]
    if cls == "Hopfield":
        given.append("state")
    if cls != "HopfieldLayer" and (apart or one(True, False)):
        given.append("projection")
    return Case(cls, options, tuple(name for name in given if name))


def inputs_of(case: Case, draw: torch.Generator) -> dict[str, Tensor]:
    """Three samples, four states, five stored patterns (as many as are learned, where they are)."""
    cls, options, given = case
    o = Options(**options)
    width = {part: size or 5 for part, size in o.width.items()}
    quantity = options.get("quantity", 1)
    count = quantity if cls == "HopfieldLayer" else 5
    length = {"HopfieldPooling": quantity, "HopfieldLayer": 4}.get(cls, 4 if "state" in given else count)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64)

    first = {
        "Hopfield": ("stored", count, "k"),
        "HopfieldPooling": ("x", count, "k"),
        "HopfieldLayer": ("x", length, "q"),
    }
    name, rows, part = first[cls]
    found = {name: normal(3, rows, width[part])}
    if "state" in given:
        found["state"] = normal(3, length, width["q"])
    if "projection" in given:
        found["projection"] = normal(3, count, width["v"])
    if not options.get("batch_first", True):
        found = {name: x.transpose(0, 1) for name, x in found.items()}
    if "padding" in given and count > 1:
        found["padding_mask"] = torch.arange(count) >= torch.tensor([[count], [max(count - 2, 1)], [0]])
    shape = (3 * options.get("num_heads", 1), length, count)
    for kind in given:
        if kind in ("bool", "bool3d", "float", "float3d"):
            own = shape if kind.endswith("3d") else shape[1:]
            forbidden = torch.rand(own, generator=draw) < 0.3
            # Each may do without the others: some states are left nothing.
            found["association_mask"] = forbidden if "bool" in kind else normal(*own).masked_fill(forbidden, -torch.inf)
    return found
