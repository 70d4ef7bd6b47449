"""Checkpoints of torch-conv-kan: groups joined, columns put in order, and what is refused."""

import pytest
import torch

from tests.layers.kan.goldens import golden
from zoo.errors import ConversionError
from zoo.layers.kan.conv import GramConv2d
from zoo.weights import convert
from zoo.weights.converters.kan import convert_official


def official(name):
    return golden(name).part("state")


def test_groups_become_one_convolution_with_the_functions_first():
    state = official("conv2d_rbf")
    new, notes = convert_official(state)
    assert {name: tuple(value.shape) for name, value in new.items()} == {
        "base_conv.weight": (6, 2, 3, 3),
        "basis_conv.weight": (6, 10, 3, 3),
        "basis.centers": (5,),
    }
    # Output 4 is number 1 of the second group; function 3 of its channel 1.
    assert torch.equal(new["basis_conv.weight"][4, 3 * 2 + 1], state["spline_conv.1.weight"][1, 1 * 5 + 3])
    assert notes == ["joined 2 groups of convolutions of the layer"]


def test_polynomials_of_groups():
    state = {
        "poly_weights": torch.randn(2, 3, 8, 3, 3),
        "beta_weights": torch.randn(4),
        "base_conv.0.weight": torch.randn(3, 2, 3, 3),
        "base_conv.1.weight": torch.randn(3, 2, 3, 3),
        **{f"layer_norm.{i}.{end}": torch.randn(3) for i in range(2) for end in ("weight", "bias")},
    }
    layer = GramConv2d(4, 6, groups=2)
    layer.load_state_dict(convert(state, "GramConv2d"))
    assert torch.equal(layer.basis_conv.weight[4], state["poly_weights"][1, 1])
    assert torch.equal(layer.norm.bias[3:], state["layer_norm.1.bias"])


def test_slopes_of_groups_become_those_of_channels():
    state = official("conv2d_bspline")
    new, notes = convert_official(state)
    assert new["activation.weight"].shape == (1,)
    assert "cubic splines on [-1, 1]" in notes[0]
    torch.testing.assert_close(new["basis.knots"], torch.arange(-3.0, 8.0)[None] / 2 - 1)
    halves = {}
    for name, value in state.items():
        part, _, end = name.split(".")
        halves |= {f"{part}.{i}.{end}": value if part == "prelus" else value[2 * i : 2 * i + 2] for i in range(2)}
    halves["prelus.1.weight"] = torch.tensor([0.5])
    new, _ = convert_official(halves)
    assert new["activation.weight"].tolist() == [*state["prelus.0.weight"].tolist()] * 2 + [0.5, 0.5]


def test_a_layout_that_is_not_known_is_refused():
    state = official("vgg_kagn_bn_tiny")
    state["features.7.attention.q.weight"] = torch.zeros(1)
    with pytest.raises(
        ConversionError,
        match=r"1 of \d+ names .*: features\.7\.attention\.q\.weight\..*vgg_kagn_bn11_v4_opt and vgg_kagn_bn11sa_v4",
    ):
        convert_official(state)


@pytest.mark.parametrize(
    ("name", "key", "message"),
    [
        ("conv2d_gram", "beta_weights", r"beta_weights has 4 numbers, for 5 functions of 3 channels"),
        ("conv2d_gram", "base_conv.0.weight", r"kernels of the basis \(6, 15, 3, 3\) and of the base \(5, 3, 3, 3\)"),
        ("conv2d_gram", "layer_norm.0.weight", r"layer_norm has 5 channels, for 6"),
        ("conv2d_gram_bottleneck", "inner_proj.0.weight", r"inner_proj has the shape \(7, 8, 1, 1\), for \(8, 8\)"),
        ("conv2d_rbf", "rbf.grid", r"rbf\.grid has 4 numbers, for 5 functions of 2 channels"),
    ],
)
def test_sizes_that_disagree(name, key, message):
    state = official(name)
    state[key] = state[key][:-1]
    with pytest.raises(ConversionError, match=message):
        convert_official(state)


def test_parts_that_are_missing():
    grouped = official("conv2d_rbf")
    del grouped["spline_conv.1.weight"]
    with pytest.raises(ConversionError, match=r"spline_conv has the groups \[0\], of 2"):
        convert_official(grouped)
    half = official("conv2d_gram_bottleneck")
    del half["out_proj.0.weight"]
    with pytest.raises(ConversionError, match="one of inner_proj and out_proj alone"):
        convert_official(half)
    bare = {"poly_weights": official("conv2d_gram")["poly_weights"], "beta_weights": torch.zeros(5)}
    with pytest.raises(ConversionError, match="the layer lacks"):
        convert_official(bare)
