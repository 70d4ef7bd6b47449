"""Convolutional KAN layers: the official values, both paths alike, derivatives, and what goes wrong elsewhere."""

import gc
import weakref

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.func import functional_call

from tests.layers.kan.goldens import golden
from zoo.layers.kan.conv import BottleneckGramConv2d, GramConv2d, KANConv2d, functional, gram_conv2d, gram_polynomials
from zoo.layers.kan.conv.bottleneck import bottleneck_width
from zoo.layers.kan.conv.expanded import InstanceNorm2d
from zoo.weights.converters.kan import convert_official

CASES = {
    "conv2d_rbf": lambda **o: KANConv2d.fast(4, 6, padding=1, stride=2, groups=2, grid_size=5, **o),
    "conv2d_bspline": lambda **o: KANConv2d.efficient(3, 4, padding=1, grid_size=4, **o),
    "conv2d_gram": lambda **o: GramConv2d(3, 6, padding=1, degree=4, **o),
    "conv2d_gram_bottleneck": lambda **o: BottleneckGramConv2d(
        8, 20, padding=1, stride=2, degree=3, reduction=2, norm="batch", **o
    ).eval(),
}
KINDS = {
    "gaussian": lambda **o: KANConv2d.fast(4, 6, **{"padding": 1, "grid_size": 4, **o}),
    "bspline": lambda **o: KANConv2d.efficient(4, 6, **{"padding": 1, "grid_size": 3, **o}),
    "gram": lambda **o: GramConv2d(4, 6, **{"padding": 1, **o}),
    "bottleneck": lambda **o: BottleneckGramConv2d(4, 6, **{"padding": 1, "width": 4, **o}),
}
SHAPES = {
    "plain": {},
    "groups": {"groups": 2},
    "strides": {"stride": (2, 1), "padding": (0, 2), "dilation": (1, 2)},
}


def drawn(kind, **options):
    """A layer whose beta is large enough to matter."""
    torch.manual_seed(0)
    layer = KINDS[kind](**options)
    if hasattr(layer, "beta"):
        nn.init.normal_(layer.beta, std=0.05)
    return layer


@pytest.mark.parametrize("backend", ["auto", "reference"])
@pytest.mark.parametrize("name", CASES)
def test_official_values_and_gradients(name, backend, monkeypatch):
    monkeypatch.setattr(functional, "_FEW_PIXELS", 0)  # the cases have few
    case = golden(name)
    layer = CASES[name](backend=backend)
    state = case.part("state")
    layer.load_state_dict(convert_official(state)[0])
    x = case.tensors["in.x"].clone().requires_grad_()
    y = layer(x)
    case.check(y, case.tensors["out.y"])
    y.backward(case.tensors["in.cotangent"])
    theirs = case.part("grad")
    torch.testing.assert_close(x.grad, theirs.pop("input"), atol=1e-4, rtol=1e-4)
    # A gradient goes the way of its weight; those of the golden file are some of them, one group's at least.
    expected = convert_official({**{k: torch.zeros_like(v) for k, v in state.items()}, **theirs})[0]
    given = convert_official({k: torch.full_like(v, float(k in theirs)) for k, v in state.items()})[0]
    checked = 0
    for key, parameter in layer.named_parameters():
        rows = given[key].flatten(1).bool().all(1) if given[key].ndim > 1 else given[key].bool()
        checked += int(rows.sum())
        torch.testing.assert_close(parameter.grad[rows], expected[key][rows], atol=1e-4, rtol=1e-4)
    assert checked > 0


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("kind", KINDS)
def test_both_paths_give_the_same(kind, shape):
    layers = [drawn(kind, **SHAPES[shape], backend=backend) for backend in ("auto", "reference")]
    results = []
    for layer in layers:
        x = torch.linspace(-3, 3, 2 * 4 * 14 * 12).view(2, 4, 14, 12).cos().mul(2).requires_grad_()
        y = layer(x)
        y.square().sum().backward()
        results.append({"y": y.detach(), "x": x.grad, **{n: p.grad for n, p in layer.named_parameters()}})
    for key, wanted in results[1].items():
        scale = float(wanted.abs().max())
        torch.testing.assert_close(results[0][key], wanted, atol=2e-5 * scale, rtol=0, msg=lambda m, k=key: f"{k}: {m}")


@pytest.mark.parametrize("kind", KINDS)
def test_first_and_second_derivatives(kind, monkeypatch):
    layer = drawn(kind, groups=2, kernel_size=(2, 1)).double()
    names = [name for name, _ in layer.named_parameters()]
    x = torch.randn(1, 4, 3, 2, dtype=torch.float64, requires_grad=True)
    monkeypatch.setattr(functional, "_FEW_PIXELS", 0)

    def call(x, *parameters):
        return functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    assert torch.autograd.gradcheck(call, (x, *layer.parameters()))
    assert torch.autograd.gradgradcheck(call, (x, *layer.parameters()), fast_mode=True)


def test_the_polynomials_follow_their_recursion():
    t, beta = torch.tensor([-0.5, 0.0, 0.3]), torch.tensor([9.0, 0.2, 0.1, 9.0])
    found = gram_polynomials(t, beta)
    second = t * t - 3 * 1 * 3 / 4 * 0.2
    third = t * second - 5 * 4 * 15 / 9 * 0.1 * t
    for polynomial, wanted in zip(found, [torch.ones(3), t, second, third], strict=True):
        torch.testing.assert_close(polynomial, wanted)


def test_padding_pads_the_functions_with_zero():
    x, beta = torch.zeros(1, 1, 1, 1), torch.zeros(3)
    weight = torch.ones(1, 3, 3, 3)
    # At 0 the polynomials are 1, 0 and 0: only the pixel itself counts, not the eight around it.
    torch.testing.assert_close(gram_conv2d(x, weight, beta, padding=1), F.silu(torch.ones(1, 1, 1, 1)))


def test_widths_of_bottlenecks():
    assert [bottleneck_width(*sizes) for sizes in ((8, 20, 2), (3, 32, 8), (64, 128, 8), (256, 512, 8))] == [
        8,
        3,
        16,
        64,
    ]


@pytest.mark.parametrize("kind", ["gram", "bottleneck"])
@pytest.mark.parametrize("affine", [True, False])
def test_a_folded_batch_norm_changes_nothing(kind, affine):
    layer = drawn(kind, norm="batch", affine=affine)
    layer.norm.running_mean.uniform_(-1, 1)
    layer.norm.running_var.uniform_(0.5, 2)
    if affine:
        nn.init.uniform_(layer.norm.weight, -1, 1)
        nn.init.uniform_(layer.norm.bias)
    x = torch.randn(2, 4, 5, 5)
    expected = layer.eval()(x).detach()
    assert layer.train().fuse() is layer
    assert layer.norm is None
    assert not layer.training
    torch.testing.assert_close(layer(x), expected, atol=1e-6, rtol=1e-5)
    instance = drawn(kind)
    assert torch.equal(instance(x), instance.fuse()(x))


@pytest.mark.parametrize("kind", KINDS)
def test_the_backward_pass_keeps_the_input_and_not_its_expansion(kind):
    layer = drawn(kind)
    x = torch.randn(2, 4, 32, 32, requires_grad=True)
    kept = {}

    def pack(tensor):
        kept[tensor.untyped_storage().data_ptr()] = tensor.numel()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = layer(x)
    largest = max(y.numel(), x.numel())
    assert max(kept.values(), default=0) <= largest  # four or more functions of x would be several times that


@pytest.mark.parametrize("kind", KINDS)
def test_no_graph_stays_alive(kind):
    layer = drawn(kind)
    x = torch.randn(1, 4, 5, 5, requires_grad=True)
    y = layer(x)
    nodes = weakref.ref(y)
    y.sum().backward()
    del y
    gc.collect()
    assert nodes() is None


def test_the_norm_has_the_gradient_of_any_memory_format():
    x, g = torch.randn(1, 4, 3, 2, requires_grad=True), torch.randn(1, 4, 3, 2)
    norm = InstanceNorm2d(4, affine=True)
    expected = nn.InstanceNorm2d(4)(x)
    torch.testing.assert_close(norm(x), expected)
    (wanted,) = torch.autograd.grad(expected, x, g)
    (found,) = torch.autograd.grad(norm(x), x, g.to(memory_format=torch.channels_last))
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_large_inputs_have_finite_gradients(kind):
    layer = drawn(kind)
    x = (1e4 * torch.randn(2, 4, 6, 6)).requires_grad_()
    y = layer(x)
    y.square().sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
    assert all(p.grad.isfinite().all() for p in layer.parameters())


@pytest.mark.parametrize("kind", KINDS)
def test_not_a_number_stays_one(kind):
    x = torch.randn(2, 4, 6, 6)
    x[0, 1, 3, 3] = torch.nan
    y = drawn(kind)(x)
    assert y[0].isnan().any()
    assert y[1].isfinite().all()


@pytest.mark.parametrize("kind", KINDS)
def test_no_images_and_half_precision(kind):
    layer = drawn(kind)
    assert layer(torch.zeros(0, 4, 5, 5)).shape == (0, 6, 5, 5)
    x = torch.randn(2, 4, 6, 6)
    with torch.no_grad():
        expected = layer(x)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            automatic = layer(x)
        half = layer.bfloat16()(x.bfloat16())
    assert half.dtype == torch.bfloat16
    for found in (automatic, half):
        assert float((found.float() - expected).abs().max() / expected.abs().max()) < 0.05


def test_dropout_is_of_the_squashed_input_and_noise_of_that_of_a_bottleneck():
    torch.manual_seed(0)
    layer = drawn("gram", dropout=0.5, norm=None)
    x = torch.randn(2, 4, 16, 16, requires_grad=True)
    assert not torch.equal(layer(x), layer(x))
    torch.manual_seed(1)
    kept = F.dropout(torch.ones_like(x), 0.5)
    torch.manual_seed(1)
    y = layer(x)
    weights = layer.basis_conv.weight, layer.beta, layer.base_conv.weight
    torch.testing.assert_close(y, F.silu(gram_conv2d(x, *weights, kept=kept, padding=1)))
    y.sum().backward()  # computed again with the same numbers
    found, x.grad = x.grad, None
    F.silu(gram_conv2d(x, *weights, kept=kept, padding=1, backend="reference")).sum().backward()
    torch.testing.assert_close(found, x.grad, atol=1e-5, rtol=1e-5)
    layer.eval()
    assert torch.equal(layer(x), layer(x))

    narrow = drawn("bottleneck", dropout=1.0)
    noisy = narrow._noisy(x) - x
    torch.testing.assert_close(noisy.std(), 0.05 * x.std(), rtol=0.2, atol=0)
    assert torch.equal(narrow.eval()._noisy(x), x)


@pytest.mark.parametrize("kind", KINDS)
def test_to_empty_then_reset(kind):
    layer = drawn(kind, device="meta")
    layer.to_empty(device="cpu")
    for tensor in (*layer.parameters(), *layer.buffers()):
        tensor.data.fill_(torch.nan)
    layer.reset_parameters()
    assert all(t.isfinite().all() for t in (*layer.parameters(), *layer.buffers()))
    y = layer(torch.randn(2, 4, 8, 8))
    assert 0.05 < float(y.detach().std()) < 5


def test_another_basis_and_knots_of_channels():
    polynomials = KANConv2d(3, 4, basis="chebyshev", grid_size=3, grid_range=(-1.0, 1.0), norm=None)
    assert polynomials.basis_conv.weight.shape == (4, 12, 3, 3)
    assert KANConv2d(3, 4, basis="chebyshev").basis.degree == 8
    assert KANConv2d(3, 4, basis="bspline").basis.grid_range == KANConv2d(3, 4).basis.grid_range == (-2.0, 2.0)
    layer = KANConv2d.efficient(2, 3, 1, grid_size=3, out_norm=None, activation=None)
    x = torch.rand(1, 2, 3, 3) * 2 - 1
    expected = layer(x)
    layer.basis.set_knots(torch.cat([layer.basis.knots, layer.basis.knots + 10]))  # channel 1 lies outside
    alone = layer(torch.cat([x[:, :1], x[:, 1:]], 1)) - F.conv2d(F.gelu(x), layer.base_conv.weight)
    first = layer.basis_conv.weight.unflatten(1, (-1, 2))[:, :, 0]
    bases = layer.basis(x.movedim(1, -1))[..., 0, :]
    torch.testing.assert_close(alone, torch.einsum("ok,bhwk->bohw", first[..., 0, 0], bases))
    assert not torch.allclose(layer(x), expected)


def test_parameters_of_the_basis_and_of_the_base_learn():
    layer = KANConv2d.fast(4, 6, grid_size=4, base_activation=nn.PReLU())
    layer.basis.centers = nn.Parameter(layer.basis._buffers.pop("centers"))
    layer(torch.randn(2, 4, 16, 16)).square().sum().backward()
    assert layer.basis.centers.grad.any()
    assert layer.base_activation.weight.grad.any()


def test_polynomials_of_degree_one_have_no_use_for_beta():
    layer = drawn("gram", degree=1)
    layer(torch.randn(2, 4, 16, 16)).square().sum().backward()
    assert layer.basis_conv.weight.grad.any()
    assert layer.beta.grad is None
