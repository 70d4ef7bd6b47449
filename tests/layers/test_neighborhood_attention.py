"""Neighbourhood attention: values against NATTEN's and against the definition, gradients, identities."""

import itertools
import json
import random
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file

from benchmarks._measure import saved_bytes
from zoo.layers.neighborhood import (
    DiNA,
    NeighborhoodAttention1d,
    NeighborhoodAttention2d,
    NeighborhoodAttention3d,
    neighborhood_attention,
    neighborhood_attention_packed,
)

GOLDEN = Path(__file__).parent.parent / "golden" / "medvit"
GOLDENS = sorted(path.stem for path in GOLDEN.glob("na?d_*.json"))
PATHS = ("reference", "tiles")


def tokens(*shape, dtype=torch.float32, grad=False):
    return [torch.randn(*shape, dtype=dtype, requires_grad=grad) for _ in range(3)]


# --- against NATTEN 0.17.3


@pytest.mark.parametrize("backend", PATHS)
@pytest.mark.parametrize("name", GOLDENS)
def test_output_and_gradients_of_natten(name, backend):
    meta = json.loads((GOLDEN / f"{name}.json").read_text())
    stored = {key: value.float() for key, value in load_file(GOLDEN / f"{name}.safetensors").items()}
    options = {key: tuple(value) if isinstance(value, list) else value for key, value in meta["kwargs"].items()}
    options["causal"] = options.pop("is_causal", False)
    kind = NeighborhoodAttention1d if name.startswith("na1d") else NeighborhoodAttention2d
    layer = kind(**options, backend=backend)
    layer.load_state_dict({key[6:]: value for key, value in stored.items() if key.startswith("state.")})

    x = stored["in.x"].requires_grad_()
    y = layer(x)
    tolerance = meta["tolerance"]
    torch.testing.assert_close(y, stored["out.y"], atol=tolerance["atol"], rtol=tolerance["rtol"])

    wanted = {key[5:]: value for key, value in stored.items() if key.startswith("grad.")}
    if wanted:
        (y * stored["in.cotangent"]).sum().backward()
        found = {"x": x.grad, **{key: value.grad for key, value in layer.named_parameters()}}
        for key, value in wanted.items():
            limit = tolerance["grad_atol_rel"] * value.abs().max().item()
            torch.testing.assert_close(found[key], value, atol=limit, rtol=0.0, msg=lambda text, key=key: key + text)


def test_all_goldens_are_there():
    assert len(GOLDENS) == 7


# --- against the definition


def window(place, members, kernel, causal):
    if causal:
        return range(max(place - kernel + 1, 0), place + 1)
    start = min(max(place - kernel // 2, 0), members - kernel)
    return range(start, start + kernel)


def by_definition(q, k, v, kernels, dilations, causal, bias, scale):
    """A loop over queries, in float64."""
    q, k, v = q.double(), k.double(), v.double()
    out = torch.empty_like(q)
    spatial = q.shape[1:-2]
    for position in itertools.product(*map(range, spatial)):
        choices = []  # per axis: (position of a key, its bias index)
        for i, length, kernel, dilation, past in zip(position, spatial, kernels, dilations, causal, strict=True):
            group = [j for j in range(length) if j % dilation == i % dilation]
            place = group.index(i)
            seen = window(place, len(group), kernel, past)
            choices.append([(group[key], key - place + kernel - 1) for key in seen])
        pairs = list(itertools.product(*choices))
        keys = torch.stack([k[(slice(None), *(p for p, _ in pair))] for pair in pairs], -2)
        values = torch.stack([v[(slice(None), *(p for p, _ in pair))] for pair in pairs], -2)
        here = (slice(None), *position)
        scores = scale * torch.einsum("bhd,bhwd->bhw", q[here], keys)
        if bias is not None:
            scores = scores + torch.stack([bias[(slice(None), *(o for _, o in pair))] for pair in pairs], -1).double()
        out[here] = torch.einsum("bhw,bhwd->bhd", scores.softmax(-1), values)
    return out


def random_case(number):
    draw = random.Random(number)
    rank = draw.choice([1, 2, 2, 2, 3])
    kernels = [draw.randint(2, {1: 9, 2: 5, 3: 3}[rank]) for _ in range(rank)]
    dilations = [draw.choice([1, 1, 2, 3]) for _ in range(rank)]
    spare = [0, 0, 1, 2, 5] if rank < 3 else [0, 0, 1]
    spatial = [kernel * step + draw.choice(spare) for kernel, step in zip(kernels, dilations, strict=True)]
    if rank == 2 and number % 10 == 0:  # a map of one row of windows
        kernels[0], dilations[0], spatial[0] = 2, 1, 2
    causal = [draw.random() < 0.25 for _ in range(rank)]
    return spatial, kernels, dilations, causal, draw.choice([1, 2, 3]), draw.choice([1, 2]), draw.random() < 0.6


@pytest.mark.parametrize("block", range(10))
def test_equals_the_definition(block):
    for number in range(20 * block, 20 * block + 20):
        torch.manual_seed(number)
        spatial, kernels, dilations, causal, heads, batch, with_bias = random_case(number)
        q, k, v = tokens(batch, *spatial, heads, 4)
        bias = None
        if with_bias and not any(causal):
            bias = torch.randn(heads, *(2 * kernel - 1 for kernel in kernels))
        expected = by_definition(q, k, v, kernels, dilations, causal, bias, 0.5)
        for backend in PATHS:
            found = neighborhood_attention(q, k, v, kernels, dilations, causal, bias, 0.5, backend=backend)
            error = (found.double() - expected).abs().max().item()
            assert error <= 2e-6, (backend, spatial, kernels, dilations, causal, heads, error)


@pytest.mark.parametrize(
    ("spatial", "kernel", "dilation", "causal"),
    [
        ((19,), 4, 2, False),
        ((40,), 7, 1, True),
        ((9, 14), (3, 5), (2, 1), False),
        ((17, 16), 7, 1, False),
        ((6, 8), (3, 4), 2, False),
        ((11, 10), 3, (1, 3), (False, True)),
        ((5, 6, 7), (2, 3, 3), (2, 1, 2), False),
    ],
)
def test_both_paths_have_the_same_gradients(spatial, kernel, dilation, causal):
    torch.manual_seed(0)
    inputs = tokens(2, *spatial, 3, 5, dtype=torch.float64, grad=True)
    if causal is False:
        kernels = (kernel,) * len(spatial) if isinstance(kernel, int) else kernel
        inputs.append(torch.randn(3, *(2 * size - 1 for size in kernels), dtype=torch.float64, requires_grad=True))
    cotangent = torch.randn(2, *spatial, 3, 5, dtype=torch.float64)
    grads = {}
    for backend in PATHS:
        out = neighborhood_attention(*inputs[:3], kernel, dilation, causal, *inputs[3:], backend=backend)
        grads[backend] = torch.autograd.grad((out * cotangent).sum(), inputs)
    for first, second in zip(*grads.values(), strict=True):
        torch.testing.assert_close(first, second, atol=1e-12, rtol=1e-9)


def test_large_batches_are_worked_on_in_parts(monkeypatch):
    torch.manual_seed(0)
    q, k, v = tokens(3, 15, 15, 2, 4, grad=True)
    bias = torch.randn(2, 9, 9, requires_grad=True)
    results = []
    for budget in (1, 1 << 24):
        monkeypatch.setattr("zoo.layers.neighborhood.tiles._CPU_BUDGET", budget)
        out = neighborhood_attention(q, k, v, 5, 1, False, bias)
        results.append([out, *torch.autograd.grad(out.square().sum(), [q, k, v, bias])])
    for first, second in zip(*results, strict=True):
        torch.testing.assert_close(first, second, atol=1e-5, rtol=1e-5)


# --- derivatives


@pytest.mark.parametrize("backend", PATHS)
def test_gradcheck(backend):
    torch.manual_seed(0)
    inputs = [*tokens(2, 4, 5, 2, 2, dtype=torch.float64, grad=True)]
    inputs.append(torch.randn(2, 5, 3, dtype=torch.float64, requires_grad=True))

    def call(q, k, v, bias):
        return neighborhood_attention(q, k, v, (3, 2), (1, 2), False, bias, backend=backend)

    assert torch.autograd.gradcheck(call, inputs)


def test_gradgradcheck_of_the_fast_path():
    torch.manual_seed(0)
    inputs = [*tokens(1, 3, 3, 1, 2, dtype=torch.float64, grad=True)]
    inputs.append(torch.randn(1, 3, 3, dtype=torch.float64, requires_grad=True))
    assert torch.autograd.gradgradcheck(lambda q, k, v, b: neighborhood_attention(q, k, v, 2, 1, False, b), inputs)


def test_second_derivative_where_only_some_inputs_are_learned():
    torch.manual_seed(0)
    q, k, v = tokens(1, 6, 6, 2, 4, dtype=torch.float64)
    v.requires_grad_()
    bias = torch.randn(2, 5, 5, dtype=torch.float64, requires_grad=True)
    found = []
    for backend in PATHS:
        out = neighborhood_attention(q, k, v, 3, 1, False, bias, backend=backend).square().sum()
        first = torch.autograd.grad(out, [v, bias], create_graph=True)
        found.append(torch.autograd.grad(sum(grad.square().sum() for grad in first), [v, bias]))
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("frozen", range(4))
def test_gradient_for_some_of_the_inputs(frozen):
    torch.manual_seed(0)
    inputs = [*tokens(1, 6, 7, 2, 4, grad=True), torch.randn(2, 5, 5, requires_grad=True)]
    inputs[frozen].requires_grad_(False)
    q, k, v, bias = inputs
    learned = [tensor for tensor in inputs if tensor.requires_grad]
    grads = [
        torch.autograd.grad(neighborhood_attention(q, k, v, 3, 1, False, bias, backend=path).square().sum(), learned)
        for path in PATHS
    ]
    for one, other in zip(*grads, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("batch", "size", "heads", "dilation", "limit"), [
    (1, 56, 2, 1, 3.3e6),
    (4, 28, 4, 1, 6.5e6),
    (4, 14, 6, 2, 2.5e6),
])  # fmt: skip
def test_kept_for_backward(batch, size, heads, dilation, limit):
    layer = NeighborhoodAttention2d(32 * heads, heads, 7, dilation, rel_pos_bias=True)
    x = torch.randn(batch, size, size, 32 * heads, requires_grad=True)
    assert saved_bytes(lambda: layer(x), [x, *layer.parameters()]) <= limit


# --- identities


@pytest.mark.parametrize("backend", PATHS)
def test_a_window_as_large_as_the_map_is_full_attention(backend):
    torch.manual_seed(0)
    q, k, v = tokens(2, 6, 5, 3, 8)
    found = neighborhood_attention(q, k, v, (6, 5), backend=backend)
    flat = [tensor.flatten(1, 2).transpose(1, 2) for tensor in (q, k, v)]
    expected = F.scaled_dot_product_attention(*flat).transpose(1, 2).reshape(q.shape)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", PATHS)
def test_a_causal_window_as_long_as_the_sequence_is_causal_attention(backend):
    torch.manual_seed(0)
    q, k, v = tokens(2, 12, 3, 8)
    found = neighborhood_attention(q, k, v, 12, 1, True, backend=backend)
    expected = F.scaled_dot_product_attention(*(t.transpose(1, 2) for t in (q, k, v)), is_causal=True).transpose(1, 2)
    torch.testing.assert_close(found, expected, atol=2e-6, rtol=1e-5)


def test_dilation_is_attention_inside_each_group():
    torch.manual_seed(0)
    q, k, v = tokens(1, 12, 10, 2, 4)
    found = neighborhood_attention(q, k, v, 3, 2)
    for row, column in itertools.product(range(2), range(2)):
        parts = [tensor[:, row::2, column::2] for tensor in (q, k, v)]
        torch.testing.assert_close(found[:, row::2, column::2], neighborhood_attention(*parts, 3), atol=2e-6, rtol=1e-5)


def test_mirrored_axes_give_the_mirrored_output():
    torch.manual_seed(0)
    q, k, v = tokens(1, 11, 9, 2, 4)
    bias = torch.randn(2, 9, 5)
    found = neighborhood_attention(q, k, v, (5, 3), 1, False, bias)
    mirrored = neighborhood_attention(*(t.flip(1, 2) for t in (q, k, v)), (5, 3), 1, False, bias.flip(1, 2))
    torch.testing.assert_close(mirrored.flip(1, 2), found, atol=2e-6, rtol=1e-5)


def test_swapped_axes_give_the_swapped_output():
    torch.manual_seed(0)
    q, k, v = tokens(1, 14, 9, 2, 4)
    bias = torch.randn(2, 9, 5)
    found = neighborhood_attention(q, k, v, (5, 3), (2, 1), False, bias)
    swapped = neighborhood_attention(*(t.transpose(1, 2) for t in (q, k, v)), (3, 5), (1, 2), False, bias.mT)
    torch.testing.assert_close(swapped.transpose(1, 2), found, atol=2e-6, rtol=1e-5)


def test_inside_the_map_the_output_moves_with_the_input():
    torch.manual_seed(0)
    q, k, v = tokens(1, 20, 20, 2, 4)
    out = neighborhood_attention(q, k, v, 5)
    moved = neighborhood_attention(*(tensor.roll((3, 2), (1, 2)) for tensor in (q, k, v)), 5)
    torch.testing.assert_close(moved[:, 6:-3, 6:-3], out[:, 3:-6, 4:-5], atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("backend", PATHS)
def test_the_future_has_no_influence_on_a_causal_axis(backend):
    torch.manual_seed(0)
    q, k, v = tokens(1, 15, 8, 2, 4)
    out = neighborhood_attention(q, k, v, (4, 3), (2, 1), (True, False), backend=backend)
    k2, v2 = k.clone(), v.clone()
    k2[:, 9:] = torch.randn_like(k2[:, 9:])
    v2[:, 9:] = torch.randn_like(v2[:, 9:])
    changed = neighborhood_attention(q, k2, v2, (4, 3), (2, 1), (True, False), backend=backend)
    assert torch.equal(changed[:, :9], out[:, :9])
    assert not torch.allclose(changed[:, 9:], out[:, 9:])


def test_the_bias_is_added_to_scaled_scores():
    torch.manual_seed(0)
    q, k, v = tokens(1, 8, 2, 4)
    bias = torch.full((2, 5), 3.0)
    torch.testing.assert_close(
        neighborhood_attention(q, k, v, 3, 1, False, bias, 0.1), neighborhood_attention(q, k, v, 3, scale=0.1)
    )
    bias[:, 2] = 100.0  # the query itself: softmax then picks its own value, however small the scale
    torch.testing.assert_close(neighborhood_attention(q, k, v, 3, 1, False, bias, 1e-3), v)


def test_values_may_have_their_own_dimension():
    torch.manual_seed(0)
    q, k, _ = tokens(1, 8, 8, 2, 4)
    v = torch.randn(1, 8, 8, 2, 7, requires_grad=True)
    out = [neighborhood_attention(q, k, v, 3, backend=path) for path in PATHS]
    torch.testing.assert_close(*out, atol=2e-6, rtol=1e-5)
    torch.testing.assert_close(*(torch.autograd.grad(o.square().sum(), v)[0] for o in out))


def test_packed_projection_gives_the_same():
    torch.manual_seed(0)
    qkv = torch.randn(2, 9, 7, 3 * 8, requires_grad=True)
    q, k, v = (part.unflatten(-1, (2, 4)) for part in qkv.chunk(3, -1))
    separate = neighborhood_attention(q, k, v, 3, 2).flatten(-2)
    packed = neighborhood_attention_packed(qkv, 2, 3, 2)
    assert torch.equal(packed, separate)
    grads = [torch.autograd.grad(out.square().sum(), qkv)[0] for out in (packed, separate)]
    assert torch.equal(*grads)


# --- types and odd inputs


@pytest.mark.parametrize(("dtype", "limit"), [(torch.float64, 1e-6), (torch.bfloat16, 2e-2), (torch.float16, 3e-3)])
@pytest.mark.parametrize("backend", PATHS)
def test_other_types(dtype, limit, backend):
    torch.manual_seed(0)
    exact = tokens(2, 10, 9, 2, 8, grad=True)
    bias = torch.randn(2, 9, 5, requires_grad=True)
    given = [tensor.detach().to(dtype).requires_grad_() for tensor in exact]
    out = neighborhood_attention(*given, (5, 3), 1, False, bias, backend=backend)
    expected = neighborhood_attention(*exact, (5, 3), 1, False, bias)
    assert out.dtype == dtype
    torch.testing.assert_close(out.float(), expected, atol=limit, rtol=0.0)
    grads = torch.autograd.grad(out.float().square().sum(), [*given, bias])
    wanted = torch.autograd.grad(expected.square().sum(), [*exact, bias])
    for grad, want, tensor in zip(grads, wanted, [*given, bias], strict=True):
        assert grad.dtype == tensor.dtype
        torch.testing.assert_close(grad.float(), want, atol=2 * limit * want.abs().max().item(), rtol=0.0)


def test_autocast_takes_its_own_type_and_no_less_precision():
    torch.manual_seed(0)
    layer = NeighborhoodAttention2d(16, 2, 3, rel_pos_bias=True)
    x = torch.randn(2, 7, 7, 16)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        out = layer(x)
        out.float().square().sum().backward()
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), layer(x), atol=2e-3, rtol=2e-2)
    assert layer.rpb.grad.dtype == torch.float32


@pytest.mark.parametrize("backend", PATHS)
def test_empty_batch(backend):
    layer = NeighborhoodAttention2d(16, 2, 3, rel_pos_bias=True, backend=backend)
    x = torch.zeros(0, 7, 7, 16, requires_grad=True)
    out = layer(x)
    assert out.shape == (0, 7, 7, 16)
    out.sum().backward()
    assert x.grad.shape == x.shape
    assert torch.equal(layer.rpb.grad, torch.zeros_like(layer.rpb))


@pytest.mark.parametrize("backend", PATHS)
def test_strides_do_not_matter(backend):
    torch.manual_seed(0)
    layer = NeighborhoodAttention2d(16, 2, 3, backend=backend)
    x = torch.randn(2, 16, 7, 9).permute(0, 2, 3, 1)
    torch.testing.assert_close(layer(x), layer(x.contiguous()))
    q, k, v = (torch.randn(4, 2, 9, 7, 2).permute(4, 2, 3, 1, 0) for _ in range(3))
    found = neighborhood_attention(q, k, v, 3, backend=backend)
    torch.testing.assert_close(found, neighborhood_attention(q.contiguous(), k.contiguous(), v.contiguous(), 3))


def test_not_a_number_spreads_and_does_not_crash():
    q, k, v = tokens(1, 9, 9, 1, 4)
    k[0, 4, 4] = float("nan")
    for path in PATHS:
        out = neighborhood_attention(q, k, v, 3, backend=path)
        assert out[0, 3:6, 3:6].isnan().all()


def test_dropout_drops_weights():
    torch.manual_seed(0)
    q, k, v = tokens(1, 16, 16, 2, 4)
    expected = neighborhood_attention(q, k, v, 5)
    for path in PATHS:
        outs = torch.stack([neighborhood_attention(q, k, v, 5, dropout_p=0.3, backend=path) for _ in range(400)])
        assert outs.std(0).mean() > 0.02
        torch.testing.assert_close(outs.mean(0), expected, atol=0.15, rtol=0.0)


# --- the layers


def test_layer_draws_dropout_in_training_only():
    torch.manual_seed(0)
    layer = NeighborhoodAttention2d(16, 2, 3, attn_drop=0.5)
    x = torch.randn(1, 7, 7, 16)
    assert not torch.equal(layer(x), layer(x))
    layer.eval()
    assert torch.equal(layer(x), layer(x))


def test_state_dict_of_natten_loads():
    names = ["rpb", "qkv.weight", "qkv.bias", "proj.weight", "proj.bias"]
    layer = NeighborhoodAttention2d(64, 2, 7, None, rel_pos_bias=True)
    assert list(layer.state_dict()) == names
    assert [tuple(value.shape) for value in layer.state_dict().values()] == [
        (2, 13, 13), (192, 64), (192,), (64, 64), (64,)
    ]  # fmt: skip
    assert list(NeighborhoodAttention1d(64, 2, 7, qkv_bias=False).state_dict()) == [names[1], *names[3:]]


def test_initialisation():
    torch.manual_seed(0)
    layer = NeighborhoodAttention2d(128, 8, 7, rel_pos_bias=True)
    for weight in (layer.qkv.weight, layer.proj.weight, layer.rpb):
        assert weight.std().item() == pytest.approx(0.02, rel=0.1)
    assert not layer.qkv.bias.any()
    assert not layer.proj.bias.any()


def test_dina_needs_a_dilation():
    with pytest.raises(TypeError, match="DiNA needs a dilation"):
        DiNA(64, 2, 7)
    torch.manual_seed(0)
    layer = DiNA(64, 2, 7, 2)
    assert layer.dilation == (2, 2)
    plain = NeighborhoodAttention2d(64, 2, 7, 2)
    plain.load_state_dict(layer.state_dict())
    x = torch.randn(1, 14, 15, 64)
    assert torch.equal(layer(x), plain(x))


def test_three_axes_of_a_layer():
    torch.manual_seed(0)
    layer = NeighborhoodAttention3d(16, 2, (2, 3, 3), (1, 1, 2), causal=(True, False, False))
    other = NeighborhoodAttention3d(16, 2, (2, 3, 3), (1, 1, 2), causal=(True, False, False), backend="reference")
    other.load_state_dict(layer.state_dict())
    x = torch.randn(2, 4, 5, 7, 16)
    torch.testing.assert_close(layer(x), other(x), atol=1e-6, rtol=1e-5)


def test_representation():
    text = repr(NeighborhoodAttention2d(64, 2, 7, (1, 2), rel_pos_bias=True))
    assert "64, num_heads=2, kernel_size=7, dilation=(1, 2), rel_pos_bias=True" in text
