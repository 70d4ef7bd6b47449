"""Checkpoints of the KAN libraries: every golden case through the converter, back again, and what is refused."""

import pytest
import torch

import zoo
from tests.layers.kan.goldens import golden
from zoo.errors import ConversionError
from zoo.layers.kan import KAN, KANAttention, KANBlock, KANLinear
from zoo.weights import convert, convert_file
from zoo.weights.converters.kan import convert_official
from zoo.weights.converters.kan_networks import from_official, kan_options, to_efficient_kan, to_fast_kan

EFFICIENT = [
    *(f"bspline_{name}" for name in ("linear_default", "linear_order1", "linear_order2", "linear_edges", "net")),
    *("bspline_grid_update", "selector_iris", "selector_breast_cancer"),
]
FAST = ["rbf_linear_default", "rbf_linear_plain", "rbf_net"]
FASTER = ["rswaf_linear_default", "rswaf_net"]
PYKAN = ["pykan_layer", "pykan_net", "pykan_net_mult", "pykan_update_refine"]
CASES = [*EFFICIENT, *FAST, *FASTER, "chebyshev_linear", *PYKAN]


def official(name):
    return golden(name).part("state")


def same(found, expected):
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[key], value) and found[key].dtype == value.dtype for key, value in expected.items())


@pytest.mark.parametrize("name", CASES)
def test_every_case_is_built_from_its_file_alone(name):
    case = golden(name)
    # An activation is not in the file, nor is a basis without a base branch.
    unsaid = {"bspline_linear_order2": {"base_activation": "tanh"}, "rbf_linear_plain": {"basis": "gaussian"}}
    model = from_official(case.part("state"), **unsaid.get(name, {}))
    place = next(key for key in ("out.y", "out.y_before") if key in case.tensors)
    torch.testing.assert_close(model(case.tensors["in.x"]), case.tensors[place], atol=1e-5, rtol=0)


def test_knots_that_all_inputs_share_are_stored_once():
    new, notes = convert_official(official("bspline_linear_default"))
    assert new["basis.knots"].shape == (1, 12)
    assert "once: all 6 inputs have the same" in notes[0]
    own = official("bspline_linear_default")
    own["grid"] = own["grid"] + torch.arange(6.0).unsqueeze(1)
    new, _ = convert_official(own)
    assert torch.equal(new["basis.knots"], own["grid"])
    assert from_official(own).basis.knots.shape == (6, 12)


def test_a_number_that_the_forward_pass_ignores_is_told():
    new, notes = convert_official(official("rswaf_net"))
    assert not any("inv_denominator" in key for key in new)
    assert [note for note in notes if "inv_denominator" in note] == [
        f"dropped layers.{i}.rbf.inv_denominator, 0.5: the released forward pass never reads it" for i in (0, 1)
    ]


def test_a_layer_of_fast_kan_or_of_faster_kan_asks_which():
    plain, case = official("rbf_linear_plain"), golden("rswaf_net")
    switches = {key: value for key, value in case.part("state").items() if not key.endswith("inv_denominator")}
    for state, place in ((plain, "the layer"), (switches, r"layers\.0")):
        for read in (from_official, kan_options):
            with pytest.raises(ConversionError, match=rf"{place} has centres and no base .* or basis='switch'"):
                read(state)
        assert any("or of faster-kan if rbf.inv_denominator" in note for note in convert_official(state)[1])
    assert not any("or of faster-kan" in note for note in convert_official(official("rbf_net"))[1])
    assert kan_options(plain, basis="gaussian")["basis"] == "gaussian"
    case.check(from_official(switches, basis="switch")(case.tensors["in.x"]), case.tensors["out.y"])


def test_containers_and_prefixes_are_taken_off():
    state = official("bspline_net")
    model = from_official({"state_dict": {f"module.{key}": value for key, value in state.items()}, "epoch": 3})
    case = golden("bspline_net")
    case.check(model(case.tensors["in.x"]), case.tensors["out.y"])
    assert kan_options({"model": state}) == kan_options(state)


def test_attention_of_fast_kan():
    case = golden("rbf_attention")
    new, _ = convert_official(case.part("state"))
    model = KANAttention(**case.meta["kwargs"])
    model.load_state_dict(new)
    given = case.part("in")
    case.check(model(given["q"], given["k"], given["v"], given["bias"]), case.tensors["out.y"])
    with pytest.raises(ConversionError, match=r"linear_g, .* are not those of a network"):
        from_official(case.part("state"))


@pytest.mark.parametrize("name", EFFICIENT)
def test_back_to_efficient_kan(name):
    state = official(name)
    new, _ = convert_official(state)
    same(to_efficient_kan(new), state)
    same(to_efficient_kan(from_official(state).state_dict()), state)


@pytest.mark.parametrize("name", [*FAST, "rbf_attention"])
def test_back_to_fast_kan(name):
    state = official(name)
    same(to_fast_kan(convert_official(state)[0]), state)


def test_what_is_ours_stays_and_is_built():
    model = KAN([3, 4, 2], layer=KANLinear.fast)
    new, _ = convert_official(model.state_dict())
    same(new, dict(model.state_dict()))
    x = torch.randn(5, 3)
    assert torch.equal(from_official(model.state_dict())(x), model(x))
    for options in ({}, {"affine": True}):
        multiplied = KAN([3, (1, 2), 2], arity=2, **options)
        assert torch.equal(from_official(multiplied.state_dict())(x), multiplied(x))
    polynomials = KANLinear.chebyshev(3, 2, degree=6).double()
    again = from_official(polynomials.state_dict())
    assert torch.equal(again(x.double()), polynomials(x.double()))


# --- pykan ---


def test_edges_that_pykan_masks_are_masked():
    new, _ = convert_official(official("pykan_layer"))
    expected = torch.ones(3, 4, dtype=torch.bool)
    expected[2, 0] = False
    assert torch.equal(new["mask"], expected)
    assert not any(key.endswith("mask") for key in convert_official(official("pykan_net"))[0])


def test_affine_maps_go_into_edges_and_biases_unless_nodes_are_multiplied():
    state = official("pykan_net")
    new, _ = convert_official(state)
    scale = state["node_scale_0"] * state["subnode_scale_0"]
    shift = state["node_scale_0"] * state["subnode_bias_0"] + state["node_bias_0"]
    torch.testing.assert_close(new["layers.0.bias"], shift)
    torch.testing.assert_close(new["layers.0.base_weight"], state["act_fun.0.scale_base"].T * scale[:, None])
    assert not any(key.startswith("nodes") for key in new)
    multiplied = kan_options(official("pykan_net_mult"))
    assert (multiplied["sizes"], multiplied["arity"], multiplied["affine"]) == ([3, (2, 2), 1], 2, True)
    assert kan_options(official("pykan_net_mult"), arity=3)["sizes"] == [3, (3, 1), 1]
    with pytest.raises(ConversionError, match="4 nodes of 6 sums, which cannot be products of 4"):
        kan_options(official("pykan_net_mult"), arity=4)
    assert "bias" not in " ".join(convert_official(official("pykan_update_refine"))[0])


def test_gradients_through_converted_nodes():
    case = golden("pykan_net_mult")
    model = from_official(case.part("state"))
    x = case.tensors["in.x"].clone().requires_grad_()
    model(x).backward(case.tensors["in.cotangent"])
    torch.testing.assert_close(x.grad, case.tensors["grad.input"], atol=1e-4, rtol=1e-4)
    coefficients = model.layers[0].weight.grad.transpose(0, 1)
    torch.testing.assert_close(coefficients, case.tensors["grad.act_fun.0.coef"], atol=1e-4, rtol=1e-4)


# --- refused ---


def test_names_without_a_place_are_listed():
    state = {**official("bspline_net"), "layers.0.extra": torch.zeros(1), "head.scale": torch.zeros(1)}
    with pytest.raises(ConversionError, match=r"2 of 10 names have no place .*: layers\.0\.extra, head\.scale; known"):
        convert_official(state)
    with pytest.raises(ConversionError, match=r"1 of 5 names .*: rbf\.grid"):
        convert_official({**official("bspline_linear_default"), "rbf.grid": torch.zeros(8)})
    with pytest.raises(ConversionError, match=r"2 of 2 names .*: conv\.weight, fc\.bias"):
        convert_official({"conv.weight": torch.zeros(2, 2), "fc.bias": torch.zeros(2)})
    with pytest.raises(ConversionError, match="empty"):
        convert_official({})


def test_convolutions_are_built_by_other_classes():
    with pytest.raises(ConversionError, match="these are convolutional layers: build them by KANConv2d, GramConv2d"):
        from_official(official("conv2d_rbf"))


def test_sizes_that_disagree_are_listed():
    state = official("bspline_linear_default")
    state["base_weight"] = state["base_weight"][:4]
    state["grid"] = state["grid"][:, :9]
    with pytest.raises(ConversionError, match=r"base_weight has the shape \(4, 6\).*; knots of the shape \(1, 9\)"):
        convert_official(state)
    net = official("bspline_net")
    net |= {f"layers.1.{key}": value for key, value in official("bspline_linear_default").items()}
    net["layers.1.spline_scaler"] = net["layers.1.spline_scaler"][:, :5]
    with pytest.raises(ConversionError, match=r"layers\.1\.edge_scale has the shape \(5, 5\), for \(5, 6\)"):
        convert_official(net)
    other = official("rbf_net")
    other |= {f"layers.1.{key}": value for key, value in official("rbf_linear_default").items()}
    with pytest.raises(ConversionError, match=r"layers\.0 gives 8 numbers, layers\.1 takes 6"):
        convert_official(other)
    with pytest.raises(ConversionError, match=r"layers\.0 to layers\.0 were expected, found \[1\]"):
        convert_official({key: value for key, value in other.items() if key.startswith("layers.1.")})
    flat = official("rbf_linear_default")
    flat["spline_linear.weight"] = flat["spline_linear.weight"][:, :47]
    with pytest.raises(ConversionError, match=r"spline_linear\.weight \(5, 47\) has no 8 columns an input"):
        convert_official(flat)


def test_what_pykan_has_and_a_kan_has_not():
    state = official("pykan_net")
    symbolic = {**state, "symbolic_fun.1.mask": torch.ones(2, 4)}
    with pytest.raises(ConversionError, match=r"edges that are symbolic \(8 of layer 1\)"):
        convert_official(symbolic)
    with pytest.raises(ConversionError, match=r"subnode_bias_0 has 3 numbers, for 4"):
        convert_official({**state, "subnode_bias_0": state["subnode_bias_0"][:3]})
    del state["node_bias_1"]
    with pytest.raises(ConversionError, match=r"layer 1 lacks node_bias_1"):
        convert_official(state)


def test_layouts_that_have_no_place_for_it():
    with pytest.raises(ConversionError, match=r"efficient-kan: no place for bias, .*; nothing for basis\.knots"):
        to_efficient_kan(KANLinear.fast(3, 2).state_dict())
    with pytest.raises(ConversionError, match=r"fast-kan: no place for edge_scale, basis\.knots; nothing for basis\.c"):
        to_fast_kan(KANLinear(3, 2).state_dict())
    with pytest.raises(ConversionError, match="fast-kan: it is empty"):
        to_fast_kan({})


# --- by name, and on disk ---


def test_by_the_name_of_a_layer_class():
    converted = convert({"model": official("bspline_net"), "epoch": 3}, "KAN")
    model = KAN([4, 6, 3])
    model.load_state_dict(converted)
    case = golden("bspline_net")
    case.check(model(case.tensors["in.x"]), case.tensors["out.y"])
    assert converted.report.num_classes is None


def test_on_disk(tmp_path):
    case = golden("rbf_net")
    torch.save(case.part("state"), tmp_path / "official.pth")
    report = convert_file(tmp_path / "official.pth", tmp_path / "kan.safetensors", "KAN", allow_pickle=True)
    assert report.tensors == 12
    model = KAN([5, 8, 3], layer=KANLinear.fast)
    zoo.load_weights(model, tmp_path / "kan.safetensors")
    case.check(model(case.tensors["in.x"]), case.tensors["out.y"])


@pytest.mark.parametrize(
    ("name", "back"), [("kan_bspline", to_efficient_kan), ("kan_rbf", to_fast_kan), ("kan_switch", None)]
)
def test_a_network_becomes_a_model_of_the_catalogue(tmp_path, name, back):
    model = zoo.create_model(name, pretrained=True).eval()
    state = model.kan.state_dict()
    torch.save(state if back is None else back(state), tmp_path / "official.pth")
    report = convert_file(tmp_path / "official.pth", tmp_path / "model", name, allow_pickle=True)
    assert report.num_classes == 10
    x = torch.rand(3, 1, 8, 8)
    assert torch.equal(zoo.create_model(f"local-dir:{tmp_path / 'model'}").eval()(x), model(x))


def test_a_model_takes_the_widths_knots_and_masks_of_the_network():
    torch.manual_seed(0)
    kan = KAN([64, 6, 5, 3], layer=KANLinear.efficient)
    kan.update_grid(torch.rand(50, 64))
    kan.layers[1].mask_edges(torch.rand(5, 6) > 0.5)
    converted = convert(kan.state_dict(), "kan_bspline")
    options = {"hidden_sizes": [6, 5], "own_knots": [0, 1, 2], "masked": [1]}
    assert (converted.report.num_classes, converted.report.options) == (3, options)
    model = zoo.create_model("kan_bspline", num_classes=3, **options)
    model.load_state_dict(converted)
    x = torch.rand(4, 64)
    assert torch.equal(model(x.view(4, 1, 8, 8)), kan(x))
    with pytest.raises(ConversionError, match=r"kan\.layers\.0\.weight has shape \(6, 63, 8\), the model's is"):
        convert(KAN([63, 6, 3], layer=KANLinear.efficient).state_dict(), "kan_bspline")


def test_layers_that_keep_the_official_names_keep_them():
    block = KANBlock(4)
    same(convert(block.state_dict(), "KANBlock"), dict(block.state_dict()))
    same(convert(block.state_dict(), "FasterKAN"), dict(block.state_dict()))
