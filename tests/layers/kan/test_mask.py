"""A masked edge is no edge: 0 for every input, without gradient, in the state and after loading."""

import pytest
import torch

from tests.layers.answers import answers
from tests.layers.kan.goldens import golden
from zoo.layers.kan import KANLinear

MAKERS = [KANLinear, KANLinear.fast, KANLinear.faster, KANLinear.chebyshev]
KEEP = torch.tensor([[True, False, True], [True, True, False]])


def _layer(make, seed=0):
    torch.manual_seed(seed)
    return make(3, 2, dtype=torch.float64)


def _by_hand(layer, keep):
    """A layer without a mask whose parameters are 0 on the edges that go."""
    with torch.no_grad():
        layer.weight *= keep.unsqueeze(-1)
        if layer.base_weight is not None:
            layer.base_weight *= keep
    return layer


@pytest.mark.parametrize("make", MAKERS)
def test_a_masked_edge_is_an_edge_of_parameters_that_are_0(make):
    masked, plain = _layer(make), _by_hand(_layer(make), KEEP)
    masked.mask_edges(KEEP)
    x = torch.randn(7, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(masked(x), plain(x), rtol=0, atol=0)
    masked(x).square().sum().backward()
    assert masked.weight.grad is not None
    assert not masked.weight.grad[~KEEP].any()
    assert masked.weight.grad[KEEP].any(-1).all()


def test_masks_add_up():
    layer = _layer(KANLinear)
    layer.mask_edges(KEEP)
    layer.mask_edges(~KEEP | torch.tensor([[True, False, False], [False, False, False]]))
    assert layer.mask.nonzero().tolist() == [[0, 0]]


def test_a_masked_edge_has_no_curve_and_no_part_in_the_regulariser():
    masked, plain = _layer(KANLinear), _by_hand(_layer(KANLinear), KEEP)
    masked.mask_edges(KEEP)
    points = torch.linspace(-1, 1, 9, dtype=torch.float64)
    assert not masked.edge_curve(points, 1, 0).any()
    torch.testing.assert_close(masked.edge_curve(points, 0, 0), plain.edge_curve(points, 0, 0))
    torch.testing.assert_close(masked.regularization_loss(), plain.regularization_loss())


def test_the_mask_goes_with_the_state():
    masked, fresh = _layer(KANLinear), _layer(KANLinear, seed=1)
    assert "mask" not in fresh.state_dict()
    masked.mask_edges(KEEP)
    fresh.load_state_dict(masked.state_dict())
    assert torch.equal(fresh.mask, KEEP)
    fresh.load_state_dict(_layer(KANLinear).state_dict())  # a whole layer of which no edge is masked
    assert fresh.mask is None
    fresh.mask_edges(KEEP)
    fresh.load_state_dict({"base_weight": torch.zeros(2, 3)}, strict=False)  # a part of one says nothing of edges
    assert torch.equal(fresh.mask, KEEP)
    fresh.reset_parameters()
    assert fresh.mask is None


def test_the_layer_of_pykan_with_its_mask():
    case = golden("pykan_layer")
    layer = KANLinear(4, 3)
    layer.load_state_dict(case.state())
    assert layer.mask.logical_not().nonzero().tolist() == [[2, 0]]
    x = case.tensors["in.x"].clone().requires_grad_()
    y = layer(x)
    case.check(y, case.tensors["out.y"])
    y.backward(case.tensors["in.cotangent"])
    found = {"x": x.grad, **{name: p.grad for name, p in layer.named_parameters()}}
    for name, gradient in case.gradients().items():
        case.check(found[name], gradient, "grad")
    bases = layer.expand(case.tensors["in.x"])
    splines = torch.einsum("bik,oik->boi", bases, layer.weight)
    case.check(splines, case.tensors["out.edge_splines"])


REFUSED = {
    "KANLinear(3, 2).mask_edges(torch.ones(3, 2).bool())": ["ValueError", "= (2, 3)", "got torch.bool", "(3, 2)"],
    "KANLinear(3, 2).mask_edges(torch.ones(2, 3))": ["ValueError", "boolean", "got torch.float32"],
}


def test_refused_with_what_is_allowed():
    messages = answers(REFUSED, "from zoo.layers.kan import KANLinear")
    for case, parts in REFUSED.items():
        assert all(part in messages[case] for part in parts), messages[case]
