"""The layer and the network: their formula, initial values, lower precision, shapes, and what they keep."""

import copy
import math
import subprocess
import sys
import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from zoo.layers.kan import KAN, Basis, BSplineBasis, KANAttention, KANLinear

PRESETS = ("efficient", "fast", "faster", "chebyshev")
every_preset = pytest.mark.parametrize("preset", PRESETS)


def _layer(preset: str, *sizes: int, **options) -> KANLinear:
    torch.manual_seed(0)
    return getattr(KANLinear, preset)(*sizes, **options)


def _distance(found: torch.Tensor, exact: torch.Tensor) -> float:
    """Relative, in the norm."""
    return float((found.detach().float() - exact.detach()).norm() / exact.detach().norm())


class Powers(nn.Module):
    """x and x^2: a basis that is no subclass of ours."""

    num_bases = 2

    def forward(self, x):
        return torch.stack([x, x.square()], -1)


def test_formula():
    """Every part at once, edge by edge."""
    torch.manual_seed(0)
    layer = KANLinear(3, 2, norm="layer", bias=True, base_activation="gelu", scale_noise=3.0).double()
    layer.basis.reset_parameters()
    with torch.no_grad():
        layer.norm.weight.uniform_(0.5, 1)
        layer.norm.bias.uniform_(-0.2, 0.2)
    x = torch.randn(7, 3, dtype=torch.float64)
    bases = layer.basis(F.layer_norm(x, (3,), layer.norm.weight, layer.norm.bias))
    expected = torch.zeros(7, 2, dtype=torch.float64)
    for o in range(2):
        expected[:, o] = layer.bias[o].detach()
        for i in range(3):
            spline = sum(layer.weight[o, i, j].detach() * bases[:, i, j].detach() for j in range(8))
            base = layer.base_weight[o, i].detach() * F.gelu(x[:, i])
            expected[:, o] += layer.edge_scale[o, i].detach() * spline + base
    torch.testing.assert_close(layer(x), expected)


def test_scales_may_start_at_one():
    """Then the spline starts as it is drawn, times scale_spline, and the scale is learned all the same."""
    torch.manual_seed(0)
    scaled = KANLinear(3, 2, edge_scale="ones", scale_spline=2.0)
    torch.manual_seed(0)
    plain = KANLinear(3, 2, edge_scale=False, scale_spline=2.0)
    assert scaled.edge_scale.requires_grad
    assert scaled.edge_scale.eq(1).all()
    assert scaled.scaled_weight().equal(plain.weight)


@every_preset
def test_gradients_of_both_orders(preset):
    layer = _layer(preset, 3, 2).double()
    x = torch.randn(4, 3, dtype=torch.float64, requires_grad=True)
    names, values = zip(*layer.named_parameters(), strict=True)

    def call(x, *values):
        return torch.func.functional_call(layer, dict(zip(names, values, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *values))
    assert torch.autograd.gradgradcheck(call, (x, *values))


@every_preset
def test_gradients_are_finite_far_out(preset):
    layer = _layer(preset, 4, 3)
    x = torch.tensor([[1e4, -1e4, 9.02, 0.0], [1e4, 1e4, 1e4, 1e4]], requires_grad=True)
    layer(x).sum().backward()
    assert all(t.grad.isfinite().all() for t in (x, *layer.parameters()))


@every_preset
def test_any_leading_shape_and_none_at_all(preset):
    layer = _layer(preset, 6, 5)
    x = torch.randn(2, 6, 3, 4).permute(0, 2, 3, 1)
    rows = torch.stack([layer(row) for row in x.reshape(-1, 6)])
    torch.testing.assert_close(layer(x), rows.view(2, 3, 4, 5))
    empty = x[:0].requires_grad_()
    y = layer(empty)
    assert y.shape == (0, 3, 4, 5)
    y.sum().backward()
    assert all(not p.grad.any() for p in layer.parameters())


@every_preset
def test_not_a_number_stays_in_its_row(preset):
    x = torch.randn(4, 6)
    x[2, 1] = math.nan
    y = _layer(preset, 6, 5)(x)
    assert y[2].isnan().all()
    assert y[[0, 1, 3]].isfinite().all()


@every_preset
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_computes_the_basis_in_float32(preset, dtype):
    layer = _layer(preset, 64, 32).to(dtype)
    x = torch.randn(20, 64).to(dtype)
    exact = copy.deepcopy(layer).float()(x.float())
    y = layer(x)
    assert y.dtype == dtype
    assert layer.expand(x).dtype == torch.float32
    assert _distance(y, exact) < (0.01 if dtype == torch.bfloat16 else 0.002)
    y.float().sum().backward()
    assert {p.grad.dtype for p in layer.parameters()} == {dtype}


@every_preset
def test_autocast_multiplies_in_its_dtype(preset):
    layer = _layer(preset, 64, 32)
    x = torch.randn(20, 64, requires_grad=True)
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
        bases = layer.expand(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(bases, layer.expand(x), atol=0, rtol=0)
    assert _distance(y, exact) < 0.01
    y.float().sum().backward()
    assert {p.grad.dtype for p in (x, *layer.parameters())} == {torch.float32}


def test_splines_start_as_curves_through_small_noise():
    torch.manual_seed(0)
    layer = KANLinear(40, 30, scale_noise=0.1)
    inner = layer.basis.knots[0, 3:-3]
    values = torch.einsum("kj,oij->oik", layer.basis(inner[:, None])[:, 0], layer.weight)
    assert 0.99 * 0.01 < float(values.detach().abs().max()) <= 0.01 + 1e-6  # 0.1 / 2 / 5 intervals
    assert float(values.detach().std()) == pytest.approx(0.02 / math.sqrt(12), rel=0.02)
    # Of all coefficients that give these values, the smallest.
    bases = layer.basis(inner[:, None])[:, 0].double()
    smallest = torch.einsum("jk,oik->oij", torch.linalg.pinv(bases), values.double())
    torch.testing.assert_close(layer.weight.double(), smallest, atol=1e-7, rtol=1e-4)


@pytest.mark.parametrize("scale", [0.5, 1.0, 3.0])
def test_the_scales_of_the_start_work_as_in_efficient_kan(scale):
    torch.manual_seed(0)
    layer = KANLinear(50, 80, scale_base=scale, scale_spline=scale)
    bound = math.sqrt(6 / ((1 + 5 * scale**2) * 50))
    for drawn in (layer.base_weight, layer.edge_scale):
        assert 0.99 * bound < float(drawn.detach().abs().max()) <= bound
    torch.manual_seed(0)
    plain = KANLinear(50, 80, edge_scale=False).weight
    torch.manual_seed(0)
    torch.testing.assert_close(KANLinear(50, 80, edge_scale=False, scale_spline=scale).weight, plain * scale)


def test_the_other_bases_start_as_their_libraries_start():
    gaussian, switch, chebyshev = (_layer(name, 50, 80) for name in PRESETS[1:])
    assert float(gaussian.weight.detach().std()) == pytest.approx(0.1, rel=0.03)
    for drawn in (gaussian.base_weight, gaussian.bias):
        assert 0.9 / math.sqrt(50) < float(drawn.detach().abs().max()) <= 1 / math.sqrt(50)
    bound = math.sqrt(6 / (50 * 8 + 80))
    assert 0.99 * bound < float(switch.weight.detach().abs().max()) <= bound
    assert float(chebyshev.weight.detach().std()) == pytest.approx(1 / 250, rel=0.03)
    assert gaussian.basis.grid_range == (-2.0, 2.0)
    assert switch.basis.grid_range == (-1.2, 0.2)


def test_a_large_layer_is_built_quickly():
    started = time.process_time()
    KANLinear(1024, 3584)
    assert time.process_time() - started < 1.5


@pytest.mark.parametrize("order", [2, 3])
def test_a_fine_grid_is_built_quickly_and_starts_as_small(order):
    started = time.process_time()
    layer = KANLinear(2, 2, grid_size=100_000, spline_order=order, scale_noise=0.1)
    assert time.process_time() - started < 1.5
    largest = float(layer.weight.detach().abs().max()) * 100_000
    assert 0.049 < largest <= 0.05 + 1e-6  # the curves are means of coefficients


@pytest.mark.parametrize(
    ("preset", "parameters"), [("efficient", 508_160), ("fast", 459_114), ("faster", 408_224), ("chebyshev", 406_528)]
)
def test_sizes_of_the_published_networks(preset, parameters):
    """Without the 8 centres a layer (and the width of faster-kan), which their libraries count and never train."""
    options = {"degree": 7} if preset == "chebyshev" else {}
    model = KAN([784, 64, 10], layer=getattr(KANLinear, preset), device="meta", **options)
    assert sum(p.numel() for p in model.parameters()) == parameters


@pytest.mark.parametrize("name", ["bspline", "gaussian", "switch", "chebyshev"])
def test_a_basis_by_its_name_is_as_fine_as_grid_size(name):
    basis = KANLinear(4, 3, basis=name, grid_size=6).basis
    assert basis.num_bases == {"bspline": 9, "chebyshev": 7}.get(name, 6)
    if name != "chebyshev":
        assert KANLinear(4, 3, basis=name, grid_range=(0.0, 2.0)).basis.grid_range == (0.0, 2.0)


@pytest.mark.parametrize("edge_scale", [True, False])
def test_a_basis_of_ones_own(edge_scale):
    torch.manual_seed(0)
    layer = KANLinear(4, 3, basis=Powers(), base_activation=None, edge_scale=edge_scale)
    x = torch.randn(5, 4)
    w = layer.scaled_weight()
    torch.testing.assert_close(layer(x), x @ w[..., 0].T + x.square() @ w[..., 1].T)
    before = layer.weight.clone()
    layer.reset_parameters()
    assert not torch.equal(layer.weight, before)


def test_a_norm_and_an_activation_of_ones_own():
    torch.manual_seed(0)
    layer = KANLinear(4, 3, norm=nn.RMSNorm(4), base_activation=nn.PReLU())
    x = torch.randn(5, 4)
    spline = layer.basis(F.rms_norm(x, (4,))).flatten(-2) @ layer.scaled_weight().flatten(1).T
    torch.testing.assert_close(layer(x), spline + F.prelu(x, torch.tensor([0.25])) @ layer.base_weight.T)


@every_preset
def test_meta_device_then_reset(preset):
    model = KAN([4, 6, 3], layer=getattr(KANLinear, preset), device="meta")
    assert {t.device.type for t in model.state_dict().values()} == {"meta"}
    assert model(torch.empty(5, 4, device="meta")).shape == (5, 3)
    model.to_empty(device="cpu")
    for tensor in model.state_dict().values():
        tensor.fill_(math.nan)
    model.reset_parameters()
    torch.manual_seed(0)
    model.reset_parameters()
    fresh = KAN([4, 6, 3], layer=getattr(KANLinear, preset))
    torch.manual_seed(0)
    fresh.reset_parameters()
    for name, value in fresh.state_dict().items():
        assert torch.equal(model.state_dict()[name], value), name
    assert torch.isfinite(model(torch.randn(5, 4))).all()


@every_preset
def test_state_goes_round(preset):
    layer, other = (_layer(preset, 4, 3, dtype=torch.float64) for _ in range(2))
    other.reset_parameters()
    other.load_state_dict(layer.state_dict(), strict=True)
    x = torch.randn(5, 4, dtype=torch.float64)
    assert torch.equal(layer(x), other(x))
    assert {value.dtype for value in layer.state_dict().values()} == {torch.float64}


def test_knots_of_each_input_go_round_through_a_state():
    layer, other = KANLinear(3, 2), KANLinear(3, 2)
    knots = layer.basis.knots + torch.tensor([[0.0], [0.1], [0.2]])
    layer.basis.set_knots(knots)
    other.load_state_dict(layer.state_dict())
    x = torch.randn(5, 3)
    assert torch.equal(layer(x), other(x))


def test_regulariser_by_its_formula_and_with_curves_that_are_zero():
    torch.manual_seed(0)
    layer = KANLinear(3, 2)
    with torch.no_grad():
        layer.weight[0, 1] = 0
    sizes = [float(c.abs().mean()) for c in layer.weight.detach().flatten(0, 1)]
    entropy = -sum(a / sum(sizes) * math.log(a / sum(sizes)) for a in sizes if a)
    assert float(layer.regularization_loss(0.3, 2.0).detach()) == pytest.approx(
        0.3 * sum(sizes) + 2 * entropy, rel=1e-5
    )
    layer.regularization_loss().backward()
    assert layer.weight.grad.isfinite().all()
    with torch.no_grad():
        layer.weight.zero_()
    layer.weight.grad = None
    loss = layer.regularization_loss()
    loss.backward()
    assert abs(float(loss.detach())) < 1e-30
    assert layer.weight.grad.isfinite().all()


def test_regulariser_of_a_network_is_the_sum_over_its_layers():
    model = KAN([4, 6, 3])
    expected = sum(float(layer.regularization_loss(0.5, 2.0).detach()) for layer in model.layers)
    assert float(model.regularization_loss(0.5, 2.0).detach()) == pytest.approx(expected)


def test_the_curves_of_all_edges_add_up_to_the_layer():
    torch.manual_seed(0)
    layer = KANLinear(3, 2, scale_noise=2.0)
    x = torch.randn(9, 3)
    for o in range(2):
        curves = sum(layer.edge_curve(x[:, i], i, o) for i in range(3))
        torch.testing.assert_close(curves, layer(x)[:, o])
    splines = layer.edge_curve(x[:, 0], 0, 1, base=False)
    torch.testing.assert_close(layer.edge_curve(x[:, 0], 0, 1) - splines, layer.base_weight[1, 0] * F.silu(x[:, 0]))
    with pytest.raises(IndexError, match=r"out_index must be from -2 to 1, got 2"):
        layer.edge_curve(x[:, 0], 0, 2)


def test_the_network_is_its_layers_in_a_row():
    torch.manual_seed(0)
    model = KAN([4, 6, 3], layer=KANLinear.fast, num_centres=5)
    x = torch.randn(5, 4)
    torch.testing.assert_close(model(x), model.layers[1](model.layers[0](x)))
    assert [layer.num_bases for layer in model.layers] == [5, 5]


def test_a_module_with_tensors_is_not_shared_by_the_layers_of_a_network():
    with pytest.raises(TypeError, match=r"basis: one module .* shared"):
        KAN([4, 6, 3], basis=BSplineBasis())
    assert KAN([4, 6, 3], basis=Powers()).layers[0].num_bases == 2


def test_attention_without_a_gate_and_one_key_hands_on_its_value():
    torch.manual_seed(0)
    layer = KANAttention(6, 5, 4, 3, 2, gating=False)
    q, k, v = torch.randn(2, 3, 6), torch.randn(2, 1, 5), torch.randn(2, 1, 4)
    torch.testing.assert_close(layer(q, k, v), layer.linear_o(layer.linear_v(v)).expand(2, 3, 6))


@every_preset
def test_fake_tensors(preset):
    with torch._subclasses.FakeTensorMode():
        y = _layer(preset, 4, 3)(torch.randn(5, 4, requires_grad=True))
        assert y.shape == (5, 3)
        y.sum().backward()


def test_what_is_printed():
    text = repr(KANLinear(3, 2, grid_size=7, spline_order=2, grid_range=(0.0, 2.0)))
    assert "3, 2, edge_scale=True, bias=False, parameters=66" in text
    assert "grid_size=7, order=2, grid_range=(0, 2)" in text
    assert issubclass(BSplineBasis, Basis)


_CAPTURE = """
import warnings; warnings.simplefilter("ignore")
import torch
from zoo.layers.kan import KAN, KANLinear
from zoo.testing import check_module
for layer in (KANLinear, KANLinear.fast, KANLinear.faster, KANLinear.chebyshev):
    torch.manual_seed(0)
    model = KAN([4, 6, 3], layer=layer).eval()
    x = torch.randn(5, 4)
    expected = model(x)
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), expected)
    compiled(x).sum().backward()
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(compiled(x), model(x), atol=1e-3, rtol=0.02)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},)).module()
    torch.testing.assert_close(program(torch.cat([x, x])), torch.cat([expected, expected]))
    torch.testing.assert_close(torch.jit.trace(model, (x,))(x[:2] / 2), model(x[:2] / 2))
    torch.testing.assert_close(torch.vmap(model)(x), expected)
    jacobian = torch.func.jacrev(model)(x[0])
    torch.testing.assert_close(torch.func.jacfwd(model)(x[0]), jacobian)
    check_module("head", layer, compiler="aot_eager")
"""


def test_compile_export_trace_function_transforms_and_the_contract_of_heads():
    """In a process of its own: they read the functions, not the run-time checks around them."""
    subprocess.run([sys.executable, "-c", _CAPTURE], check=True, capture_output=True, text=True, timeout=300)
