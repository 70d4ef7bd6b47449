"""The tiles against composed operations: values, gradients, far out, and what is kept for the way back."""

import copy
import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from zoo.layers.kan import KAN, Basis, KANLinear, tiles

PRESETS = ("efficient", "fast", "faster", "chebyshev")
every_preset = pytest.mark.parametrize("preset", PRESETS)


@pytest.fixture
def small_tiles(monkeypatch):
    """Tiles of a few rows and inputs, so that small inputs cross their borders."""
    for name, value in (("_TILE", 1), ("_SLOPES", 1), ("_LEAST_ROWS", 3), ("_INPUTS", 2)):
        monkeypatch.setattr(tiles, name, value)


@pytest.fixture
def no_tiles(monkeypatch):
    """Whoever makes a tile fails."""

    def refuse(*_):
        raise AssertionError("a tile was made")

    for name in ("multiply", "pull_back"):
        monkeypatch.setattr(f"zoo.layers.kan.functional.{name}", refuse)


def _layer(preset: str, *sizes: int, **options) -> KANLinear:
    torch.manual_seed(0)
    layer = getattr(KANLinear, preset)(*sizes, **options)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return layer


def _both(layer: KANLinear, x: Tensor) -> list[list[Tensor]]:
    """Output and gradients by tiles and by composed operations."""
    found = []
    cotangent = torch.randn(*x.shape[:-1], layer.out_features, generator=torch.Generator().manual_seed(1)).to(x.dtype)
    for backend in ("auto", "reference"):
        layer.backend = backend
        y = layer(x)
        found.append([y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], cotangent)])
    return found


def _assert_near(found: list[Tensor], expected: list[Tensor], limit: float = 1e-5) -> None:
    """Within `limit` of the largest value."""
    for a, b in zip(found, expected, strict=True):
        scale = float(b.abs().max()) if b.numel() else 0.0
        torch.testing.assert_close(a, b, atol=limit * (scale or 1.0), rtol=0)


def _inputs(layer: KANLinear, rows: int = 40) -> Tensor:
    x = 2.6 * torch.rand(rows, layer.in_features, generator=torch.Generator().manual_seed(2)) - 1.3
    return x.to(layer.weight.dtype).requires_grad_()


def _uneven(layer: KANLinear, rows: int) -> KANLinear:
    """Knots at random distances, for all inputs or for each its own."""
    basis = layer.basis
    steps = 0.3 + torch.rand(rows, basis.knots.shape[1] - 1, generator=torch.Generator().manual_seed(3))
    start, end = basis.knots[:, :1], basis.knots[:, -1:]
    basis.set_knots(
        torch.cat([start.expand(rows, 1), start + (end - start) * (steps / steps.sum(1, True)).cumsum(1)], 1)
    )
    assert not basis.is_uniform()
    return layer


@pytest.mark.parametrize("out", [7, 200])
@pytest.mark.parametrize("grid_size", [1, 5, 40, 200])
@pytest.mark.parametrize("order", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("knots", ["even", "uneven", "own"])
def test_splines_of_any_order_grid_and_knots(order, grid_size, knots, out):
    layer = _layer("efficient", 6, out, grid_size=grid_size, spline_order=order)
    if knots != "even":
        _uneven(layer, 1 if knots == "uneven" else 6)
    fast, reference = _both(layer, _inputs(layer))
    # A slope is grid_size / 2 times as large as a value, and x is known to 6e-8.
    _assert_near(fast, reference, 1e-5 * max(1, grid_size / 40))
    exact = _both(layer.double(), _inputs(layer))[1]
    _assert_near([t.double() for t in fast], exact, 1e-5 * max(1, grid_size / 40))


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@pytest.mark.parametrize("grid_size", [5, 30])
@pytest.mark.parametrize("own", [False, True])
def test_on_knots_outside_and_far_away(order, grid_size, own):
    layer = _layer("efficient", 2, 4, grid_size=grid_size, spline_order=order, dtype=torch.float64)
    if own:
        _uneven(layer, 2)
    x = torch.cat([layer.basis.knots.expand(2, -1).t(), layer.basis.knots.new_tensor([[-1e6, 1e6], [1e30, -1e30]])])
    _assert_near(*_both(layer, x.clone().requires_grad_()), 1e-9)


@every_preset
def test_every_basis_with_all_of_its_parts(preset, small_tiles):
    for options in ({}, {"edge_scale": True, "bias": True}, {"norm": None}, {"base_activation": "gelu"}):
        layer = _layer(preset, 5, 4, dtype=torch.float64, **options)
        _assert_near(*_both(layer, _inputs(layer, 11)), 1e-10)


@pytest.mark.parametrize("preset", [*PRESETS, "fine", "uneven"])
@pytest.mark.parametrize("rows", [0, 1, 2])
def test_few_rows_and_none(preset, rows):
    layer = _layer(
        preset if preset in PRESETS else "efficient", 5, 4, **({"grid_size": 40} if preset == "fine" else {})
    )
    if preset == "uneven":
        _uneven(layer, 5)
    _assert_near(*_both(layer, _inputs(layer, rows)))


@every_preset
@pytest.mark.parametrize(
    "norm", [nn.RMSNorm(6), nn.LayerNorm(6, elementwise_affine=False), nn.LayerNorm(6, bias=False)]
)
def test_other_norms(preset, norm):
    layer = _layer(preset, 6, 4, norm=copy.deepcopy(norm))
    _assert_near(*_both(layer, _inputs(layer)))


@every_preset
def test_masked_edges(preset):
    layer = _layer(preset, 5, 4)
    layer.mask_edges(torch.rand(4, 5, generator=torch.Generator().manual_seed(0)) < 0.5)
    _assert_near(*_both(layer, _inputs(layer)))


@every_preset
def test_inputs_that_lie_apart(preset):
    layer = _layer(preset, 6, 5)
    x = torch.randn(2, 6, 3, 4).permute(0, 2, 3, 1).requires_grad_()
    _assert_near(*_both(layer, x))


@pytest.mark.parametrize("preset", [*PRESETS, "fine", "uneven"])
@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_no_number_is_as_in_the_composed_path(preset, value):
    options = {"norm": None} if preset in {"fast", "faster"} else {"grid_size": 40} if preset == "fine" else {}
    layer = _layer(preset if preset in PRESETS else "efficient", 6, 5, base_activation=None, **options)
    if preset == "uneven":
        _uneven(layer, 6)
    x = _inputs(layer, 4).detach()
    x[2, 1] = value
    with torch.no_grad():
        fast = layer(x)
        layer.backend = "reference"
        torch.testing.assert_close(fast, layer(x), equal_nan=True)
    assert bool(fast[2].isnan().all()) == math.isnan(value)


def _gradient_checks(layer: KANLinear) -> None:
    names, values = zip(*layer.named_parameters(), strict=True)
    x = _inputs(layer, 4)

    def call(x: Tensor, *values: Tensor) -> Tensor:
        for name, value in zip(names, values, strict=True):
            owner, _, leaf = name.rpartition(".")
            module = layer.get_submodule(owner)
            module._parameters[leaf] = value  # type: ignore[assignment]
        return layer(x)

    assert torch.autograd.gradcheck(call, (x, *values))
    assert torch.autograd.gradgradcheck(call, (x, *values))


@every_preset
def test_gradients_of_both_orders(preset, small_tiles):
    _gradient_checks(_layer(preset, 3, 2, dtype=torch.float64))


@pytest.mark.parametrize(("order", "grid_size", "own"), [(2, 4, False), (3, 20, False), (4, 5, False), (3, 4, True)])
def test_gradients_of_both_orders_of_splines(order, grid_size, own, small_tiles):
    layer = _layer("efficient", 3, 2, spline_order=order, grid_size=grid_size, dtype=torch.float64)
    _gradient_checks(_uneven(layer, 3) if own else layer)


@every_preset
def test_gradients_only_where_asked(preset):
    layer = _layer(preset, 5, 4)
    x = _inputs(layer)
    full = _both(layer, x)[0][1:]
    layer.backend = "auto"
    cotangent = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))
    for i, wanted in enumerate([x, *layer.parameters()]):
        for t in (x, *layer.parameters()):
            t.requires_grad_(t is wanted)
        torch.testing.assert_close(torch.autograd.grad(layer(x), wanted, cotangent)[0], full[i])


@every_preset
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_as_good_as_its_rounding(preset, dtype):
    layer = _layer(preset, 96, 64)
    x = torch.randn(40, 96)
    half = copy.deepcopy(layer).to(dtype)
    fast, reference = _both(half, x.to(dtype).requires_grad_())
    assert {t.dtype for t in fast} == {dtype}
    exact = _both(half.float(), x.to(dtype).float().requires_grad_())[1]
    for a, b, c in zip(fast, reference, exact, strict=True):
        errors = [float((t.float() - c).norm() / c.norm().clamp_min(1e-9)) for t in (a, b)]
        assert errors[0] < 1.5 * errors[1] + (1e-2 if dtype == torch.bfloat16 else 2e-3)


@every_preset
def test_autocast_multiplies_in_its_type_and_keeps_float32_gradients(preset):
    layer = _layer(preset, 64, 32)
    x = torch.randn(20, 64, requires_grad=True)
    exact = _both(layer, x)[1]
    with torch.autocast("cpu", torch.bfloat16):
        fast, reference = _both(layer, x)
    assert fast[0].dtype == reference[0].dtype == torch.bfloat16
    assert {t.dtype for t in fast[1:]} == {torch.float32}
    for a, b in zip(fast, exact, strict=True):
        assert float((a.float() - b).norm()) < 0.02 * float(b.norm())


@every_preset
@pytest.mark.parametrize("sizes", [(64, 128), (64, 200)])
def test_keeps_at_most_eight_bytes_a_number_of_the_input(preset, sizes):
    layer = _layer(preset, *sizes)
    x = torch.randn(300, 64, requires_grad=True)
    own = {t.untyped_storage().data_ptr() for t in (*layer.parameters(), *layer.buffers())}
    kept: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        layer(x)
    assert sum(kept.values()) <= 8 * x.numel()
    assert sum(kept.values()) == x.numel() * (4 if layer.base_activation is None else 8)


def test_checkpointing_and_a_second_use_of_the_same_graph():
    layer = _layer("efficient", 6, 5)
    x = _inputs(layer)
    y = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
    (found,) = torch.autograd.grad(y.sum(), x)
    y = layer(x).sum()
    for _ in range(2):
        torch.testing.assert_close(torch.autograd.grad(y, x, retain_graph=True)[0], found)


class Learned(Basis):
    """A Gaussian with a width that learns."""

    num_bases = 1

    def __init__(self) -> None:
        super().__init__()
        self.width = nn.Parameter(torch.ones(()))

    def forward(self, x):
        return torch.exp(-(x / self.width).square()).unsqueeze(-1)


def test_a_basis_that_learns_is_composed(no_tiles):
    layer = KANLinear(3, 2, basis=Learned())
    layer(torch.randn(4, 3)).sum().backward()
    assert layer.basis.width.grad.abs() > 0
    layer = KANLinear(3, 2)
    layer.basis.knots.requires_grad_()
    layer(torch.randn(4, 3)).sum().backward()
    assert layer.basis.knots.grad.abs().max() > 0


def test_the_reference_makes_no_tiles(no_tiles):
    x = torch.randn(4, 3)
    assert KANLinear(3, 2, backend="reference")(x).shape == (4, 2)
    with pytest.raises(AssertionError, match="a tile was made"):
        KANLinear(3, 2)(x)


def test_knots_that_move_are_noticed():
    layer = _layer("efficient", 3, 2)
    x = _inputs(layer)
    before = layer(x).detach()
    layer.basis.set_knots(layer.basis.knots * 1.5)
    fast, reference = _both(layer, x)
    _assert_near(fast, reference)
    assert float((fast[0] - before).abs().max()) > 0.01


def test_training_by_tiles_is_training_by_the_formula():
    models = []
    for backend in ("auto", "reference"):
        torch.manual_seed(0)
        model = KAN([4, 8, 2], backend=backend)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        x = 2 * torch.rand(64, 4) - 1
        y = torch.stack([torch.sin(3 * x[:, 0]) * x[:, 1], x[:, 2:].square().sum(1)], 1)
        for _ in range(40):
            optimizer.zero_grad()
            F.mse_loss(model(x), y).backward()
            optimizer.step()
        models.append(model(x).detach())
    torch.testing.assert_close(*models, atol=1e-3, rtol=1e-3)
