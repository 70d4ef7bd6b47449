"""The stitching layer: what the authors' code gave, layouts, and low-rank products that are never merged."""

import copy
import json
import subprocess
import sys
import weakref
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load, load_file, save

import zoo
from zoo.layers import StitchLayer
from zoo.layers.stitch import LAYOUTS, rows_of

FOLDER = Path(__file__).parents[1] / "golden" / "stitch"
B, H, W, IN, OUT = 2, 3, 4, 5, 7
WAYS = list(product(LAYOUTS, LAYOUTS))


def _golden(name):
    meta = json.loads((FOLDER / f"{name}.json").read_text())
    return meta, load_file(FOLDER / f"{name}.safetensors")


def _randn(*shape, seed=0, **options):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), **options)


def _features(layout, channels, **options):
    """The same values whatever the layout."""
    x = _randn(B, H, W, channels, **options)
    return {"tokens": x.flatten(1, 2), "nhwc": x, "nchw": x.permute(0, 3, 1, 2).contiguous()}[layout]


def _layer(*args, seed=0, **options):
    torch.manual_seed(seed)
    layer = StitchLayer(*args, **options)
    with torch.no_grad():
        for name, parameter in layer.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    return layer


# --- least squares --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["ls_init_full_rank", "ls_init_truncated", "ls_init_min_norm"])
@pytest.mark.parametrize("batches", [1, 3])
def test_fit_gives_what_the_authors_code_gives(name, batches):
    meta, tensors = _golden(name)
    front, end = tensors["in.front"], tensors["in.end"]
    layer = StitchLayer(front.shape[-1], end.shape[-1])
    layer.fit(zip(front.tensor_split(batches, 1), end.tensor_split(batches, 1), strict=True))
    torch.testing.assert_close(layer.transform.weight, tensors["out.weight"], **meta["tolerance"])
    torch.testing.assert_close(layer.transform.bias, tensors["out.bias"], **meta["tolerance"])


@pytest.mark.parametrize(("name", "end_layout"), [("stitch_conv", "nchw"), ("stitch_conv_to_tokens", "tokens")])
def test_convolutions_give_what_the_authors_code_gives(name, end_layout):
    meta, tensors = _golden(name)
    layer = StitchLayer(8, 12, layout="nchw", end_layout=end_layout)
    layer.fit([(tensors["in.front"], tensors["in.end"])])
    for key, value in layer.state_dict().items():
        torch.testing.assert_close(value, tensors[f"out.{key}"], **meta["tolerance"])
    torch.testing.assert_close(layer(tensors["in.front"]), tensors["out.y"], **meta["tolerance"])
    layer.load_state_dict({k.removeprefix("out."): v for k, v in tensors.items() if k.startswith("out.transform")})
    torch.testing.assert_close(layer(tensors["in.front"]), tensors["out.y"], atol=1e-6, rtol=1e-6)


def test_weak_directions_count_for_nothing_unless_rcond_says_so():
    x, y = _randn(2, 100, IN, dtype=torch.float64), _randn(2, 100, OUT, seed=1, dtype=torch.float64)
    x[..., -1] *= 1e-5  # the cut-off of float32 is 2.4e-5
    layers = {}
    for rcond in (None, 200 * torch.finfo(torch.float32).eps, 1e-8):
        layers[rcond] = StitchLayer(IN, OUT, dtype=torch.float64)
        layers[rcond].fit([(x, y)], rcond=rcond)
    default, same, keen = (layer.transform.weight.detach() for layer in layers.values())
    assert torch.equal(default, same)
    assert default[:, -1].abs().max() < 1e-5
    assert keen[:, -1].abs().min() > 100
    exact = torch.linalg.lstsq(torch.cat([x, torch.ones(2, 100, 1)], -1).flatten(0, 1), y.flatten(0, 1)).solution
    torch.testing.assert_close(keen.T, exact[:-1], atol=1e-5, rtol=1e-5)


def test_ridge_is_the_formula_and_pulls_to_zero():
    x, y = _randn(2, 40, IN, dtype=torch.float64), _randn(2, 40, OUT, seed=1, dtype=torch.float64)
    rows = torch.cat([x.flatten(0, 1), torch.ones(80, 1, dtype=x.dtype)], 1)
    gram = rows.T @ rows
    for ridge in (1e-3, 10.0):
        layer = StitchLayer(IN, OUT, dtype=torch.float64)
        layer.fit([(x, y)], ridge=ridge)
        shifted = gram + ridge * gram.diagonal().mean() * torch.eye(IN + 1, dtype=x.dtype)
        expected = torch.linalg.solve(shifted, rows.T @ y.flatten(0, 1))
        torch.testing.assert_close(layer.transform.weight, expected[:-1].T, atol=1e-10, rtol=1e-10)
        torch.testing.assert_close(layer.transform.bias, expected[-1], atol=1e-10, rtol=1e-10)


@pytest.mark.parametrize(("layout", "end_layout"), WAYS)
@pytest.mark.parametrize("lora_rank", [0, 2])
@pytest.mark.parametrize("bias", [True, False])
def test_fit_finds_a_map_that_is_linear(layout, end_layout, lora_rank, bias):
    grid = (H, W) if layout == "tokens" != end_layout else None
    options = {"layout": layout, "end_layout": end_layout, "grid": grid, "bias": bias, "dtype": torch.float64}
    truth = _layer(IN, OUT, **options)
    x = _features(layout, IN, dtype=torch.float64)
    layer = _layer(IN, OUT, **options, lora_rank=lora_rank, seed=1)
    layer.fit([(x[:1], truth(x[:1])), (x[1:], truth(x[1:]))])
    torch.testing.assert_close(layer(x), truth(x), atol=1e-9, rtol=1e-9)
    torch.testing.assert_close(layer.transform.weight, truth.transform.weight, atol=1e-9, rtol=1e-9)


def test_fit_in_bfloat16_is_the_rounded_fit():
    x, y = _randn(2, 30, IN).bfloat16(), _randn(2, 30, OUT, seed=1).bfloat16()
    layer, exact = StitchLayer(IN, OUT, dtype=torch.bfloat16), StitchLayer(IN, OUT, dtype=torch.float64)
    layer.fit([(x, y)])
    exact.fit([(x.double(), y.double())])
    torch.testing.assert_close(layer.state_dict(), {k: v.bfloat16() for k, v in exact.state_dict().items()})


def test_fit_leaves_nothing_of_gradients_and_takes_features_that_have_them():
    layer = StitchLayer(IN, OUT)
    layer.fit([(_randn(2, 30, IN).requires_grad_(), _randn(2, 30, OUT).requires_grad_())])
    assert all(p.requires_grad and p.is_leaf and p.grad is None for p in layer.parameters())


def test_take_is_the_transposed_matrix_with_the_constant_last():
    layer, coefficients = StitchLayer(IN, OUT, layout="nchw"), _randn(IN + 1, OUT)
    layer.take(coefficients)
    assert torch.equal(layer.transform.weight[:, :, 0, 0], coefficients[:-1].T)
    assert torch.equal(layer.transform.bias, coefficients[-1])
    with pytest.raises(ValueError, match=r"must be \(6, 7\), got \(5, 7\)"):
        layer.take(coefficients[:-1])


# --- layouts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("layout", "end_layout"), WAYS)
@pytest.mark.parametrize("lora_rank", [0, 2])
def test_every_layout_gives_the_same_rows(layout, end_layout, lora_rank):
    grid = (H, W) if layout == "tokens" != end_layout else None
    layer = _layer(IN, OUT, layout=layout, end_layout=end_layout, grid=grid, lora_rank=lora_rank, dtype=torch.float64)
    x = _features(layout, IN, dtype=torch.float64)
    y = layer(x)
    shape = {"tokens": (B, H * W, OUT), "nhwc": (B, H, W, OUT), "nchw": (B, OUT, H, W)}[end_layout]
    assert y.shape == shape
    weight = layer.merged().transform.weight
    assert weight.shape == ((OUT, IN, 1, 1) if layout == "nchw" else (OUT, IN))
    expected = F.linear(_features("nhwc", IN, dtype=torch.float64), weight.flatten(1), layer.transform.bias)
    torch.testing.assert_close(rows_of(y, end_layout), expected.flatten(0, 2), atol=1e-12, rtol=1e-12)
    assert layer(x[:0]).shape == (0, *shape[1:])


def test_tokens_become_a_square_without_a_grid():
    layer = _layer(IN, OUT, layout="tokens", end_layout="nhwc")
    x = _randn(B, 9, IN)
    assert torch.equal(layer(x), F.linear(x, layer.transform.weight, layer.transform.bias).view(B, 3, 3, OUT))


@pytest.mark.parametrize("end_layout", ["nhwc", "nchw"])
def test_tokens_that_are_no_map_are_refused(end_layout):
    square = StitchLayer(IN, OUT, end_layout=end_layout)
    with pytest.raises(ValueError, match="12 tokens are no square map; for another, give grid"):
        square(torch.zeros(B, 12, IN))
    with pytest.raises(ValueError, match=r"197 tokens are no square map.*If 1 of them are class or register tokens"):
        square(torch.zeros(B, 197, IN))
    given = StitchLayer(IN, OUT, end_layout=end_layout, grid=(H, W))
    with pytest.raises(ValueError, match=r"17 tokens do not fill the grid 3x4\. If 5 of them are class or register"):
        given(torch.zeros(B, 17, IN))
    with pytest.raises(ValueError, match=r"11 tokens do not fill the grid 3x4$"):
        given(torch.zeros(B, 11, IN))


# --- low-rank products ----------------------------------------------------------------------------------------------

_LORA_LAYOUTS = [("tokens", "tokens"), ("nchw", "nchw"), ("nchw", "tokens")]


@pytest.mark.parametrize(("layout", "end_layout"), _LORA_LAYOUTS)
def test_the_product_is_added_over_the_rank(layout, end_layout):
    layer = _layer(IN, OUT, layout=layout, end_layout=end_layout, lora_rank=4, dtype=torch.float64)
    part = layer.transform
    assert part.lora_A.shape == (4, IN)
    assert part.lora_B.shape == (OUT, 4)
    weight = part.weight.flatten(1) + part.lora_B @ part.lora_A / 4
    expected = F.linear(_features("tokens", IN, dtype=torch.float64), weight, part.bias)
    y = rows_of(layer(_features(layout, IN, dtype=torch.float64)), end_layout)
    torch.testing.assert_close(y, expected.flatten(0, 1), atol=1e-12, rtol=1e-12)


def test_it_starts_as_the_plain_layer_and_the_matrix_stays_frozen():
    torch.manual_seed(0)
    layer = StitchLayer(IN, OUT, lora_rank=2)
    x = _randn(B, 12, IN)
    assert torch.equal(layer(x), F.linear(x, layer.transform.weight, layer.transform.bias))
    assert [n for n, p in layer.named_parameters() if not p.requires_grad] == ["transform.weight"]
    before = layer.transform.weight.clone()
    optimizer = torch.optim.SGD([p for p in layer.parameters() if p.requires_grad], lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        layer(x).square().sum().backward()
        optimizer.step()
    assert torch.equal(layer.transform.weight, before)
    assert layer.transform.lora_B.abs().max() > 0


@pytest.mark.parametrize(("layout", "end_layout"), _LORA_LAYOUTS)
def test_modes_change_neither_the_state_nor_the_outputs(layout, end_layout):
    layer = _layer(IN, OUT, layout=layout, end_layout=end_layout, lora_rank=2)
    x, state = _features(layout, IN), copy.deepcopy(layer.state_dict())
    wanted = layer.train()(x)
    for training in (False, False, True, False, True):
        assert torch.equal(layer.train(training)(x), wanted)
        assert list(layer.state_dict()) == list(state)
        assert all(torch.equal(value, state[name]) for name, value in layer.state_dict().items())


@pytest.mark.parametrize("saved_in", ["train", "eval"])
@pytest.mark.parametrize("loaded_in", ["train", "eval"])
def test_saved_twice_it_is_still_the_same(saved_in, loaded_in):
    layer = _layer(IN, OUT, lora_rank=2)
    x = _randn(B, 12, IN)
    wanted = layer(x)
    for seed in (1, 2):
        stored = save(layer.train(saved_in == "train").state_dict())
        layer = _layer(IN, OUT, lora_rank=2, seed=seed).train(loaded_in == "train")
        layer.load_state_dict(load(stored))
    assert torch.equal(layer.eval()(x), wanted)
    assert torch.equal(layer.train()(x), wanted)


@pytest.mark.parametrize(("layout", "end_layout"), [*_LORA_LAYOUTS, ("tokens", "nchw")])
@pytest.mark.parametrize("bias", [True, False])
def test_merged_gives_the_same_from_a_plain_layer(layout, end_layout, bias):
    grid = (H, W) if layout == "tokens" != end_layout else None
    options = {"layout": layout, "end_layout": end_layout, "grid": grid, "bias": bias}
    layer = _layer(IN, OUT, **options, lora_rank=2).eval()
    x, state, random = _features(layout, IN), copy.deepcopy(layer.state_dict()), torch.get_rng_state()
    merged = layer.merged()
    assert torch.equal(torch.get_rng_state(), random)
    assert merged.lora_rank == 0
    assert not merged.training
    assert list(merged.state_dict()) == ["transform.weight", *["transform.bias"] * bias]
    torch.testing.assert_close(merged(x), layer(x), atol=1e-6, rtol=1e-6)
    assert all(p.requires_grad for p in merged.parameters())
    with torch.no_grad():
        for parameter in merged.parameters():
            parameter.zero_()
    assert all(torch.equal(value, state[name]) for name, value in layer.state_dict().items())


def test_merged_at_the_widths_of_a_network():
    layer = _layer(192, 384, lora_rank=64)
    x = _randn(2, 197, 192)
    scale = layer(x).abs().max()
    torch.testing.assert_close(layer.merged()(x) / scale, layer(x) / scale, atol=1e-6, rtol=0.0)
    half = copy.deepcopy(layer).bfloat16()
    part = half.transform
    exact = part.weight.double() + part.lora_B.double() @ part.lora_A.double() / 64
    torch.testing.assert_close(half.merged().transform.weight, exact.bfloat16(), atol=0.0, rtol=2**-8)


def test_merged_of_a_plain_layer_is_a_copy():
    layer = _layer(IN, OUT)
    merged = layer.merged()
    assert torch.equal(merged.transform.weight, layer.transform.weight)
    assert merged.transform.weight.data_ptr() != layer.transform.weight.data_ptr()


# --- refusals -------------------------------------------------------------------------------------------------------


def test_bad_options():
    with pytest.raises(ValueError, match="at least 1, got 0 and 4"):
        StitchLayer(0, 4)
    with pytest.raises(ValueError, match="lora_rank must be at least 0, got -1"):
        StitchLayer(3, 4, lora_rank=-1)
    with pytest.raises(ValueError, match=r"unknown layout 'token'; did you mean 'tokens'.*nchw \(batch, channels"):
        StitchLayer(3, 4, layout="token")
    with pytest.raises(ValueError, match=r"unknown layout 'NCHW'; did you mean 'nchw'"):
        StitchLayer(3, 4, end_layout="NCHW")
    with pytest.raises(ValueError, match="grid is for tokens that become a map, not for 'nchw' to 'tokens'"):
        StitchLayer(3, 4, layout="nchw", end_layout="tokens", grid=(2, 2))
    with pytest.raises(ValueError, match=r"grid must be \(height, width\), both at least 1, got \(0, 4\)"):
        StitchLayer(3, 4, end_layout="nhwc", grid=(0, 4))


@pytest.mark.parametrize(
    ("layout", "shape"), [("tokens", (2, 12, 4)), ("tokens", (2, 3, 4, 5)), ("nhwc", (2, 5, 3, 4)), ("nchw", (2, 3, 5))]
)
def test_features_of_another_layout_or_width(layout, shape):
    layer = StitchLayer(IN, OUT, layout=layout)
    with pytest.raises(ValueError, match=r"front features must be .* with 5 channels, got the shape"):
        layer(torch.zeros(shape))
    with pytest.raises(ValueError, match="pair 0: front features must be"):
        layer.fit([(torch.zeros(shape), torch.zeros(shape))])


def _refused(words, pairs, error=ValueError, *, layer=None, **options):
    """Refused with these words, and nothing changed."""
    layer = StitchLayer(IN, OUT) if layer is None else layer
    state = copy.deepcopy(layer.state_dict())
    with pytest.raises(error, match=words):
        layer.fit(pairs, **options)
    assert all(torch.equal(value, state[name]) for name, value in layer.state_dict().items())


def test_bad_data_to_fit():
    x, y = _randn(B, 12, IN), _randn(B, 12, OUT)
    _refused("at least one row", [])
    _refused("at least one row", [(x[:0], y[:0])])
    _refused(r"every feature is 0 in all 24 rows: rank 0", [(torch.zeros_like(x), y)])
    for value in (float("nan"), float("inf"), -float("inf")):
        broken = x.clone(), y.clone()
        for tensor in broken:
            tensor[1, 3, 2] = value
        _refused("pair 1: front features have NaN or infinite values", [(x, y), (broken[0], y)])
        _refused("pair 1: end features have NaN or infinite values", [(x, y), (x, broken[1])])
    _refused("pair 0: end features must be .* with 7 channels", [(x, x)])
    _refused(r"pair 1: front features \(2, 12, 5\) belong to .* \(2, 12\), got \(2, 11\)", [(x, y), (x, y[:, 1:])])
    _refused(r"belong to .* \(2, 12\), got \(1, 12\)", [(x, y[:1])])
    _refused("fit takes pairs", iter([x, y]), TypeError)  # an iterator, which the run-time checks do not look into
    _refused("rcond must be at least 0 and below 1, got 1.5", [(x, y)], rcond=1.5)
    _refused("rcond must be at least 0 and below 1, got -0.1", [(x, y)], rcond=-0.1)
    _refused("ridge must be at least 0 and finite, got -1", [(x, y)], ridge=-1.0)
    with pytest.raises(ValueError, match="to_empty"):
        StitchLayer(IN, OUT, device="meta").fit([(x, y)])


def test_prefix_tokens_and_other_maps_do_not_fit():
    x, y = _randn(B, IN, H, W), _randn(B, H * W + 1, OUT)
    _refused(
        r"\(2, 12\), got \(2, 13\)\. If 1 of them are class or register tokens",
        [(x, y)],
        layer=StitchLayer(IN, OUT, layout="nchw", end_layout="tokens"),
    )
    _refused(
        r"\(2, 3, 4\), got \(2, 4, 3\)$",
        [(x, _randn(B, 4, 3, OUT))],
        layer=StitchLayer(IN, OUT, layout="nchw", end_layout="nhwc"),
    )
    _refused(
        "13 tokens do not fill the grid 3x4. If 1 of them",
        [(_randn(B, 13, IN), _randn(B, H, W, OUT))],
        layer=StitchLayer(IN, OUT, end_layout="nhwc", grid=(H, W)),
    )


# --- contract -------------------------------------------------------------------------------------------------------


def test_it_is_in_the_catalogue():
    layer = zoo.create_module("stitch/linear", 5, 7, layout="nchw", end_layout="tokens")
    assert isinstance(layer, StitchLayer)
    assert layer(torch.zeros(2, 5, 3, 4)).shape == (2, 12, 7)
    assert zoo.module_info("stitch/linear")["contract"]["call"] == "(B, N, C) -> (B, N, C_out)"


_CONTRACT = """
from zoo.testing import check_module

for options in ({}, {"bias": False}, {"lora_rank": 2}):
    report = check_module("stitch/linear", options=options)
    assert {"attributes", "compile", "export", "dtype", "meta", "gradcheck"} <= set(report.passed), report
"""

_LAYOUTS = """
import itertools, warnings
import torch
from zoo.layers import StitchLayer
from zoo.layers.stitch import LAYOUTS

warnings.simplefilter("ignore")
shapes = {"tokens": (12, 5), "nhwc": (3, 4, 5), "nchw": (5, 3, 4)}
batch = torch.export.Dim("batch", min=1, max=64)
for (layout, end_layout), rank in itertools.product(itertools.product(LAYOUTS, LAYOUTS), (0, 2)):
    grid = (3, 4) if layout == "tokens" != end_layout else None
    layer = StitchLayer(5, 7, layout=layout, end_layout=end_layout, grid=grid, lora_rank=rank)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    x, more = torch.randn(2, *shapes[layout]), torch.randn(9, *shapes[layout])
    torch._dynamo.reset()
    compiled = torch.compile(layer, fullgraph=True, dynamic=False, backend="aot_eager")
    torch.testing.assert_close(compiled(x), layer(x), atol=1e-5, rtol=1e-5)
    program = torch.export.export(layer, (x,), dynamic_shapes=({0: batch},)).module()
    torch.testing.assert_close(program(more), layer(more), atol=1e-5, rtol=1e-5)
"""


@pytest.mark.parametrize("code", [_CONTRACT, _LAYOUTS], ids=["tokens", "layouts"])
def test_contract_compile_and_export(code):
    """In a process of its own: compilers cannot look through the session's run-time checks."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=500, check=False)
    assert done.returncode == 0, done.stderr


def test_a_pair_of_features_is_let_go_before_the_next_is_made() -> None:
    held: list[Any] = []

    def pairs() -> Any:
        for _ in range(3):
            assert all(features() is None for features in held)
            x, y = torch.randn(2, 5, 3), torch.randn(2, 5, 4)
            held.extend([weakref.ref(x), weakref.ref(y)])
            pair = [x, y]
            del x, y
            yield (pair.pop(0), pair.pop())

    StitchLayer(3, 4).fit(pairs())
    assert len(held) == 6
