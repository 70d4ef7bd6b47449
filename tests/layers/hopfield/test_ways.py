"""One association by all the ways there are to compute it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from zoo.layers.hopfield import Hopfield, HopfieldLayer, HopfieldPooling, absorbed, hopfield_association
from zoo.layers.hopfield.memory import retrieve
from zoo.layers.hopfield.reference import reference_association

_BARE: dict[str, Any] = {
    **dict.fromkeys(("norm_stored", "norm_state", "norm_value"), False),
    **dict.fromkeys(("project_stored", "project_state", "project_value", "project_out"), False),
}


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float32, 1e-5), (torch.float64, 1e-10)])
@pytest.mark.parametrize("updates", [1, 4])
@pytest.mark.parametrize("association", ["softmax", "sparsemax"])
def test_all_ways_agree(association, updates, dtype, limit, monkeypatch):
    """Matrices, kernels, without projections, padded, ragged, learned patterns, and a store read chunk by chunk."""
    torch.manual_seed(0)
    options = {"beta": 0.9, "num_updates": updates, "association": association}
    x, state = torch.randn(3, 700, 5, dtype=dtype), torch.randn(2, 5, dtype=dtype)
    pooling = HopfieldPooling(5, quantity=2, reduce="concat", tol=None, dtype=dtype, **options, **_BARE)
    lookup = HopfieldLayer(5, quantity=700, tol=None, dtype=dtype, **options, **_BARE)
    with torch.no_grad():
        pooling.state_patterns.copy_(state)
    heads = x.unsqueeze(1)
    how = {"num_updates": (updates,), "association": association}
    found: dict[str, Tensor] = {
        "matrices": reference_association(
            state.expand(3, 1, -1, -1), heads, heads, torch.tensor([0.9], dtype=dtype), **how
        ).result[:, 0],
        "layer": Hopfield(tol=None, dtype=dtype, **options, **_BARE)(x, state.expand(3, -1, -1)),
        "pooling": pooling(x).unflatten(1, (2, 5)),
        "ragged": pooling(x.flatten(0, 1), offsets=[0, 700, 1400, 2100]).unflatten(1, (2, 5)),
        "store": torch.stack([retrieve(state, bag, **options) for bag in x]),
        "store, whole": torch.stack([retrieve(state, bag.clone().requires_grad_(), **options) for bag in x]).detach(),
    }
    more, mask = torch.cat([x, 9 * torch.ones(3, 60, 5, dtype=dtype)], 1), (torch.arange(760) >= 700).expand(3, -1)
    found["padded"] = pooling(more, mask).unflatten(1, (2, 5))
    lookups = []
    for bag in x:
        lookup.store(bag)
        lookups.append(lookup(state.unsqueeze(0))[0])
    found["lookup"] = torch.stack(lookups)
    monkeypatch.setattr(absorbed, "_WORTH", -(2**60))
    found["without projections"] = pooling(x).unflatten(1, (2, 5))
    for way, result in found.items():
        torch.testing.assert_close(
            result, found["matrices"], rtol=limit, atol=limit, msg=lambda text, way=way: f"{way}: {text}"
        )


@pytest.mark.parametrize("options", [{}, {"project_value": False, "value_dim": 6}, {"norm_association": True}])
@pytest.mark.parametrize("zero", [False, True])
def test_a_bias_pattern_is_a_stored_pattern_that_no_mask_hides(options, zero):
    torch.manual_seed(0)
    common = {"num_heads": 2, "num_updates": 3, "tol": None, "dtype": torch.float64, **options}
    layer, plain = Hopfield(6, bias_pattern=True, zero_pattern=zero, **common), Hopfield(6, **common)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.4)
    plain.load_state_dict({key: value for key, value in layer.state_dict().items() if not key.startswith("bias_")})
    x = torch.randn(2, 5, 6, dtype=torch.float64)
    mask = torch.arange(5) >= torch.tensor([[3], [0]])
    q, k, v = plain.project(x, x, x)
    own = layer.bias_stored if plain.norm_association is None else plain.norm_association(layer.bias_stored)
    pairs = [(k, own), (v, layer.bias_value)]
    k, v = (torch.cat([given, extra[:, None].expand(2, -1, -1, -1)], 2) for given, extra in pairs)
    if zero:
        k, v = (torch.cat([given, torch.zeros_like(given[:, :, :1])], 2) for given in (k, v))
    added = torch.zeros(2, 1, 1, 6 + zero, dtype=torch.float64)
    added[..., :5].masked_fill_(mask[:, None, None], -torch.inf)
    wanted = hopfield_association(q, k, v, layer.beta, added, num_updates=3).result
    wanted = plain.out_proj(wanted.transpose(1, 2).flatten(2))
    torch.testing.assert_close(layer(x, padding_mask=mask), wanted, rtol=1e-10, atol=1e-10)
