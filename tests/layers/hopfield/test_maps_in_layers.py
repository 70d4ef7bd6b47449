"""Every map in every layer, with heads, batches, masks and updates, against the slow layers."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.layers.hopfield.official_cases import Case, generator, inputs_of
from tests.layers.hopfield.official_layers import check, ours
from tests.layers.hopfield.slow import official_state, slow, slow_map
from zoo.layers.hopfield import (
    Hopfield,
    HopfieldDecoderLayer,
    HopfieldEncoderLayer,
    HopfieldLookupHead,
    HopfieldPooling,
    HopfieldSelfAssociation,
)
from zoo.weights.converters.hopfield import convert_official

MAPS: dict[str, dict[str, Any]] = {
    "softmax": {},
    "sparsemax": {"association": "sparsemax"},
    "entmax": {"association": "entmax"},
    "entmax 1.2": {"association": "entmax", "alpha": 1.2},
    "entmax a head": {"association": "entmax", "alpha": torch.tensor([1.0, 1.7])},
    "entmax 2.5": {"association": "entmax", "alpha": 2.5},
    "normmax": {"association": "normmax"},
    "normmax 5": {"association": "normmax", "alpha": 5.0},
    "budget": {"association": "budget", "k": 2},
    "topk": {"association": "topk", "k": 2},
}
_SIX = {"input_size": 6, "num_heads": 2, "scaling": torch.tensor([0.8, 2.5]), "update_steps_max": 2}
_LAYERS = {
    "states": Case("Hopfield", {**_SIX, "update_steps_eps": 0.05}, ("state", "projection", "padding", "float3d")),
    "one tensor": Case("Hopfield", _SIX, ("bool",)),
    "pooling": Case("HopfieldPooling", {**_SIX, "quantity": 3}, ("padding", "float")),
    "pooling, zero pattern": Case(
        "HopfieldPooling",
        {**_SIX, "add_zero_association": True, "update_steps_max": torch.tensor([0, 3])},
        ("padding",),
    ),
    "lookup": Case("HopfieldLayer", {**_SIX, "quantity": 5, "lookup_weights_as_separated": True}, ("bool3d",)),
}


@pytest.mark.parametrize("layer", _LAYERS)
@pytest.mark.parametrize("name", MAPS)
def test_equals_the_slow_layer(layer, name):
    case = _LAYERS[layer]
    check(Case(case.cls, {**case.options, **MAPS[name]}, case.given))


@pytest.mark.parametrize("post", ["l2", "layer_norm"])
@pytest.mark.parametrize("layer", _LAYERS)
@pytest.mark.parametrize("name", ["softmax", "entmax a head", "topk"])
def test_what_is_done_to_new_states(layer, name, post):
    case = _LAYERS[layer]
    given = tuple(kind for kind in case.given if kind != "padding")  # nothing recalled has no direction
    check(Case(case.cls, {**case.options, **MAPS[name], "post": post}, given))


@pytest.mark.parametrize("name", MAPS)
def test_bags_padded_ragged_and_alone(name):
    """A bag of one instance too: a budget or top-k of more takes all there is."""
    torch.manual_seed(0)
    pooling = HopfieldPooling(6, num_heads=2, quantity=2, num_updates=2, tol=None, dtype=torch.float64, **MAPS[name])
    with torch.no_grad():
        for parameter in pooling.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.4)
    bags = [torch.randn(size, 6, dtype=torch.float64) for size in (5, 1, 3)]
    wanted = torch.cat([pooling(bag.unsqueeze(0)) for bag in bags])
    torch.testing.assert_close(pooling(torch.cat(bags), offsets=[0, 5, 6, 9]), wanted, rtol=1e-10, atol=1e-10)
    x = torch.nn.utils.rnn.pad_sequence(bags, batch_first=True)
    mask = torch.arange(5) >= torch.tensor([[5], [1], [3]])
    torch.testing.assert_close(pooling(x, mask), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("start", [1.5, [1.1, 1.9]])
def test_a_learned_alpha_is_the_alpha_that_it_starts_from(start):
    torch.manual_seed(0)
    learned = Hopfield(6, num_heads=2, association="entmax", alpha=start, learn_alpha=True, num_updates=2, beta=2.0)
    fixed = Hopfield(6, num_heads=2, association="entmax", alpha=start, num_updates=2, beta=2.0)
    state = learned.state_dict()
    assert state.pop("map.raw_alpha").shape == (2,)
    fixed.load_state_dict(state)
    x, mask = torch.randn(3, 5, 6), torch.arange(5) >= torch.tensor([[5], [2], [4]])
    torch.testing.assert_close(learned(x, padding_mask=mask), fixed(x, padding_mask=mask), rtol=1e-5, atol=1e-6)
    learned(x, padding_mask=mask).square().sum().backward()
    assert learned.map.raw_alpha.grad.all()


@pytest.mark.parametrize("name", MAPS)
def test_self_association(name):
    """A mixer's mask says where to look, the layer's where not to."""
    torch.manual_seed(0)
    mixer = HopfieldSelfAssociation(6, 2, num_updates=2, dtype=torch.float64, **MAPS[name])
    with torch.no_grad():
        for parameter in mixer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.5)
    x, look = torch.randn(3, 5, 6, dtype=torch.float64), torch.rand(5, 5) < 0.7
    wanted = mixer.hopfield(x, association_mask=~look)
    torch.testing.assert_close(mixer(x, look), wanted, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", [name for name in MAPS if name != "entmax a head"])
@pytest.mark.parametrize("updates", [1, 3])
def test_lookup_head(name, updates):
    torch.manual_seed(0)
    options = {**MAPS[name], "num_updates": updates, "beta": 1.7}
    head = HopfieldLookupHead(6, 3, quantity=7, dtype=torch.float64, **options)
    with torch.no_grad():
        for parameter in head.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.5)
    x, beta = torch.randn(4, 6, dtype=torch.float64), float(head.lookup.hopfield.beta.detach())
    norms = head.lookup.hopfield.norm_state, head.lookup.hopfield.norm_stored
    states, stored = (_normed(y, norm) for y, norm in zip((x, head.lookup.stored_patterns), norms, strict=True))
    alpha = MAPS[name].get("alpha")
    wanted = []
    for state in states:
        for _ in range(updates):
            p = slow_map(beta * (stored @ state), MAPS[name], alpha)
            state = p @ stored
        wanted.append(p @ head.lookup.target_patterns + head.bias)
    torch.testing.assert_close(head(x), torch.stack(wanted), rtol=1e-10, atol=1e-10)


def _normed(x: Tensor, norm: torch.nn.LayerNorm) -> Tensor:
    y = (x - x.mean(-1, keepdim=True)) / (x.var(-1, keepdim=True, correction=0) + norm.eps).sqrt()
    return y * norm.weight + norm.bias


@pytest.mark.parametrize("activation", ["relu", "gelu", "tanh"])
@pytest.mark.parametrize("name", ["softmax", "sparsemax", "entmax a head"])
def test_encoder_and_decoder_layers(name, activation):
    """Post-norm around the associations, each with its own options, masks and state dict."""
    own = Case("Hopfield", {**_SIX, **MAPS[name]}, ("padding", "bool"))
    cross = Case(
        "Hopfield", {**_SIX, "stored_pattern_size": 5, "pattern_projection_size": 5}, ("state", "padding", "float3d")
    )
    draw = generator(5)
    parts = {"hopfield_association": own, "hopfield_association_self": own, "hopfield_association_cross": cross}
    x, memory = (torch.randn(3, n, width, generator=draw, dtype=torch.float64) for n, width in ((5, 6), (5, 5)))
    masks = {key: value for key, value in inputs_of(own, draw).items() if key.endswith("mask")}
    others = {key: value for key, value in inputs_of(cross, draw).items() if key.endswith("mask")}
    others["association_mask"] = torch.randn(6, 5, 5, generator=draw, dtype=torch.float64)

    def parameter(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=draw, dtype=torch.float64) * 0.4

    def forward(state: dict[str, Tensor], x: Tensor) -> Tensor:
        hidden = getattr(F, activation)(x @ state["linear_residual.weight"].T + state["linear_residual.bias"])
        return norm(state, "norm_output", x + hidden @ state["linear_output.weight"].T + state["linear_output.bias"])

    def norm(state: dict[str, Tensor], name: str, x: Tensor) -> Tensor:
        return F.layer_norm(x, (6,), state[f"{name}.weight"], state[f"{name}.bias"])

    for names in (["hopfield_association"], ["hopfield_association_self", "hopfield_association_cross"]):
        inner = {part: official_state("Hopfield", parts[part].options, parameter) for part in names}
        state = {f"{part}.{key}": value for part in names for key, value in inner[part].items()}
        state |= {"linear_residual.weight": parameter(8, 6), "linear_residual.bias": parameter(8)}
        state |= {"linear_output.weight": parameter(6, 8), "linear_output.bias": parameter(6)}
        norms = ["norm_residual"] if len(names) == 1 else ["norm_residual_self", "norm_residual_cross"]
        state |= {f"{part}.{end}": parameter(6) for part in (*norms, "norm_output") for end in ("weight", "bias")}
        associations = [Hopfield(**ours(parts[part]), dtype=torch.float64) for part in names]
        first = slow("Hopfield", own.options, inner[names[0]], {"stored": x, **masks}).output
        wanted = norm(state, norms[0], x + first)
        if len(names) == 1:
            layer = HopfieldEncoderLayer(*associations, dim_feedforward=8, activation=activation, dtype=torch.float64)
            given: dict[str, Tensor] = masks
        else:
            found = slow("Hopfield", cross.options, inner[names[1]], {"stored": memory, "state": wanted, **others})
            wanted = norm(state, norms[1], wanted + found.output)
            layer = HopfieldDecoderLayer(*associations, dim_feedforward=8, activation=activation, dtype=torch.float64)
            given = {"memory": memory, **masks, **{f"memory_{key}": value for key, value in others.items()}}
        layer.load_state_dict(convert_official(state)[0])
        torch.testing.assert_close(layer.eval()(x, **given), forward(state, wanted), rtol=1e-10, atol=1e-10)
