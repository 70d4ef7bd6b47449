"""The layers give what the libraries' layers gave, loaded with their parameters: values, gradients, regularisers."""

import pytest
import torch
from torch import nn

from tests.layers.kan.goldens import Golden, golden
from zoo.layers.kan import KAN, KANAttention, KANLinear

CASES = {
    "bspline_linear_default": lambda: KANLinear(6, 5),
    "bspline_linear_order1": lambda: KANLinear.efficient(4, 3, grid_size=3, spline_order=1),
    "bspline_linear_order2": lambda: KANLinear(
        5,
        4,
        grid_size=8,
        spline_order=2,
        grid_range=(-2.0, 3.0),
        base_activation="tanh",
        edge_scale=False,
        scale_spline=0.7,
    ),
    "bspline_linear_edges": lambda: KANLinear(2, 3),
    "bspline_net": lambda: KAN([4, 6, 3]),
    "rbf_linear_default": lambda: KANLinear.fast(6, 5),
    "rbf_linear_plain": lambda: KANLinear.fast(
        5, 4, grid_range=(-1.0, 1.0), num_centres=5, base_activation=None, norm=None
    ),
    "rbf_net": lambda: KAN([5, 8, 3], layer=KANLinear.fast),
    "rswaf_linear_default": lambda: KANLinear.faster(6, 5),
    "rswaf_net": lambda: KAN([6, 8, 3], layer=KANLinear.faster, grid_range=(-1.2, 1.2)),
    "chebyshev_linear": lambda: KANLinear.chebyshev(5, 4, degree=4),
}


def _check(case: Golden, model: nn.Module, kind: str, backend: str = "auto") -> None:
    for layer in model.modules():
        if isinstance(layer, KANLinear):
            layer.backend = backend
    made = {name: value.clone() for name, value in model.state_dict().items() if "basis" in name}
    model.load_state_dict(case.state(), strict=True)
    for name, value in made.items():  # our knots and centres are theirs
        torch.testing.assert_close(value, model.state_dict()[name], atol=3e-7, rtol=0)
    x = case.tensors["in.x"].clone().requires_grad_()
    y = model(x)
    case.check(y, case.tensors["out.y"])
    y.backward(case.tensors["in.cotangent"])
    found = {"x": x.grad, **{name: p.grad for name, p in model.named_parameters()}}
    expected = case.gradients(kind)
    assert set(found) == set(expected)
    for name, gradient in expected.items():
        case.check(found[name], gradient, "grad")


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_values_and_gradients(name, backend):
    _check(golden(name), CASES[name](), "grad.exact" if name.startswith("rswaf") else "grad", backend)


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", ["rswaf_linear_default", "rswaf_net"])
def test_the_official_gradients_of_the_switch_can_be_had(name, backend):
    model = CASES[name]()
    for layer in model.modules():
        if isinstance(layer, KANLinear):
            layer.basis.compat_gradient = True
    _check(golden(name), model, "grad.upstream", backend)


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("bspline_linear")])
def test_basis(name):
    case, layer = golden(name), CASES[name]()
    layer.load_state_dict(case.state())
    case.check(layer.expand(case.tensors["in.x"]), case.tensors["out.basis"])


@pytest.mark.parametrize("name", [name for name in CASES if name.startswith("bspline")])
def test_regulariser(name):
    case, model = golden(name), CASES[name]()
    model.load_state_dict(case.state())
    case.check(model.regularization_loss(), case.tensors["out.regularization"], "regularization")
    other = case.tensors.get("out.regularization_a0.5_e2")
    if other is not None:
        case.check(model.regularization_loss(0.5, 2.0), other, "regularization")


@pytest.mark.parametrize("name", ["rbf_linear_default", "rbf_linear_plain"])
def test_edge_curve(name):
    case, layer = golden(name), CASES[name]()
    layer.load_state_dict(case.state())
    curve = layer.edge_curve(case.tensors["out.curve_x_in1_out0"], 1, 0)
    case.check(curve, case.tensors["out.curve_y_in1_out0"])


def test_attention():
    case = golden("rbf_attention")
    model = KANAttention(**case.meta["kwargs"])
    model.load_state_dict(case.state(), strict=True)
    given = case.part("in")
    case.check(model(given["q"], given["k"], given["v"]), case.tensors["out.y_nobias"])
    case.check(model(given["q"], given["k"], given["v"], given["bias"]), case.tensors["out.y"])
