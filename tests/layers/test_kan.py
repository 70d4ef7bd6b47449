"""The switch-basis KAN: golden values, gradients of every order, and the tile path against the formula."""

import copy
import math
import subprocess
import sys

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from tests.models.medvit2_goldens import golden
from zoo.layers.kan import FasterKAN, FasterKANLayer, KANBlock, switch_basis, switch_linear, tiles

H = 0.33


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of a few rows and inputs, so that small inputs cross their borders."""
    for name, value in (("_TILE", 1), ("_LEAST_ROWS", 3), ("_INPUTS", 2)):
        monkeypatch.setattr(tiles, name, value)


def _case(dtype=torch.float64, rows=7, features=5, out=4, norm=True, seed=0):
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape):
        return torch.randn(*shape, generator=generator, dtype=dtype).requires_grad_()

    x, weight = draw(rows, features), draw(out, features * 8)
    scale, shift = (draw(features), draw(features)) if norm else (None, None)
    return x, weight, torch.linspace(-2, 2, 8, dtype=dtype), scale, shift


def _gradients(x, weight, centres, scale, shift, backend, cotangent):
    y = switch_linear(x, weight, centres, 1 / H, norm_weight=scale, norm_bias=shift, backend=backend)
    inputs = [t for t in (x, weight, scale, shift) if t is not None]
    return y.detach(), torch.autograd.grad(y, inputs, cotangent)


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_golden_stack(backend):
    case = golden("fasterkan_32_64_32")
    model = FasterKAN(case.kwargs["layers_hidden"], backend=backend)
    model.load_state_dict(case.state(), strict=True)
    x = case.tensors["in.x"].requires_grad_()
    y = model(x)
    case.assert_output(y)
    y.backward(case.tensors["in.cotangent"])
    case.assert_gradients({"x": x.grad, **{k: p.grad for k, p in model.named_parameters()}})


def test_basis_is_the_squared_hyperbolic_secant():
    u = torch.linspace(-5, 5, 41, dtype=torch.float64)
    centres = torch.tensor([-1.0, 0.5], dtype=torch.float64)
    expected = torch.tensor([[1 / math.cosh((a - g) / H) ** 2 for g in (-1.0, 0.5)] for a in u.tolist()], dtype=u.dtype)
    torch.testing.assert_close(switch_basis(u, centres, 1 / H), expected, atol=1e-15, rtol=0)


@pytest.mark.parametrize("norm", [True, False])
@pytest.mark.parametrize("rows", [0, 1, 6, 7])
def test_tiles_equal_the_formula(norm, rows, small_tiles):
    case = _case(rows=rows, norm=norm)
    cotangent = torch.randn(rows, 4, dtype=torch.float64)
    fast, reference = (_gradients(*case, backend, cotangent) for backend in ("auto", "reference"))
    torch.testing.assert_close(fast, reference, atol=1e-10, rtol=1e-10)


def test_tiles_in_float32_and_far_from_the_centres():
    x, weight, centres, _, _ = _case(torch.float32, features=9, norm=False)
    with torch.no_grad():
        x[0] = torch.tensor([-1e4, -30, -6.7, -2, 0, 2, 6.7, 30, 1e4])
    cotangent = torch.randn(7, 4)
    fast, reference = (_gradients(x, weight, centres, None, None, b, cotangent) for b in ("auto", "reference"))
    torch.testing.assert_close(fast, reference, atol=2e-5, rtol=1e-5)


def test_wide_centres_take_no_shared_exponential():
    """exp(2 u / h) would overflow for centres this many widths from zero; the tiles must notice."""
    x, weight, _, _, _ = _case(torch.float32, norm=False)
    centres = torch.linspace(-60, 60, 8)
    x = (x.detach() * 30).requires_grad_()
    cotangent = torch.randn(7, 4)
    fast, reference = (_gradients(x, weight, centres, None, None, b, cotangent) for b in ("auto", "reference"))
    torch.testing.assert_close(fast, reference, atol=2e-5, rtol=1e-5)


def test_not_a_number_stays_in_its_row():
    x, weight, centres, scale, shift = _case(torch.float32)
    with torch.no_grad():
        x[2, 1] = math.nan
        y = switch_linear(x, weight, centres, 1 / H, norm_weight=scale, norm_bias=shift)
    assert y[2].isnan().all()
    assert y[[0, 1, 3, 4, 5, 6]].isfinite().all()


@pytest.mark.parametrize("norm", [True, False])
def test_gradcheck(norm, small_tiles):
    x, weight, centres, scale, shift = _case(features=3, out=2, rows=4, norm=norm)
    inputs = [t for t in (x, weight, scale, shift) if t is not None]

    def call(x: Tensor, weight: Tensor, *rest: Tensor) -> Tensor:
        scale, shift = rest or (None, None)
        return switch_linear(x, weight, centres, 1 / H, norm_weight=scale, norm_bias=shift)

    assert torch.autograd.gradcheck(call, inputs)
    assert torch.autograd.gradgradcheck(call, inputs)


def test_gradients_only_where_asked():
    x, weight, centres, scale, shift = _case()
    weight.requires_grad_(False)
    full = _gradients(x, weight.clone().requires_grad_(), centres, scale, shift, "auto", torch.ones(7, 4).double())[1]
    y = switch_linear(x, weight, centres, 1 / H, norm_weight=scale, norm_bias=shift)
    only_x = torch.autograd.grad(y.sum(), x)[0]
    torch.testing.assert_close(only_x, full[0])
    y = switch_linear(x.detach(), weight.requires_grad_(), centres, 1 / H, norm_weight=scale.detach())
    assert y.requires_grad


def test_function_transforms_and_forward_mode():
    x, weight, centres, scale, shift = (None if t is None else t.detach() for t in _case(rows=3))

    def call(row):
        return switch_linear(row, weight, centres, 1 / H, norm_weight=scale, norm_bias=shift)

    torch.testing.assert_close(torch.vmap(call)(x), call(x))
    jacobian = torch.func.jacrev(call)(x[0])
    torch.testing.assert_close(torch.func.jacfwd(call)(x[0]), jacobian)
    tangent = torch.randn_like(x[0])
    with torch.autograd.forward_ad.dual_level():
        y = call(torch.autograd.forward_ad.make_dual(x[0], tangent))
        torch.testing.assert_close(torch.autograd.forward_ad.unpack_dual(y).tangent, jacobian @ tangent)


def test_fake_tensors_are_composed():
    with torch._subclasses.FakeTensorMode():
        y = KANBlock(8)(torch.randn(5, 8, requires_grad=True))
        assert y.shape == (5, 8)
        y.sum().backward()


def test_keeps_only_the_input_for_the_backward_pass():
    layer = FasterKANLayer(64, 128)
    x = torch.randn(300, 64, requires_grad=True)
    parameters = {p.data_ptr() for p in layer.parameters()} | {layer.rbf.grid.data_ptr()}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in parameters:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        layer(x)
    assert sum(saved.values()) == x.numel() * 4


def test_bfloat16_is_as_good_as_its_rounding():
    torch.manual_seed(0)
    layer = FasterKANLayer(96, 64, device="cpu")
    x = torch.randn(40, 96)
    exact = copy.deepcopy(layer).to(torch.bfloat16).float()(x.bfloat16().float()).detach()
    y = layer.to(torch.bfloat16)(x.bfloat16())
    assert y.dtype == torch.bfloat16
    assert float((y.detach().float() - exact).abs().max() / exact.abs().max()) < 0.01
    y.float().sum().backward()
    assert all(p.grad is not None and p.grad.dtype == torch.bfloat16 for p in layer.parameters())


def test_autocast_multiplies_in_its_dtype_and_keeps_float32_gradients():
    torch.manual_seed(0)
    layer = FasterKANLayer(32, 16)
    x = torch.randn(20, 32, requires_grad=True)
    exact = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        y = layer(x)
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y.float(), exact, atol=0.02, rtol=0.02)
    y.float().square().sum().backward()
    assert x.grad is not None
    assert x.grad.dtype == torch.float32
    assert layer.spline_linear.weight.grad.dtype == torch.float32


def test_base_branch_sees_the_input_before_the_norm():
    torch.manual_seed(0)
    layer = FasterKANLayer(6, 5, base_branch=True).double()
    x = 3 * torch.randn(2, 3, 6, dtype=torch.float64) + 1
    norm = F.layer_norm(x, (6,), layer.layernorm.weight, layer.layernorm.bias)
    spline = switch_basis(norm, layer.rbf.grid, 1 / H).flatten(-2) @ layer.spline_linear.weight.T
    base = F.silu(x) @ layer.base_linear.weight.T + layer.base_linear.bias
    torch.testing.assert_close(layer(x), spline + base, atol=1e-10, rtol=1e-8)
    assert {"base_linear.weight", "base_linear.bias"} < set(layer.state_dict())


def test_any_leading_shape_and_layout():
    torch.manual_seed(0)
    layer = FasterKANLayer(6, 5)
    x = torch.randn(2, 6, 3, 4).permute(0, 2, 3, 1)
    rows = torch.stack([layer(row) for row in x.reshape(-1, 6)])
    torch.testing.assert_close(layer(x), rows.view(2, 3, 4, 5))
    assert layer(x[:0]).shape == (0, 3, 4, 5)


def test_block_has_the_feed_forward_constructor():
    block = KANBlock(16)
    assert [tuple(layer.spline_linear.weight.shape) for layer in block.layers] == [(32, 128), (16, 256)]
    block = KANBlock(16, 20, 12, act_layer=torch.nn.GELU, drop=0.5)
    assert [tuple(layer.spline_linear.weight.shape) for layer in block.layers] == [(20, 128), (12, 160)]
    x = torch.randn(64, 16)
    plain = KANBlock(16, 20, 12)
    plain.load_state_dict(block.state_dict())
    torch.testing.assert_close(block.eval()(x), plain(x))
    dropped = block.train()(x) == 0
    assert 0.35 < float(dropped.float().mean()) < 0.65


def test_grid_is_part_of_the_state_and_no_parameter():
    model = FasterKAN([4, 8, 4])
    assert torch.equal(model.state_dict()["layers.0.rbf.grid"], torch.linspace(-2, 2, 8))
    assert not any("grid" in name for name, _ in model.named_parameters())
    model.load_state_dict({**model.state_dict(), "layers.0.rbf.grid": torch.linspace(-1, 1, 8)})
    x = torch.randn(3, 4)
    hidden = switch_basis(F.layer_norm(x, (4,)), torch.linspace(-1, 1, 8), 1 / H).flatten(-2)
    torch.testing.assert_close(model.layers[0](x), hidden @ model.layers[0].spline_linear.weight.T)


def test_meta_device_then_reset():
    model = FasterKAN([4, 8, 4], device="meta", base_branch=True)
    assert {t.device.type for t in model.state_dict().values()} == {"meta"}
    assert model(torch.empty(3, 4, device="meta")).shape == (3, 4)
    model.to_empty(device="cpu").reset_parameters()
    assert torch.equal(model.layers[1].rbf.grid, torch.linspace(-2, 2, 8))
    bound = math.sqrt(6 / (8 * 8 + 4))  # Xavier's, for 8 features with 8 centres and 4 outputs
    largest = float(model.layers[1].spline_linear.weight.detach().abs().max())
    assert 0.9 * bound < largest <= bound
    assert torch.isfinite(model(torch.randn(3, 4))).all()


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: FasterKANLayer(0, 4), ["in_features", "at least 1", "0"]),
        (lambda: FasterKANLayer(4, 4, num_centres=0), ["num_centres", "at least 1"]),
        (lambda: FasterKANLayer(4, 4, grid_range=(2.0, -2.0)), ["grid_range", "(2.0, -2.0)", "low < high"]),
        (lambda: FasterKANLayer(4, 4, inv_width=0.0), ["inv_width", "greater than 0"]),
        (lambda: FasterKANLayer(4, 4, backend="fast"), ["backend", "'auto'", "'reference'", "'fast'"]),
        (lambda: FasterKAN([4]), ["sizes", "[4]"]),
        (lambda: switch_linear(torch.ones(2, 3), torch.ones(4, 10), torch.ones(8)), ["10 columns", "need 24"]),
        (lambda: switch_linear(torch.ones(2, 3), torch.ones(4, 24), torch.ones(8), backend="x"), ["backend", "'x'"]),
    ],
)
def test_bad_arguments_name_the_value_and_the_limit(build, words):
    with pytest.raises(ValueError, match=r"\w") as caught:
        build()
    assert all(word in str(caught.value) for word in words), str(caught.value)


_CAPTURE = """
import warnings; warnings.simplefilter("ignore")
import torch, torch.fx
from zoo.layers.kan import KANBlock
torch.manual_seed(0)
model = KANBlock(8, base_branch=True).eval()
x = torch.randn(5, 3, 8)
expected = model(x)
torch.testing.assert_close(torch.jit.script(model)(x), expected)
torch.testing.assert_close(torch.fx.symbolic_trace(model)(x), expected)
torch.testing.assert_close(torch.compile(model, fullgraph=True, backend="aot_eager")(x), expected)
batch = torch.export.Dim("batch")
program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},)).module()
torch.testing.assert_close(program(torch.cat([x, x])), torch.cat([expected, expected]))
"""


def test_script_trace_compile_and_export():
    """In a process of its own: TorchScript and torch.fx read the functions, not the run-time checks around them."""
    subprocess.run([sys.executable, "-c", _CAPTURE], check=True, capture_output=True, text=True, timeout=300)
