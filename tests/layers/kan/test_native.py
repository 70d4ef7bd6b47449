"""The compiled functions against the recursion, on tensors of their own."""

from __future__ import annotations

import math
import shutil

import pytest
import torch

from zoo.layers.kan import KANLinear
from zoo.layers.kan.basis.splines import cox_de_boor, cox_de_boor_derivative
from zoo.layers.kan.native import fill, gather, pack, unpack, weighted_sum

pytestmark = pytest.mark.skipif(not any(map(shutil.which, ("cc", "gcc", "clang"))), reason="there is no C compiler")


def _case(order, grid, dtype, own=False):
    generator = torch.Generator().manual_seed(grid + order)
    rows = 5 if own else 1
    start = torch.arange(rows).double().unsqueeze(1) * 0.3 - 1
    spacing = 2 / grid * (1 + torch.arange(rows).double().unsqueeze(1) / 7)
    knots = (start + spacing * torch.arange(-order, grid + order + 1)).to(dtype)
    outside = torch.tensor([1e6, -1e6, math.inf, -math.inf, 1e30])
    x = torch.cat([torch.rand(4000, generator=generator) * 8 - 3, knots[0].float(), outside]).to(dtype)
    return x[: len(x) // 5 * 5].view(-1, 5).contiguous(), knots


def _tile(x, knots, order):
    return torch.full((len(x), knots.shape[1] - 1 - order, x.shape[1]), 7.0, dtype=x.dtype)


CASES = [(order, grid) for order in (1, 2, 3, 4, 5, 9) for grid in (1, 2, 5, 37, 200)]


@pytest.mark.parametrize(("order", "grid"), CASES)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_tiles_are_the_bases(order, grid, own, dtype):
    x, knots = _case(order, grid, dtype, own)
    tile = _tile(x, knots, order)
    fill(x, knots, order, tile)
    wanted = cox_de_boor(x.double(), knots.double(), order)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    torch.testing.assert_close(tile.transpose(1, 2).double(), wanted, rtol=0, atol=tolerance)


@pytest.mark.parametrize(("order", "grid"), CASES)
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_gradients_are_those_of_the_bases(order, grid, own, dtype):
    x, knots = _case(order, grid, dtype, own)
    grad = torch.randn(*x.shape, grid + order, generator=torch.Generator().manual_seed(0)).to(dtype)
    found = torch.empty_like(x)
    gather(x, knots, order, grad.transpose(1, 2).contiguous(), found)
    wanted = (cox_de_boor_derivative(x.double(), knots.double(), order) * grad.double()).sum(-1)
    spacing = (knots[:, -1] - knots[:, 0]).double() / (knots.shape[1] - 1)
    tolerance = 1e-4 if dtype == torch.float32 else 1e-11
    torch.testing.assert_close(found * spacing, wanted * spacing, rtol=0, atol=tolerance, check_dtype=False)


@pytest.mark.parametrize(("order", "grid"), CASES)
def test_sums_are_products_with_the_bases(order, grid):
    x, knots = _case(order, grid, torch.float64, own=True)
    weight = torch.randn(5, grid + order, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    out = torch.ones(len(x), 3, dtype=torch.float64)
    weighted_sum(x, knots, order, weight, out)
    wanted = 1 + torch.einsum("rik,iko->ro", cox_de_boor(x, knots, order), weight)
    torch.testing.assert_close(out, wanted, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("order", [1, 3, 4])
def test_nan_stays_nan_and_touches_nothing_else(order):
    x = torch.tensor([[0.1, math.nan, 0.2], [0.3, 0.4, 0.5]])
    knots = torch.linspace(-2, 2, 12).unsqueeze(0)
    tile = _tile(x, knots, order)
    fill(x, knots, order, tile)
    assert tile.isnan().any(1).tolist() == tile.isnan().all(1).tolist() == [[False, True, False], [False, False, False]]
    grad_x = torch.empty_like(x)
    gather(x, knots, order, torch.ones_like(tile), grad_x)
    assert grad_x.isnan().tolist() == [[False, True, False], [False, False, False]]
    out = torch.zeros(2, 4)
    weighted_sum(x, knots, order, torch.ones(3, 11 - order, 4), out)
    assert out.isnan().any(-1).tolist() == [True, False]


def test_strips_end_anywhere():
    """Rows of more than one strip, the last of one input, whose functions are the last of the tile."""
    knots = torch.linspace(-2, 2, 12).unsqueeze(0)
    x = torch.rand(3, 129, generator=torch.Generator().manual_seed(0)) * 3 - 1.5
    x[-1, -1] = 1.9
    tile = _tile(x, knots, 3)
    fill(x, knots, 3, tile)
    torch.testing.assert_close(tile.transpose(1, 2), cox_de_boor(x, knots, 3), rtol=0, atol=1e-6)
    fill(x[:0], knots, 3, tile[:0])
    part = _tile(x[:, 5:80], knots, 3)
    fill(x[:, 5:80], knots, 3, part)  # some columns of a matrix
    torch.testing.assert_close(part, tile[..., 5:80])
    grad, whole = torch.full_like(x, 7.0), torch.empty_like(x)
    gather(x, knots, 3, torch.ones_like(tile), whole)
    gather(x[:, 5:80], knots, 3, torch.ones_like(part), grad[:, 5:80])
    torch.testing.assert_close(grad[:, 5:80], whole[:, 5:80])
    assert (grad[:, :5] == 7).all()
    assert (grad[:, 80:] == 7).all()


def test_memory_is_not_touched_for_tensors_that_do_not_fit():
    x, knots = torch.zeros(2, 3), torch.linspace(-2, 2, 12).unsqueeze(0)
    with pytest.raises(ValueError, match=r"shape \(2, 7, 3\) does not fit"):
        fill(x, knots, 3, torch.empty(2, 7, 3))
    with pytest.raises(ValueError, match="does not fit"):
        fill(x, knots.expand(2, -1).contiguous(), 3, torch.empty(2, 8, 3))
    with pytest.raises(ValueError, match="CPU tensors of one type"):
        fill(x, knots.double(), 3, torch.empty(2, 8, 3))
    with pytest.raises(ValueError, match="strides"):
        fill(torch.zeros(3, 2).t(), knots, 3, torch.empty(2, 8, 3))
    with pytest.raises(ValueError, match="strides"):
        weighted_sum(x, knots, 3, torch.empty(3, 8, 3), torch.empty(3, 2).t())
    with pytest.raises(ValueError, match="does not fit"):
        gather(x, knots, 3, torch.empty(2, 8, 3), torch.empty(2, 2))
    with pytest.raises(ValueError, match="does not fit"):
        weighted_sum(x, knots, 3, torch.empty(3, 7, 4), torch.empty(2, 4))


class TestBuild:
    def _library(self, monkeypatch, tmp_path, **environment):
        from zoo.layers.kan.native import build

        build.library.cache_clear()
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return build.library

    @pytest.fixture(autouse=True)
    def _forget(self):
        from zoo.layers.kan.native import build

        yield
        build.library.cache_clear()

    def test_it_is_compiled_once_and_kept(self, monkeypatch, tmp_path):
        library = self._library(monkeypatch, tmp_path)
        library()
        (kept,) = (tmp_path / "zoo" / "kernels").iterdir()
        before = kept.stat().st_mtime_ns
        library.cache_clear()
        library()
        assert [path.stat().st_mtime_ns for path in (tmp_path / "zoo" / "kernels").iterdir()] == [before]

    def test_no_compiler(self, monkeypatch, tmp_path):
        library = self._library(monkeypatch, tmp_path, CC="no-such-compiler")
        with pytest.raises(RuntimeError, match=r"there is no no-such-compiler; backend='auto' needs none"):
            library()

    def test_a_compiler_that_fails_leaves_nothing(self, monkeypatch, tmp_path):
        library = self._library(monkeypatch, tmp_path, CC="false")
        with pytest.raises(RuntimeError, match=r"could not compile bspline\.c"):
            library()
        assert not list((tmp_path / "zoo" / "kernels").iterdir())

    def test_a_cache_that_cannot_be_written(self, monkeypatch, tmp_path):
        (tmp_path / "zoo").write_text("a file where the folder should be")
        library = self._library(monkeypatch, tmp_path)
        assert library().bspline_fill_float


CONDITIONS = [
    {},
    {"edge_scale": False, "base_activation": None},
    {"norm": "layer", "bias": True},
    {"spline_order": 1},
    {"spline_order": 5, "grid_size": 12},
    {"grid_size": 100},
]


def _pair(in_features, out_features, **options):
    layers = []
    for backend in ("compiled", "reference"):
        torch.manual_seed(0)
        layers.append(KANLinear(in_features, out_features, backend=backend, **options))
    return layers


@pytest.mark.parametrize("options", CONDITIONS)
@pytest.mark.parametrize("widths", [(7, 5), (70, 150)])
def test_a_compiled_layer_is_the_reference(options, widths):
    compiled, reference = _pair(*widths, **options)
    x = torch.randn(3, 11, widths[0], generator=torch.Generator().manual_seed(1))
    x[0, 0, :3] = torch.tensor([1e6, -1e6, 0.2])
    results = []
    for layer in (compiled, reference):
        given = x.clone().requires_grad_()
        y = layer(given)
        y.square().sum().backward()
        with torch.no_grad():
            results.append([y.detach(), layer(x), given.grad, *(p.grad for p in layer.parameters())])
    for ours, wanted in zip(*results, strict=True):
        scale = wanted.abs().max().clamp_min(1e-3)
        torch.testing.assert_close(ours / scale, wanted / scale, rtol=0, atol=2e-5)


@pytest.mark.parametrize("grid_size", [5, 100])
@pytest.mark.parametrize("lay", [lambda x: x.t().contiguous().t(), lambda x: x.repeat_interleave(2, 1)[:, ::2]])
def test_inputs_that_lie_apart(grid_size, lay):
    compiled, reference = _pair(6, 5, grid_size=grid_size)
    x = torch.randn(30, 6, generator=torch.Generator().manual_seed(1))
    results = []
    for layer in (compiled, reference):
        given = lay(x).requires_grad_()
        y = layer(given)
        (grad,) = torch.autograd.grad(y.square().sum(), given)
        results.append((y, grad))
    for ours, wanted in zip(*results, strict=True):
        torch.testing.assert_close(ours, wanted, rtol=1e-4, atol=1e-4)


def test_knots_that_are_not_even_take_the_usual_way():
    compiled, reference = _pair(4, 3)
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(1))
    for layer in (compiled, reference):
        layer.update_grid(x)
    assert not compiled.basis.is_uniform()
    torch.testing.assert_close(compiled(x), reference(x), rtol=1e-4, atol=1e-5)


def test_own_even_knots():
    compiled, reference = _pair(4, 3, dtype=torch.float64)
    x = torch.randn(200, 4, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for layer in (compiled, reference):
        layer.update_grid(x, grid_eps=1.0)
    assert compiled.basis.knots.shape[0] == 4
    assert compiled.basis.is_uniform()
    torch.testing.assert_close(compiled(x), reference(x), rtol=1e-10, atol=1e-10)


def test_derivatives_of_the_compiled_layer():
    layer, _ = _pair(3, 2, dtype=torch.float64)
    x = torch.rand(5, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1)) * 3 - 1.5
    x.requires_grad_()
    assert torch.autograd.gradcheck(layer, x)
    assert torch.autograd.gradgradcheck(layer, x)


def test_other_bases_have_no_compiled_backend():
    with pytest.raises(ValueError, match=r"'compiled' is for B-splines, the basis is a GaussianBasis: use 'auto'"):
        KANLinear.fast(4, 3, backend="compiled")
    with pytest.raises(ValueError, match="did you mean 'compiled'"):
        KANLinear(4, 3, backend="compile")


@pytest.mark.parametrize("scaled", [False, True])
def test_packing_and_its_way_back(scaled):
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(5, 9, 7, generator=generator, dtype=torch.float64)[:, 2:8]
    scale = torch.randn(5, 9, generator=generator, dtype=torch.float64)[:, 2:8] if scaled else None
    factor = torch.ones(5, 6).double() if scale is None else scale
    wanted = (weight * factor.unsqueeze(-1)).transpose(1, 2)
    torch.testing.assert_close(pack(weight, scale), wanted.contiguous())
    total = torch.randn(5, 7, 6, generator=generator, dtype=torch.float64)
    whole = torch.full((5, 9, 7), 3.0, dtype=torch.float64)
    grad_scale = torch.empty_like(factor)
    unpack(total, weight, scale, whole[:, 2:8], grad_scale)
    torch.testing.assert_close(whole[:, 2:8], total.transpose(1, 2) * factor.unsqueeze(-1))
    assert (whole[:, [0, 1, 8]] == 3).all()
    torch.testing.assert_close(grad_scale, (total.transpose(1, 2) * weight).sum(-1))
    unpack(total, weight, scale, None, None)
    with pytest.raises(ValueError, match="does not fit"):
        unpack(total[:, :, :5].contiguous(), weight, scale, whole[:, 2:8], grad_scale)
