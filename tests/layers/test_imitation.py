"""Layers that start as a copy of what they replace: how near they come, what they leave alone, when they refuse."""

import copy

import pytest
import timm
import torch
import torch.nn.functional as F
from timm.layers import Attention, Mlp
from timm.layers.attention import AttentionRope
from timm.models.eva import EvaAttention
from timm.models.swin_transformer import WindowAttention
from torch import nn

from zoo.layers.kan import KAN, FasterKAN, FasterKANLayer, KANBlock, KANLinear
from zoo.layers.kan.head import KANHead
from zoo.layers.neighborhood import DiNA, NeighborhoodAttention1d, NeighborhoodAttention2d, neighborhood_attention


def _rows(count, width, seed=0):
    return F.layer_norm(torch.randn(count, width, generator=torch.Generator().manual_seed(seed)), [width])


def _error(module, reference, rows):
    """Root mean square of the difference over that of the reference's centred output."""
    with torch.no_grad():
        got, wanted = module(rows).double(), reference(rows).double()
    return ((got - wanted).square().mean() / (wanted - wanted.mean(0)).square().mean()).sqrt().item()


def _linear(width=64, out=10, offset=0.0):
    torch.manual_seed(0)
    reference = nn.Linear(width, out)
    with torch.no_grad():
        reference.bias += offset
    return reference


def _trained_perceptron(width=64, hidden=256, seed=0):
    """Weights and rows as they are in trained networks: few directions count, features and tokens differ in scale,
    most hidden units rest below zero.
    """
    torch.manual_seed(seed)
    decay = torch.arange(1, width + 1) ** -0.5
    tokens = torch.randn(4096, width) * decay @ torch.randn(width, width) + 0.3 * torch.randn(width)
    rows = F.layer_norm(tokens, [width]) * torch.randn(width).mul(0.4).exp() + 0.2 * torch.randn(width)
    mlp = Mlp(width, hidden).eval()
    with torch.no_grad():
        directions = torch.randn(hidden, width) @ (decay[:, None] * torch.randn(width, width))
        directions *= torch.randn(hidden, 1).mul(0.3).exp()
        mlp.fc1.weight.copy_(directions * 1.2 / (rows @ directions.T).std())
        mlp.fc1.bias.copy_(0.5 * torch.randn(hidden) - 0.8)
        mlp.fc2.weight.copy_(torch.randn(width, hidden) * torch.randn(hidden).mul(0.5).exp() / hidden**0.5)
    return mlp, rows[:2048], rows[2048:]


def _head(*sizes, base_branch, **options):
    return KANHead(*sizes, basis="switch", base_activation="silu" if base_branch else None, **options)


LAYERS = {
    "faster": (lambda *sizes, **options: FasterKANLayer(*sizes, base_branch=False, **options), 0.08),
    "faster_base": (lambda *sizes, **options: FasterKANLayer(*sizes, base_branch=True, **options), 0.05),
    "head": (lambda *sizes, **options: _head(*sizes, base_branch=False, **options), 0.09),
    "head_base": (lambda *sizes, **options: _head(*sizes, base_branch=True, **options), 0.05),
    "bspline": (lambda *sizes, **options: KANLinear(*sizes, grid_range=(-3.0, 3.0), **options), 0.1),
    "bspline_norm": (lambda *sizes, **options: KANLinear(*sizes, norm="layer", bias=True, **options), 0.05),
    "gaussian": (lambda *sizes, **options: KANLinear.fast(*sizes, **options), 0.05),
    "gaussian_plain": (
        lambda *sizes, **options: KANLinear.fast(
            *sizes, base_activation=None, norm=None, grid_range=(-3.0, 3.0), **options
        ),
        0.1,
    ),
    "chebyshev": (lambda *sizes, **options: KANLinear.chebyshev(*sizes, bias=True, **options), 0.15),
}


@pytest.mark.parametrize("name", LAYERS)
def test_output_is_linear_in_the_solution(name):
    torch.manual_seed(0)
    layer = LAYERS[name][0](6, 4, dtype=torch.float64)
    for parameter in layer.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(9, 6, dtype=torch.float64)
    torch.testing.assert_close(layer.design(x) @ layer.solution(), layer(x))
    wanted = torch.randn(layer.solution().shape, dtype=torch.float64)
    layer.take(wanted)
    torch.testing.assert_close(layer.solution(), wanted)
    torch.testing.assert_close(layer(x), layer.design(x) @ wanted)
    assert layer.design(x).shape[1] == 6 * layer.num_bases + 6 * (layer.base_weight is not None) + (
        layer.bias is not None
    )


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("offset", [0.0, 5.0])
def test_layer_copies_a_linear_map(name, offset):
    reference = _linear(offset=offset)
    torch.manual_seed(1)
    make, limit = LAYERS[name]
    layer = make(64, 10)
    assert _error(layer, reference, _rows(500, 64, seed=1)) > 0.9
    assert layer.imitate(reference, _rows(2048, 64))
    # A constant without a bias is made of 64 curves that are not quite flat.
    assert _error(layer, reference, _rows(500, 64, seed=1)) < limit + 0.04 * (offset > 0 and layer.bias is None)


@pytest.mark.parametrize(("layer", "limit"), [(KANLinear, 0.4), (KANLinear.fast, 0.25), (KANLinear.chebyshev, 0.3)])
def test_networks_of_any_basis_copy_a_perceptron(layer, limit):
    mlp, rows, others = _trained_perceptron()
    torch.manual_seed(0)
    network = KAN([64, 256, 64], layer=layer)
    assert network.imitate(mlp, rows)
    assert _error(network, mlp, others) < limit


@pytest.mark.parametrize("rows", [16, 40, 300])
def test_few_rows_are_enough_for_a_linear_map(rows):
    layer = KANHead(64, 10)
    assert layer.imitate(_linear(), _rows(rows, 64))
    assert _error(layer, _linear(), _rows(500, 64, seed=1)) < {16: 0.3, 40: 0.15, 300: 0.1}[rows]


def test_layer_copies_sums_of_curves():
    torch.manual_seed(0)
    reference = FasterKANLayer(8, 5, dtype=torch.float64)
    with torch.no_grad():
        reference.layernorm.weight.fill_(0.5)
    layer = FasterKANLayer(8, 5, dtype=torch.float64)
    rows = _rows(2000, 8).double()
    assert layer.imitate(reference, rows)
    assert _error(layer, reference, _rows(500, 8, seed=1).double()) < 0.2
    linear = FasterKANLayer(8, 5, dtype=torch.float64)
    assert linear.imitate(nn.Linear(8, 5, dtype=torch.float64), rows)
    # ... of which a linear map has little
    least = torch.linalg.lstsq(torch.cat([rows, torch.ones(2000, 1).double()], 1), reference(rows)).solution
    assert _error(lambda x: torch.cat([x, torch.ones(len(x), 1)], 1) @ least, reference, rows) > 0.6


def test_features_of_any_scale_fill_the_grid():
    scales = torch.logspace(-2, 2, 16)

    class Scaled(nn.Linear):
        pass

    reference, layer = Scaled(16, 4, bias=False), FasterKANLayer(16, 4)
    rows = _rows(3000, 16) * scales
    assert layer.imitate(reference, rows[:2000])
    u = layer.normalised(rows[:2000])
    assert ((u.abs() < 2).float().mean(0) > 0.997).all()
    assert (u.std(0) > 0.3).all()


@pytest.mark.parametrize(
    ("hidden", "base_branch", "limit"), [(256, False, 0.22), (256, True, 0.18), (512, False, 0.2), (128, False, 0.3)]
)
def test_block_copies_a_perceptron(hidden, base_branch, limit):
    mlp, rows, others = _trained_perceptron()
    torch.manual_seed(0)
    block = KANBlock(64, hidden, base_branch=base_branch)
    assert _error(block, mlp, others) > 1
    assert block.imitate(mlp, rows)
    assert _error(block, mlp, others) < limit


def test_block_copies_a_fresh_perceptron():
    torch.manual_seed(0)
    mlp, block = Mlp(64, 256), KANBlock(64, 256)
    assert block.imitate(mlp, _rows(2048, 64))
    assert _error(block, mlp, _rows(500, 64, seed=1)) < 0.17


def test_block_copies_what_is_linear_in_any_other_reference():
    mlp, rows, others = _trained_perceptron()
    block, reference = KANBlock(64, 128), nn.Sequential(mlp)
    assert block.imitate(reference, rows)
    line = torch.linalg.lstsq(F.pad(rows, (0, 1), value=1.0), reference(rows)).solution.detach()
    best = _error(lambda x: F.pad(x, (0, 1), value=1.0) @ line, reference, others)
    assert _error(block, reference, others) < 1.05 * best < 1


@pytest.mark.parametrize(("sizes", "limit"), [([16, 8], 0.1), ([16, 48, 8], 0.2), ([16, 48, 40, 8], 0.3)])
def test_stacks_of_any_depth(sizes, limit):
    reference, stack = _linear(16, 8), FasterKAN(sizes)
    assert stack.imitate(reference, _rows(2000, 16))
    assert _error(stack, reference, _rows(500, 16, seed=1)) < limit


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float32, torch.float64])
def test_leaves_everything_but_values_as_it_was(dtype):
    mlp, rows, others = _trained_perceptron()
    mlp.drop1.p = 0.5
    mlp.train()
    mlp.fc1.eval()
    block = KANBlock(64, 256, drop=0.1, dtype=dtype)
    block.layers[0].layernorm.weight.requires_grad_(False)
    places = [(name, p.data_ptr(), p.dtype, p.requires_grad, p.device) for name, p in block.named_parameters()]
    state = torch.get_rng_state()
    assert block.imitate(mlp, rows.view(2, 32, 32, 64))
    torch.testing.assert_close(torch.get_rng_state(), state)
    assert places == [(name, p.data_ptr(), p.dtype, p.requires_grad, p.device) for name, p in block.named_parameters()]
    assert all(p.grad is None and p.grad_fn is None for p in (*block.parameters(), *mlp.parameters()))
    assert block.training
    assert block.layers[1].training
    assert mlp.drop1.training
    assert not mlp.fc1.training
    block.eval()
    error = _error(lambda x: block(x.to(dtype)), mlp.eval(), others)
    assert error < (0.24 if dtype == torch.bfloat16 else 0.22)


def test_same_every_time():
    mlp, rows, _ = _trained_perceptron()
    for reference in (mlp, nn.Sequential(mlp)):
        torch.manual_seed(0)
        one, other = KANBlock(64, 32), KANBlock(64, 32)
        other.load_state_dict(one.state_dict())
        assert one.imitate(reference, rows[:300])
        torch.manual_seed(7)
        assert other.imitate(reference, rows[:300])
        for a, b in zip(one.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a, b, rtol=0, atol=0)


def test_activations_with_parameters_or_noise_of_their_own():
    rows = _rows(1000, 16)
    torch.manual_seed(0)
    learned = Mlp(16, 64, act_layer=nn.PReLU).bfloat16()
    block = KANBlock(16, 64)
    assert block.imitate(learned, rows)
    assert _error(block, lambda x: learned(x.bfloat16()), _rows(500, 16, seed=1)) < 0.25
    noisy = Mlp(16, 64, act_layer=nn.RReLU)
    assert block.imitate(noisy, rows)
    assert noisy.act.training
    assert _error(block, noisy.eval(), _rows(500, 16, seed=1)) < 0.25


def _broken(rows):
    rows = rows.clone()
    rows[3, 1] = float("nan")
    return rows


class _Map(nn.Module):
    def forward(self, x):
        return x.mean(2).unsqueeze(1)


@pytest.mark.parametrize(
    ("reference", "inputs"),
    [
        (nn.Linear(8, 7), _rows(50, 8)),
        (nn.Linear(6, 4), _rows(50, 6)),
        (nn.Linear(6, 4), _rows(50, 8)),
        (nn.Linear(8, 4), _broken(_rows(50, 8))),
        (nn.Linear(8, 4), _rows(50, 8)[:0]),
        (nn.Linear(8, 4), _rows(50, 8)[:15]),
        (_Map(), _rows(50, 8)),
        (nn.Sequential(nn.Linear(8, 4), nn.Softmax(0), nn.Threshold(2.0, float("inf"))), _rows(50, 8)),
        (nn.Linear(8, 4), _rows(50, 8).to("meta")),
    ],
)
@pytest.mark.parametrize("make", [lambda: FasterKANLayer(8, 4), lambda: KANBlock(8, 16, 4), lambda: KANHead(8, 4)])
def test_refuses_without_a_change(make, reference, inputs):
    module = make()
    before = copy.deepcopy(module.state_dict())
    assert not module.imitate(reference, inputs)
    for name, value in module.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_values_too_large_for_the_parameters_are_taken_back():
    layer = FasterKANLayer(8, 4, dtype=torch.float16)
    before = copy.deepcopy(layer.state_dict())
    reference = nn.Linear(8, 4)
    with torch.no_grad():
        reference.weight *= 1e6
    assert not layer.imitate(reference, _rows(100, 8))
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_a_module_without_storage_refuses():
    assert not FasterKANLayer(8, 4, device="meta").imitate(nn.Linear(8, 4), _rows(50, 8))
    assert not NeighborhoodAttention2d(16, 2, 3, device="meta").imitate(Attention(16, 2), torch.zeros(1, 9, 16))


def _spread(module):
    """Weights that make attention far from uniform."""
    torch.manual_seed(3)
    for parameter in module.parameters():
        nn.init.normal_(parameter, std=0.4)
    return module.eval()


REFERENCES = {
    "fused": lambda: Attention(16, 2, qkv_bias=True),
    "no bias": lambda: Attention(16, 2, proj_bias=False),
    "eva fused": lambda: EvaAttention(16, 2, scale_norm=False),
    "eva separate": lambda: EvaAttention(16, 2, qkv_fused=False, scale_norm=False),
    "rope separate": lambda: AttentionRope(16, 2, qkv_fused=False),
    "beit": lambda: timm.models.beit.Attention(16, 2, qkv_bias=True),
    "other scale": lambda: _scaled(Attention(16, 2, qkv_bias=True)),
}


def _scaled(attention):
    attention.scale = 0.1
    attention.fused_attn = False
    return attention


@pytest.mark.parametrize("name", REFERENCES)
@pytest.mark.parametrize("rel_pos_bias", [False, True])
def test_attention_over_the_whole_map_is_the_reference(name, rel_pos_bias):
    reference = _spread(REFERENCES[name]())
    layer = _spread(NeighborhoodAttention2d(16, 2, (7, 5), rel_pos_bias=rel_pos_bias, qk_scale=0.5))
    x = torch.randn(2, 35, 16)
    assert layer.imitate(reference, x)
    torch.testing.assert_close(layer(x.view(2, 7, 5, 16)).flatten(1, 2), reference(x), atol=2e-5, rtol=1e-4)


def test_attention_elsewhere_is_the_reference_restricted_to_the_neighbourhood():
    reference = _spread(Attention(16, 2, qkv_bias=True))
    layer = NeighborhoodAttention2d(16, 2, 3, 2)
    x = torch.randn(2, 8, 7, 16)
    assert layer.imitate(reference, x.flatten(1, 2))
    # Which keys each query sees: attention of equal weights over one-hot values.
    flat = torch.zeros(1, 8, 7, 1, 1)
    sees = neighborhood_attention(flat, flat, torch.eye(56).view(1, 8, 7, 1, 56), 3, 2).view(56, 56) > 0
    assert (sees.sum(1) == 9).all()
    expected = reference(x.flatten(1, 2), attn_mask=sees[None, None])
    torch.testing.assert_close(layer(x).flatten(1, 2), expected, atol=2e-5, rtol=1e-4)


def test_window_attention_hands_on_its_position_bias():
    reference = _spread(WindowAttention(16, 2, window_size=(4, 3)))
    x = torch.randn(2, 12, 16)
    layer = NeighborhoodAttention2d(16, 2, (4, 3), rel_pos_bias=True)
    assert layer.imitate(reference, x)
    torch.testing.assert_close(layer(x.view(2, 4, 3, 16)).flatten(1, 2), reference(x), atol=2e-5, rtol=1e-4)
    assert layer.rpb is not None
    assert layer.rpb.requires_grad
    other = NeighborhoodAttention2d(16, 2, (3, 3), rel_pos_bias=True)
    assert other.imitate(reference, x)
    assert other.rpb is not None
    assert other.rpb.count_nonzero() == 0


def test_attention_over_a_sequence():
    reference = _spread(Attention(16, 2, qkv_bias=True))
    layer, x = NeighborhoodAttention1d(16, 2, 9), torch.randn(2, 9, 16)
    assert layer.imitate(reference, x)
    torch.testing.assert_close(layer(x), reference(x), atol=2e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("reference", "options"),
    [
        (Attention(16, 4), {}),
        (Attention(32, 2), {}),
        (Attention(16, 2, attn_head_dim=4), {}),
        (_spread(Attention(16, 2, qkv_bias=True)), {"qkv_bias": False}),
        (Attention(16, 2, qk_norm=True, norm_layer=nn.LayerNorm), {}),
        (EvaAttention(16, 2, norm_layer=nn.LayerNorm), {}),
        (Attention(16, 2, gated=True), {}),
        (timm.models.swin_transformer_v2.WindowAttention(16, (3, 3), 2), {}),
        (AttentionRope(16, 2, num_kv_heads=1, qkv_fused=False), {}),
        (Mlp(16), {}),
    ],
)
def test_attention_refuses_without_a_change(reference, options):
    layer = NeighborhoodAttention2d(16, 2, 3, **options)
    before = copy.deepcopy(layer.state_dict())
    assert not layer.imitate(reference, torch.zeros(1, 9, 16))
    for name, value in layer.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


def test_attention_refuses_values_that_are_not_finite():
    reference = Attention(16, 2)
    with torch.no_grad():
        reference.proj.weight[0, 0] = float("inf")
    layer = NeighborhoodAttention2d(16, 2, 3)
    before = layer.qkv.weight.clone()
    assert not layer.imitate(reference, torch.zeros(1, 9, 16))
    torch.testing.assert_close(layer.qkv.weight, before, rtol=0, atol=0)


def test_biases_without_effect_need_no_place():
    reference, layer = Attention(16, 2, qkv_bias=True), NeighborhoodAttention2d(16, 2, 3, qkv_bias=False)
    nn.init.zeros_(reference.qkv.bias)
    assert layer.imitate(reference, torch.zeros(1, 9, 16))
    torch.testing.assert_close(layer.qkv.weight, reference.qkv.weight, rtol=0, atol=0)


@pytest.mark.parametrize(
    "make", [lambda **k: NeighborhoodAttention2d(16, 2, 3, **k), lambda **k: DiNA(16, 2, 2, 2, **k)]
)
def test_prefix_tokens_see_everything(make):
    layer = _spread(make(qk_scale=0.3, rel_pos_bias=True))
    prefix, grid = torch.randn(2, 3, 16), torch.randn(2, 5, 4, 16)
    tokens = torch.cat([prefix, grid.view(2, 20, 16)], 1)
    expected = torch.empty(2, 3, 16)
    for sample in range(2):
        q, k, v = layer.qkv(tokens[sample]).chunk(3, -1)
        for head in (slice(0, 8), slice(8, 16)):
            weights = (0.3 * q[:3, head] @ k[:, head].T).softmax(-1)
            expected[sample, :, head] = (weights @ v[:, head]).detach()
    mixed = layer.mix_prefix(prefix, grid)
    torch.testing.assert_close(mixed, layer.proj(expected), atol=1e-5, rtol=1e-5)
    for values in torch.autograd.grad(mixed.square().sum(), [layer.qkv.weight, layer.qkv.bias])[0].chunk(3):
        assert values.abs().max() > 1e-3


def test_prefix_tokens_of_a_copy_get_what_the_reference_gives_them():
    reference = _spread(Attention(16, 2, qkv_bias=True))
    layer = NeighborhoodAttention2d(16, 2, 4)
    x = torch.randn(2, 17, 16)
    assert layer.imitate(reference, x)
    mixed = layer.mix_prefix(x[:, :1], x[:, 1:].view(2, 4, 4, 16))
    torch.testing.assert_close(mixed, reference(x)[:, :1], atol=2e-5, rtol=1e-4)


def test_prefix_tokens_have_the_dropout_of_the_layer():
    prefix, grid = torch.randn(1, 2, 16), torch.randn(1, 3, 3, 16)
    for options in ({"attn_drop": 0.5}, {"proj_drop": 0.5}):
        layer = NeighborhoodAttention2d(16, 2, 3, **options)
        assert not torch.equal(layer.mix_prefix(prefix, grid), layer.mix_prefix(prefix, grid))
        layer.eval()
        torch.testing.assert_close(layer.mix_prefix(prefix, grid), layer.mix_prefix(prefix, grid), rtol=0, atol=0)


def test_layouts_are_told():
    assert (NeighborhoodAttention2d.layout, DiNA.layout, KANBlock.layout) == ("NHWC", "NHWC", "NLC")
