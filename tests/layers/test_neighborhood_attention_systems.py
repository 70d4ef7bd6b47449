"""Neighbourhood attention under compilers, exporters, transforms and other machinery: the values stay the same."""

import copy
import importlib
import pickle
import sys

import pytest
import torch
from timm.layers import create_feature_extractor, register_notrace_module
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.autograd import forward_ad

import zoo.layers
import zoo.layers.neighborhood
from zoo.layers.neighborhood.plan import _kept_plan, build_plan, tile_plan
from zoo.layers.neighborhood.windows import Windows

neighborhood_attention = zoo.layers.neighborhood
PACKAGE = "zoo.layers.neighborhood"

LAYERS = {
    "1d": (lambda na: na.NeighborhoodAttention1d(16, 2, 4, 2, causal=True), (2, 11, 16)),
    "2d": (lambda na: na.NeighborhoodAttention2d(16, 2, 3, 2, rel_pos_bias=True), (2, 9, 11, 16)),
    "full groups": (lambda na: na.DiNA(16, 2, 3, 3, rel_pos_bias=True), (2, 9, 9, 16)),
    "3d": (lambda na: na.NeighborhoodAttention3d(16, 2, (2, 3, 3)), (2, 3, 5, 4, 16)),
}


@pytest.fixture
def plain():
    """The package as a user imports it: compilers cannot look through the session's run-time checks."""
    hooks = [finder for finder in sys.meta_path if type(finder).__module__ == "jaxtyping._import_hook"]
    checked = {name: module for name, module in sys.modules.items() if name.startswith((PACKAGE, "zoo.eager"))}
    for hook in hooks:
        sys.meta_path.remove(hook)
    for name in checked:
        del sys.modules[name]
    torch._dynamo.reset()
    yield importlib.import_module(PACKAGE)
    sys.modules.update(checked)
    zoo.layers.neighborhood = checked[PACKAGE]
    zoo.eager = checked["zoo.eager"]
    sys.meta_path[:0] = hooks


def build(name, package=neighborhood_attention):
    torch.manual_seed(0)
    make, shape = LAYERS[name]
    layer = make(package).eval()
    for parameter in layer.parameters():  # weights that make attention far from uniform
        nn.init.normal_(parameter, std=0.4)
    return layer, torch.randn(shape)


def gradients(call, layer, x):
    x = x.clone().requires_grad_()
    return torch.autograd.grad(call(x).square().sum(), [x, *layer.parameters()])


@pytest.mark.parametrize("name", ["2d", "3d"])
def test_compiled_without_graph_breaks(name, plain):
    layer, x = build(name, plain)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x), atol=1e-5, rtol=1e-5)
    for one, other in zip(gradients(compiled, layer, x), gradients(layer, layer, x), strict=True):
        torch.testing.assert_close(one, other, atol=1e-5 * other.abs().max().item(), rtol=1e-4)


@pytest.mark.slow
def test_compiled_to_machine_code(plain):
    layer, x = build("2d", plain)
    torch.testing.assert_close(torch.compile(layer, fullgraph=True)(x), layer(x), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(("name", "strict"), [("2d", True), *((name, False) for name in LAYERS)])
def test_exported_with_any_batch(name, strict, plain):
    layer, x = build(name, plain)
    exported = torch.export.export(layer, (x,), dynamic_shapes=({0: torch.export.Dim("batch")},), strict=strict)
    for batch in (x, x[:1], torch.cat([x, x])):
        torch.testing.assert_close(exported.module()(batch), layer(batch), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("checks", ["with run-time checks", "without"])
@pytest.mark.parametrize("name", LAYERS)
def test_scripted_inside_a_model(name, checks, request):
    layer, x = build(name, request.getfixturevalue("plain") if checks == "without" else neighborhood_attention)
    model = nn.Sequential(nn.Identity(), layer).eval()
    expected = layer(x)
    scripted = torch.jit.script(model)
    torch.testing.assert_close(scripted(x), expected, atol=1e-5, rtol=1e-5)
    with pytest.raises(torch.jit.Error, match="positions on spatial axis"):
        scripted(x[:, :1])

    # TorchScript leaves its stand-in in the model: it must go on as the same layer.
    assert isinstance(model[1], type(layer).__mro__[1])
    assert model[1].qkv.weight is layer.qkv.weight
    assert list(model.state_dict()) == [f"1.{key}" for key in layer.state_dict()]
    for one, other in zip(gradients(model, layer, x), gradients(layer, layer, x), strict=True):
        assert torch.equal(one, other)


def test_scripted_alone():
    layer, x = build("2d")
    torch.testing.assert_close(torch.jit.script(layer)(x), layer(x), atol=1e-5, rtol=1e-5)


def test_traced_by_fx(plain):
    layer, x = build("2d", plain)
    traced = torch.fx.symbolic_trace(nn.Sequential(layer))
    assert torch.equal(traced(x), layer(x))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_traced_by_torchscript(plain):
    layer, x = build("2d", plain)
    traced = torch.jit.trace(layer, (x,))
    torch.testing.assert_close(traced(x.flip(0)), layer(x.flip(0)), atol=1e-5, rtol=1e-5)


def test_leaf_of_timms_feature_extractor():
    register_notrace_module(neighborhood_attention.NeighborhoodAttention2d)
    layer, x = build("2d")
    model = nn.Sequential(layer, nn.ReLU()).eval()
    features = create_feature_extractor(model, {"0": "attended"})(x)
    torch.testing.assert_close(features["attended"], layer(x))


@pytest.mark.parametrize("name", LAYERS)
def test_copies_and_pickles(name):
    layer, x = build(name)
    layer(x)  # nothing of a call may stick to the layer
    assert set(layer.__dict__) == set(LAYERS[name][0](neighborhood_attention).__dict__)
    torch.testing.assert_close(copy.deepcopy(layer)(x), layer(x))
    torch.testing.assert_close(pickle.loads(pickle.dumps(layer))(x), layer(x))


@pytest.mark.parametrize("name", LAYERS)
def test_on_the_meta_device(name):
    make, shape = LAYERS[name]
    with torch.device("meta"):
        layer = make(neighborhood_attention)
    assert layer.qkv.weight.is_meta
    out = layer(torch.empty(shape, device="meta", requires_grad=True))
    assert out.shape == shape
    out.sum().backward()


def test_after_a_call_the_type_can_change():
    layer, x = build("2d")
    expected = layer(x)
    out = layer.to(torch.bfloat16)(x.to(torch.bfloat16))
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out.float(), expected, atol=0.15, rtol=0.02)


def test_inference_mode_does_not_spoil_the_kept_plan():
    layer, x = build("2d")
    _kept_plan.cache_clear()
    with torch.inference_mode():
        layer(x)
    gradients(layer, layer, x)
    layer.train()
    layer.attn_drop = 0.1  # this path lets autograd keep the plan's tensors
    gradients(layer, layer, x)


def test_fake_tensors_do_not_get_into_the_kept_plan():
    layer, x = build("2d")
    expected = layer(x)
    _kept_plan.cache_clear()
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert layer(mode.from_tensor(x)).shape == x.shape
    assert torch.equal(layer(x), expected)


def test_function_transforms():
    layer, x = build("2d")
    parameters = dict(layer.named_parameters())
    torch.testing.assert_close(torch.vmap(lambda one: layer(one[None])[0])(x), layer(x), atol=1e-5, rtol=1e-5)

    def loss(weights):
        return torch.func.functional_call(layer, weights, (x,)).square().sum()

    found = torch.func.grad(loss)(parameters)
    for (name, value), other in zip(found.items(), gradients(layer, layer, x)[1:], strict=True):
        torch.testing.assert_close(value, other, atol=1e-3, rtol=1e-4, msg=name)


def test_forward_mode_derivative_agrees_with_the_backward_one():
    layer, x = build("2d")
    layer, x = layer.double(), x.double()
    direction = torch.randn_like(x)
    with forward_ad.dual_level():
        tangent = forward_ad.unpack_dual(layer(forward_ad.make_dual(x, direction))).tangent
    x.requires_grad_()
    out = layer(x)
    cotangent = torch.randn_like(out)
    (back,) = torch.autograd.grad(out, x, cotangent)
    assert (back * direction).sum().item() == pytest.approx((tangent * cotangent).sum().item(), rel=1e-8)


def test_checkpointed():
    layer, x = build("2d")
    checkpointed = torch.utils.checkpoint.checkpoint
    found = gradients(lambda value: checkpointed(layer, value, use_reentrant=False), layer, x)
    for one, other in zip(found, gradients(layer, layer, x), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize(
    ("spatial", "kernel", "dilation", "causal"),
    [((20,), 5, 3, False), ((9, 11), (3, 4), (2, 1), False), ((9, 11), 3, 2, (True, False)), ((4, 5, 6), 2, 2, False)],
)
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_reads_the_windows_alike(spatial, kernel, dilation, causal, plain):
    """Its kernels need CUDA, but the functions it is given can be run anywhere."""
    torch.manual_seed(0)
    windows = Windows.of(len(spatial), kernel, dilation, causal)
    q, k, v = (torch.randn(2, *spatial, 2, 16) for _ in range(3))
    bias = None if causal else torch.randn(2, *(2 * size - 1 for size in windows.kernel_size))
    flex_windows = importlib.import_module(f"{PACKAGE}.flex").flex_windows
    found = flex_windows(q, k, v, windows, bias, 0.25, compiled=False)
    expected = plain.neighborhood_attention(q, k, v, kernel, dilation, causal, bias, 0.25)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


# --- the plan itself


@pytest.mark.parametrize(
    ("spatial", "kernel", "dilation", "causal", "tile"),
    [
        ((17, 23), (3, 4), (2, 3), (False, True), (3, 2)),
        ((14, 14), 7, 2, False, (7, 7)),
        ((10,), 3, 3, False, (4,)),
        ((5, 6, 7), 2, (1, 2, 3), False, (2, 2, 1)),
    ],
)
def test_every_token_has_one_query_slot_and_exactly_its_window(spatial, kernel, dilation, causal, tile):
    windows = Windows.of(len(spatial), kernel, dilation, causal)
    plan = build_plan(spatial, windows, tile, torch.device("cpu"))
    count = torch.Size(spatial).numel()
    assert torch.equal(plan.queries.flatten()[plan.slot], torch.arange(count))
    owned = torch.ones_like(plan.queries, dtype=torch.bool) if plan.owned is None else plan.owned
    assert torch.equal(owned.flatten().nonzero().flatten(), plan.slot.sort().values)

    seen = plan.offsets[plan.table] < plan.entries
    visible = torch.zeros(count, count, dtype=torch.long)
    for query, keys, inside, own in zip(plan.queries, plan.keys, seen, owned, strict=True):
        for slot in own.nonzero().flatten():
            visible[query[slot]].index_add_(
                0, keys[inside[slot]], torch.ones(int(inside[slot].sum()), dtype=torch.long)
            )
    assert visible.max() == 1
    if not any(windows.causal):
        assert torch.equal(visible.sum(1), torch.full((count,), torch.Size(windows.kernel_size).numel()))
    assert visible.diagonal().all()


def test_plans_are_kept_for_shape_window_and_device_but_not_without_end():
    windows, tile, device = Windows.of(1, 3), (4,), torch.device("cpu")
    _kept_plan.cache_clear()
    assert tile_plan([9], windows, tile, device) is tile_plan((9,), windows, tile, device)
    assert tile_plan([9], windows, tile, device) is not tile_plan([9], Windows.of(1, 3, 2), tile, device)
    for length in range(10, 100):
        tile_plan([length], windows, tile, device)
    assert _kept_plan.cache_info().currsize <= 32


def test_as_an_onnx_graph(tmp_path, plain):
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    layer, x = build("2d", plain)
    torch.onnx.export(layer, (x,), tmp_path / "layer.onnx", dynamo=True, verbose=False)
    session = runtime.InferenceSession(tmp_path / "layer.onnx")
    (found,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
    torch.testing.assert_close(torch.from_numpy(found), layer(x), atol=1e-5, rtol=1e-5)
