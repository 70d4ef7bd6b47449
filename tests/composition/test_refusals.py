"""What cannot be done is refused when the model is built, by an error that names the way out."""

from __future__ import annotations

import re

import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

import zoo
from tests.composition.helpers import Doubled, Shifted, build
from tests.composition.models import SMALL_SWIN, images
from zoo.errors import (
    ConfigError,
    MismatchError,
    RegistrationError,
    UnknownModelError,
    UnknownModuleError,
    UnsupportedSurgery,
)
from zoo.registry import default_registry

VIT = {"img_size": 64, "depth": 2, "embed_dim": 48, "num_heads": 3, "num_classes": 5}


class Mixer(nn.Module):
    """Takes neither masks nor rotations, and no windows."""

    def __init__(self, dim, num_heads=8):
        super().__init__()

    def forward(self, x):
        return x


class OfWindows(Mixer):
    windows = True


class OddLayout(Mixer):
    layout = "NCHW"


class Halving(Mixer):
    def forward(self, x):
        return x[:, ::2]


class Widening(Doubled):
    def forward(self, x):
        return torch.cat((x, x), -1)


class Crashing(Doubled):
    def forward(self, x):
        raise KeyError("no such table")


class TooManyLogits(nn.Linear):
    def __init__(self, in_features, out_features):
        super().__init__(in_features, out_features + 1)


def three(in_features, out_features):
    return 3


@pytest.mark.parametrize(
    ("parts", "error", "message"),
    [
        # Names.
        ({"mlp": "kann"}, UnknownModuleError, r"unknown module 'mlp/kann'; did you mean 'mlp/kan'"),
        ({"mlp": "dina"}, UnknownModuleError, r"unknown module 'mlp/dina'.*exists as 'mixer/dina'"),
        ({"mlp": "head/kan"}, UnknownModuleError, r"'head/kan' is of kind 'head'.*place of a mlp.*kind='mlp'"),
        ({"mlp": "heat/kan"}, UnknownModuleError, r"unknown kind 'heat'; did you mean 'head'"),
        ({"mlp": ""}, UnknownModuleError, r"unknown module 'mlp/'; did you mean"),
        ({"head": "head/kam"}, UnknownModuleError, r"did you mean 'head/kan'"),
        (
            {"mlp": {"type": "mlp", "act_layer": {"type": "act/sillu"}}},
            UnknownModuleError,
            r"unknown module 'act/sillu'; did you mean 'act/silu'",
        ),
        # Forms.
        ({"mlp": ["kan"]}, TypeError, r"mlp must be the name of a module, .*got \['kan'\].*kind='mlp'"),
        ({"mlp": False}, TypeError, r"got False"),
        ({"mlp": dict}, TypeError, r"mlp must be a class of torch.nn.Module, got <class 'dict'>"),
        ({"head": nn.Linear(48, 5)}, TypeError, r"head must be a class, not a module that is built already"),
        ({"head": three}, TypeError, r"three made a int, not a torch.nn.Module"),
        ({"mlp": {"type": "kan", "init": "copy"}}, ValueError, r"init must be 'match' or 'own', got 'copy'"),
        # Options.
        (
            {"mlp": {"type": "kan", "grid_sise": 3}},
            TypeError,
            r"mlp/kan takes no argument 'grid_sise'; did you mean 'grid_size', .*Accepted: .*hidden_features",
        ),
        ({"mlp": {"type": Doubled, "size": 3}}, TypeError, r"Doubled takes no argument 'size'. Accepted: hidden"),
        ({"head": {"type": "kan", "hidden_ratio": 2}}, TypeError, r"head/kan takes no argument 'hidden_ratio'"),
        ({"mlp": {"type": "kan", "in_features": 3}}, ValueError, r"in_features of mlp/kan comes from the backbone"),
        ({"head": {"type": "kan", "out_features": 3}}, ValueError, r"out_features of head/kan comes from the backbone"),
        ({"mixer": {"type": "attention", "dim": 3}}, ValueError, r"dim of mixer/attention comes from the backbone"),
        ({"mlp": {"type": "mlp", "hidden_ratio": -1}}, ValueError, r"hidden_ratio must be .* greater than 0, got -1"),
        ({"mlp": {"type": "mlp", "hidden_ratio": True}}, ValueError, r"hidden_ratio must be a number .* got True"),
        (
            {"mlp": {"type": "mlp", "hidden_ratio": 2, "hidden_features": 3}},
            ValueError,
            r"hidden_ratio and hidden_features both",
        ),
        # Values of options, refused by the module itself.
        (
            {"head": {"type": "tversky", "intersection": "prodct"}},
            UnsupportedSurgery,
            r"^head/tversky refuses its options: intersection must be one of .*got 'prodct'; did you mean 'product'\?; "
            r"built for 'head' with in_features 48, out_features 5$",
        ),
        (
            {"head": {"type": "tversky", "init": "unifrm"}},
            UnsupportedSurgery,
            r"^head/tversky refuses its options: init must be one of .*got 'unifrm'; did you mean 'uniform'",
        ),
        (
            {"head": {"type": "tversky", "num_features": 0}},
            UnsupportedSurgery,
            r"^head/tversky refuses its options: num_features must be an integer of at least 1, got 0; ",
        ),
        # Sizes.
        (
            {"mixer": {"type": "attention", "num_heads": 5}},
            UnsupportedSurgery,
            r"mixer/attention does not fit 'blocks.0.attn' \(dim 48\): dim must be .*multiple of num_heads.*48.*5",
        ),
        (
            {"mixer": {"type": "neighborhood", "kernel_size": 7}},
            UnsupportedSurgery,
            r"does not run with mixer/neighborhood in it: .*kernel_size 7 .* > 4 positions; .*kernel_size <= 4",
        ),
        ({"mixer": {"type": "dina", "kernel_size": 3}}, UnsupportedSurgery, r"kernel_size 3 x dilation 2 = 6 > 4"),
        ({"mixer": Halving}, UnsupportedSurgery, r"vit_tiny_patch16_224 does not run with Halving in it: .*"),
        ({"mlp": Widening}, UnsupportedSurgery, r"does not run with Widening in it: .*96"),
        ({"mlp": Crashing}, UnsupportedSurgery, r"does not run with Crashing in it: .*no such table"),
        (
            {"head": TooManyLogits},
            UnsupportedSurgery,
            r"with TooManyLogits in it gives \(2, 6\), where \(2, 5\) is expected",
        ),
        ({"mixer": OddLayout}, UnsupportedSurgery, r"OddLayout declares layout 'NCHW'; a mixer's is 'NLC', 'NHWC'"),
        # Places.
        (
            {"mlp": {"type": "kan", "where": "layers.*"}},
            UnsupportedSurgery,
            r"selects nothing: the places for mlp of vit_tiny_patch16_224 are 'blocks.0.mlp', 'blocks.1.mlp'$",
        ),
        ({"mlp": {"type": "kan", "where": [2]}}, UnsupportedSurgery, r"beyond the places for mlp.*there are 2"),
        ({"mlp": {"type": "kan", "where": "last:3"}}, UnsupportedSurgery, r"asks for 3 places.*there are 2"),
        ({"head": {"type": "kan", "where": [1]}}, UnsupportedSurgery, r"there are 1, 'head'"),
        ({"mlp": {"type": "kan", "where": {"first": 1}}}, TypeError, r"where must be 'all', 'first:k'"),
        ({"mlp": {"type": "kan", "where": "first:0"}}, ValueError, r"k a whole number from 1"),
        (
            {"mlp": {"type": "kan", "where": "patch_embed.*"}},
            UnsupportedSurgery,
            r"selects modules that change the shape of their input: \['patch_embed.proj'",
        ),
    ],
)  # fmt: skip
def test_bad_parts_are_refused_at_build(parts, error, message):
    with pytest.raises(error, match=message):
        zoo.create_model("vit_tiny_patch16_224", **parts, **VIT)


@pytest.mark.parametrize(
    ("base", "options", "parts", "message"),
    [
        ("resnet18", {}, {"mlp": "kan"}, "resnet18 has no mlp that can be replaced; kinds .* in it: act, pool, head$"),
        ("resnet18", {}, {"mixer": "attention"}, "resnet18 has no mixer .*in it: act, pool, head$"),
        ("mobilenetv3_small_100", {}, {"mlp": "kan"}, "has no mlp that can be replaced"),
        ("coat_tiny", {}, {"pool": "avg"}, "coat_tiny has no pool .*its features are several tensors; kinds"),
        (
            "swin_tiny_patch4_window7_224",
            SMALL_SWIN,
            {"mixer": Mixer},
            r"Mixer cannot take the place of 'layers.0.blocks.0.attn': it is given windows.*`windows = True`",
        ),
        (
            "swin_tiny_patch4_window7_224",
            SMALL_SWIN,
            {"mixer": OfWindows},
            r"'layers.0.blocks.1.attn': it is given mask, and the mixer's forward takes no attn_mask",
        ),
        (
            "eva02_tiny_patch14_224",
            {"img_size": 28, "depth": 1},
            {"mixer": Mixer},
            r"'blocks.0.attn': positions come as rotary embeddings \(rope\), which the mixer's forward does not take",
        ),
        (
            "vit_tiny_patch16_224",
            {**VIT, "dynamic_img_size": True},
            {"mixer": Shifted},
            "with dynamic_img_size the grid is not known; build the model with dynamic_img_size=False",
        ),
        ("vit_tiny_patch16_224", VIT, {"mixer": Shifted}, "leaves out the class token"),
    ],
)
def test_what_a_backbone_has_not_or_gives_otherwise(base, options, parts, message):
    with pytest.raises(UnsupportedSurgery, match=message):
        zoo.create_model(base, **parts, **options)


def test_a_mask_that_a_mixer_cannot_honour_is_refused_at_the_call():
    model = build("vit_tiny_patch16_224", mixer=Mixer, **VIT)
    attention, x = model.blocks[0].attn, torch.randn(1, 5, 48)
    assert torch.equal(attention(x, attn_mask=None, is_causal=False), x)
    with pytest.raises(UnsupportedSurgery, match="Mixer was given attn_mask: its forward takes no attn_mask"):
        attention(x, attn_mask=torch.zeros(1, 1, 5, 5))
    with pytest.raises(UnsupportedSurgery, match="Mixer was asked for causal attention, which it has not"):
        attention(x, is_causal=True)


def test_tokens_that_are_no_grid_any_more_are_refused_at_the_call():
    model = build("vit_tiny_patch16_224", mixer={"type": "neighborhood", "kernel_size": 3}, **VIT)
    with pytest.raises(UnsupportedSurgery, match=r"10 tokens came where 1 \+ 4 x 4 were expected.*set_input_size"):
        model.blocks[0].attn(torch.randn(1, 10, 48))


def test_an_error_leaves_no_half_composed_model():
    model = build("vit_tiny_patch16_224", **VIT)
    before = {n: type(m) for n, m in model.named_modules()}
    from zoo.composition import Spec, compose_onto

    with pytest.raises(UnsupportedSurgery):
        compose_onto(model, Spec.of({"base": "vit_tiny_patch16_224", "mlp": "kan", "mixer": Halving, **VIT}))
    assert {n: type(m) for n, m in model.named_modules()} == before


@pytest.mark.parametrize("base", ["zoo_composite"])
def test_the_form_of_compositions_is_no_backbone(base):
    for call in (
        lambda: zoo.create_model(base),
        lambda: zoo.create_model(base, head="kan"),
        lambda: zoo.compose({"base": base, "head": "kan"}),
        lambda: timm.create_model(base),
    ):
        with pytest.raises(ValueError, match=r"a spec needs a 'base', the name of a model; got \{.*\}$"):
            call()


@pytest.mark.parametrize(
    ("spec", "error", "message"),
    [
        ({"head": "kan"}, ConfigError, "a spec needs a 'base'"),
        ({"base": "resnet5O", "head": "kan"}, UnknownModelError, "unknown model 'resnet5O'; did you mean 'resnet50'"),
        ({"base": "resnet18.x", "head": "kan"}, UnknownModelError, "'resnet18' has no checkpoint tagged 'x'"),
        ({"base": "resnet18", "heads": "kan"}, TypeError, "resnet18 takes no argument 'heads'"),
        ({"base": "resnet18", "head": "kam"}, UnknownModuleError, "did you mean 'head/kan'"),
        ({"base": "resnet18", "head": "kan", "num_classes": "5"}, TypeError, "num_classes must be an int"),
    ],
)
def test_specs_that_describe_nothing(spec, error, message):
    with pytest.raises(error, match=message):
        zoo.compose(spec)


@pytest.mark.parametrize(
    ("name", "spec", "error", "message"),
    [
        ("a b", {"base": "resnet18", "head": "kan"}, ValueError, "letters, digits, '_' and '-', got 'a b'"),
        ("a.b", {"base": "resnet18", "head": "kan"}, ValueError, "got 'a.b'"),
        ("", {"base": "resnet18", "head": "kan"}, ValueError, "got ''"),
        (None, {"base": "resnet18", "head": "kan"}, ValueError, "got None"),
        ("medvit2_kan_nano", {"base": "resnet18", "head": "kan"}, RegistrationError, "already registered"),
        ("resnet18", {"base": "resnet18", "head": "kan"}, RegistrationError, "timm already has a model"),
        ("of_nothing", {"head": "kan"}, ConfigError, "a spec needs a 'base'"),
        ("of_nothing", {"base": "resnet5O", "head": "kan"}, UnknownModelError, "did you mean 'resnet50'"),
        ("of_nothing", {"base": "of_nothing", "head": "kan"}, UnknownModelError, "unknown model 'of_nothing'"),
        ("of_nothing", {"base": "resnet18", "head": "kam"}, UnknownModuleError, "did you mean 'head/kan'"),
        ("of_nothing", "resnet18", TypeError, "a spec is a mapping"),
    ],
)  # fmt: skip
def test_registering_a_spec_under_a_wrong_name_or_a_wrong_spec(name, spec, error, message):
    with pytest.raises(error, match=message):
        zoo.register_spec(name, spec)
    assert "of_nothing" not in default_registry()._entries


def test_a_feature_extractor_of_no_kind():
    with pytest.raises(
        ValueError, match="feature_cls must be one of 'list', 'dict', 'hook', 'fx', 'getter', got 'foo'"
    ):
        zoo.create_model("test_vit", mlp="kan", features_only=True, feature_cls="foo")


def test_weights_of_the_plain_backbone_have_their_own_way_in(tmp_path):
    path = tmp_path / "model.safetensors"
    torch.manual_seed(1)
    plain = timm.create_model("test_resnet", num_classes=5).eval()
    save_file(plain.state_dict(), path)
    options = {"head": {"type": "linear", "init": "match"}, "num_classes": 5}
    with pytest.raises(MismatchError, match=r"4 missing: fc.*Weights of test_resnet as it is") as failure:
        zoo.create_model("test_resnet", head="kan", num_classes=5, checkpoint_path=path)
    way = re.search(r"pretrained=True, pretrained_cfg_overlay=(\{.*\})", str(failure.value))
    assert way is not None
    model = zoo.create_model(
        "test_resnet", **options, **eval(f"dict(pretrained=True, pretrained_cfg_overlay={way[1]})")
    )
    x = images(plain)
    with torch.no_grad():
        assert torch.equal(model.eval()(x), plain(x))
    # Parts without parameters change no names: the file fits as it is.
    with torch.no_grad():
        other = zoo.create_model("test_resnet", pool="avg", num_classes=5, checkpoint_path=path).eval()
        assert torch.allclose(other(x), plain(x), atol=1e-6)


def test_one_head_of_two_is_replaced_and_stays_the_one():
    model = build("deit_tiny_distilled_patch16_224", head={"type": "kan", "where": [1]}, **VIT)
    assert [type(m).__name__ for m in (model.head, model.head_dist)] == ["Linear", "KANHead"]
    model.reset_classifier(3)
    assert [type(m).__name__ for m in (model.head, model.head_dist)] == ["Linear", "KANHead"]
    assert (model.head.out_features, model.head_dist.out_features) == (3, 3)


def test_a_model_of_something_else_than_images():
    pytest.importorskip("transformers")
    small = {"n_layer": 1, "n_embd": 8, "n_head": 2, "vocab_size": 11, "n_positions": 6, "num_features": 4}
    with pytest.raises(UnsupportedSurgery, match=r"TverskyGPT2 is no image model .* forward_features"):
        zoo.create_model("tversky_gpt2_tied", head="kan", **small)


@pytest.mark.parametrize("name", ["hopfield_mil", "deeprc_cnn"])
def test_a_model_of_bags(name):
    with pytest.raises(UnsupportedSurgery, match="takes bags of instances; parts are replaced in models of images"):
        zoo.create_model(name, pool="avg")
