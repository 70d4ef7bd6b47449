"""What is replaced, what is not, and how the new part is built."""

from __future__ import annotations

import copy
import json

import pytest
import timm
import torch
from timm.layers import Mlp as TimmMlp
from torch import nn

import zoo
from tests.composition.helpers import Doubled, MaxPool, MeanAndMax, Running, build, call_of, registered, vary
from tests.composition.models import SMALL_SWIN, images
from zoo.composition import Spec, compose_onto, replaceable
from zoo.composition.specialise import original_class
from zoo.errors import UnsupportedSurgery
from zoo.layers.kan import KANHead, KANMlp
from zoo.layers.neighborhood import NeighborhoodAttention2d
from zoo.layers.plain import AveragePool, Linear, Mlp

SHIFTED = "layers.0.blocks.1.attn"
VIT = {"img_size": 64, "depth": 3, "embed_dim": 48, "num_heads": 3, "num_classes": 5}


def plain(base, **options):
    torch.manual_seed(0)
    return timm.create_model(base, **options).eval()


@pytest.mark.parametrize(
    ("base", "options", "slot", "choice", "paths"),
    [
        ("vit_tiny_patch16_224", VIT, "mlp", {"type": "kan", "where": "last:1"}, ["blocks.2.mlp"]),
        ("vit_tiny_patch16_224", VIT, "mlp", {"type": "kan", "where": [-1, 0]}, ["blocks.0.mlp", "blocks.2.mlp"]),
        ("vit_tiny_patch16_224", VIT, "mixer", {"type": "attention", "where": "*.1.*"}, ["blocks.1.attn"]),
        ("vit_tiny_patch16_224", VIT, "act", {"type": "silu", "where": "*.1.*"}, ["blocks.1.mlp.act"]),
        ("test_resnet", {}, "head", {"type": "kan"}, ["fc"]),
        ("test_resnet", {}, "pool", {"type": "avg"}, ["global_pool"]),
        ("test_resnet", {}, "act", {"type": "silu", "where": "layer2.*"}, ["layer2.0.act1", "layer2.0.act2"]),
        ("test_convnext", {}, "mlp", {"type": "mlp", "where": "stages.3.*.0.*"}, ["stages.3.blocks.0.mlp"]),
        ("swin_tiny_patch4_window7_224", SMALL_SWIN, "mixer", {"type": "attention", "where": [1]}, [SHIFTED]),
    ],
)  # fmt: skip
def test_the_chosen_places_change_and_nothing_else_does(base, options, slot, choice, paths):
    model, old = build(base, **{slot: choice}, **options), plain(base, **options)
    assert [c.path for c in model.zoo_composition.changes] == paths
    inside = tuple(f"{p}." for p in paths)
    before, after = old.state_dict(), model.state_dict()
    assert {k for k in before if not k.startswith(inside)} == {k for k in after if not k.startswith(inside)}
    assert [k for k in before if not k.startswith(inside) and not torch.equal(before[k], after[k])] == []
    for name, module in model.named_modules():
        if name and name not in paths and not name.startswith(inside):
            assert type(module) is type(old.get_submodule(name)), name
    for path in paths:
        assert original_class(model.get_submodule(path)) is model.zoo_composition.spec.choices[slot].target


def test_new_parts_have_the_old_dotted_names():
    model = build("vit_tiny_patch16_224", mlp={"type": "kan", "where": [1]}, head="kan", **VIT)
    names = set(model.state_dict())
    assert {n for n in names if n.startswith("blocks.1.mlp.")} == {
        f"blocks.1.mlp.{n}" for n in KANMlp(48, 192).state_dict()
    }
    assert {n for n in names if n.startswith("head.")} == {f"head.{n}" for n in KANHead(48, 5).state_dict()}


@pytest.mark.parametrize(
    ("base", "options", "path"),
    [
        ("dla46x_c", {}, "fc"),
        ("dpn48b", {}, "classifier"),
        ("resnetv2_18", {"channels": (16, 16, 24, 24)}, "head.fc"),
        ("tf_mobilenetv3_small_minimal_100", {}, "classifier"),
    ],
)
def test_a_head_in_the_place_of_a_convolution_has_no_wrapper_in_its_names(base, options, path):
    model = build(base, head="linear", num_classes=5, **options)
    old = plain(base, num_classes=5, **options)
    leaf, was = model.get_submodule(path), old.get_submodule(path)
    assert {n for n in model.state_dict() if n.startswith(path)} == {f"{path}.weight", f"{path}.bias"}
    assert original_class(leaf) is Linear
    with torch.no_grad():
        leaf.weight.copy_(was.weight.flatten(1))
        leaf.bias.copy_(was.bias)
        x = images(model)
        # A convolution adds in another order.
        assert torch.allclose(model(x), old(x), rtol=1e-4, atol=1e-5)


def test_an_unpooled_map_is_classified_at_every_position():
    model = build("resnetv2_18", head="linear", num_classes=5, global_pool="", channels=(16, 16, 24, 24))
    x = images(model)
    with torch.no_grad():
        features = model.forward_head(model.forward_features(x), pre_logits=True)
        out = model(x)
    assert out.shape == (2, 5, 7, 7)
    assert torch.allclose(out[1, :, 2, 3], model.head.fc(features[1:, :, 2:3, 3:4]).flatten(), atol=1e-6)


@pytest.mark.parametrize(
    ("base", "options", "leaves"),
    [
        ("deit_tiny_distilled_patch16_224", VIT, ["head", "head_dist"]),
        ("efficientformer_l1", {"num_classes": 5}, ["head", "head_dist"]),
        ("crossvit_tiny_240", {"num_classes": 5}, ["head.0", "head.1"]),
    ],
)
def test_every_leaf_of_the_classifier_gets_a_head_of_its_own_size(base, options, leaves):
    model, old = build(base, head={"type": "kan", "grid_size": 3}, **options), plain(base, **options)
    assert [c.path for c in model.zoo_composition.changes] == leaves
    heads = [model.get_submodule(leaf) for leaf in leaves]
    assert len({id(h) for h in heads}) == len(leaves)
    for leaf, head in zip(leaves, heads, strict=True):
        assert (type(head), head.in_features, head.out_features) == (KANHead, old.get_submodule(leaf).in_features, 5)
    model.reset_classifier(3)
    for leaf in leaves:
        head = model.get_submodule(leaf)
        assert (type(head), head.out_features, head.basis.num_bases) == (KANHead, 3, 3)


def test_a_shared_module_stays_shared():
    old = plain("coat_lite_tiny", num_classes=5)
    model = build("coat_lite_tiny", num_classes=5, mlp="kan")
    assert len(list(model.named_modules(remove_duplicate=False))) > len(list(model.named_modules()))

    def shared(m):
        groups = {}
        for name, module in m.named_modules(remove_duplicate=False):
            groups.setdefault(id(module), []).append(name)
        return [names for names in groups.values() if len(names) > 1]

    assert shared(model) == shared(old)
    twice = nn.Sequential(nn.GELU(), nn.Linear(2, 2))
    twice.append(twice[0])
    from zoo.composition.slots import replace_module

    new = nn.ReLU()
    replace_module(twice, "0", new)
    assert twice[0] is twice[2] is new


def test_options_of_the_old_part_are_taken_over_and_the_users_win():
    options = {**VIT, "proj_drop_rate": 0.125, "mlp_ratio": 3.0, "qkv_bias": False, "attn_drop_rate": 0.25}
    model = build("vit_tiny_patch16_224", mlp={"type": "mlp", "where": "first:2"}, mixer="attention", **options)
    for block in model.blocks[:2]:
        assert (block.mlp.fc1.out_features, block.mlp.fc2.in_features) == (144, 144)
        assert (block.mlp.drop1.p, block.mlp.drop2.p) == (0.125, 0.125)
        assert original_class(block.mlp) is Mlp
    assert type(model.blocks[2].mlp) is TimmMlp
    for block in model.blocks:
        attention = block.attn
        assert (attention.num_heads, attention.qkv.bias) == (3, None)
        assert (attention.attn_drop.p, attention.proj_drop.p) == (0.25, 0.125)
    own = build(
        "vit_tiny_patch16_224",
        mlp={"type": "mlp", "drop": 0.5, "hidden_features": 7, "act_layer": "silu", "bias": False},
        mixer={"type": "attention", "num_heads": 2, "qkv_bias": True},
        **options,
    )
    for block in own.blocks:
        assert (block.mlp.fc1.out_features, block.mlp.drop1.p, block.mlp.fc1.bias) == (7, 0.5, None)
        assert isinstance(block.mlp.act, nn.SiLU)
        assert (block.attn.num_heads, block.attn.qkv.bias is None) == (2, False)


@pytest.mark.parametrize(("ratio", "hidden"), [(0.5, 24), (2, 96), (0.01, 1)])
@pytest.mark.parametrize("where", ["all", "first:2"])
def test_hidden_ratio_is_relative_to_the_width(ratio, hidden, where):
    model = build("vit_tiny_patch16_224", mlp={"type": "mlp", "hidden_ratio": ratio, "where": where}, **VIT)
    assert [b.mlp.fc1.out_features for b in model.blocks[:2]] == [hidden, hidden]


def test_the_activation_and_the_width_of_the_old_part_are_told_by_its_layers():
    model = build("tiny_vit_5m_224", mlp={"type": "mlp", "where": [0]}, num_classes=5)
    assert isinstance(model.get_submodule(model.zoo_composition.changes[0].path).act, nn.GELU)
    # A gated part holds both halves in its first layer: what enters the last one is its width.
    swiglu = build("eva02_tiny_patch14_224", mlp={"type": "mlp", "where": [0]}, img_size=56, depth=1)
    old = plain("eva02_tiny_patch14_224", img_size=56, depth=1)
    assert swiglu.blocks[0].mlp.fc1.out_features == old.blocks[0].mlp.fc2.in_features


def test_the_bias_of_the_leaf_is_taken_over():
    assert build("test_resnet", head="kan").fc.bias is not None
    model = build("test_resnet", head={"type": "kan", "bias": False})
    assert model.fc.bias is None
    model.reset_classifier(4)
    assert model.fc.bias is None


def test_the_native_path_puts_the_same_parts_in_the_same_places():
    parts = {"mlp": {"type": "kan", "grid_size": 3}, "mixer": "attention", "act": "silu"}
    for slot, choice in parts.items():
        native = build("vit_tiny_patch16_224", **{slot: choice}, **VIT)
        in_place = build("vit_tiny_patch16_224", **VIT)
        spec = Spec.of({"base": "vit_tiny_patch16_224", slot: choice, **VIT})
        compose_onto(in_place, spec)
        assert [(n, original_class(m)) for n, m in native.named_modules()] == [
            (n, original_class(m)) for n, m in in_place.named_modules()
        ]
        assert {k: v.shape for k, v in native.state_dict().items()} == {
            k: v.shape for k, v in in_place.state_dict().items()
        }
        assert [c.path for c in native.zoo_composition.changes] == [c.path for c in in_place.zoo_composition.changes]
        assert native.zoo_spec == in_place.zoo_spec
        in_place.load_state_dict(native.state_dict())
        x = images(native)
        with torch.no_grad():
            assert torch.equal(native(x), in_place(x))


def test_the_native_path_is_taken_for_random_weights_everywhere_only():
    def initialised(model):
        # timm draws the weights of the layers that its own constructor knows with a std of 0.02.
        return bool(model.blocks[0].mlp.fc1.weight.std() < 0.03)

    assert initialised(build("vit_tiny_patch16_224", mlp="mlp", **VIT))
    assert not initialised(build("vit_tiny_patch16_224", mlp={"type": "mlp", "where": "first:3"}, **VIT))


def test_parts_are_replaced_one_inside_another():
    inside = build("vit_tiny_patch16_224", mlp="mlp", act="silu", **VIT)
    assert [type(b.mlp.act) for b in inside.blocks] == [nn.SiLU] * 3
    # Activations that went with the old parts are no places any more; those that are left are.
    some = build("vit_tiny_patch16_224", mlp={"type": "kan", "where": [0]}, act="silu", **VIT)
    assert [c.path for c in some.zoo_composition.changes if c.slot == "act"] == ["blocks.1.mlp.act", "blocks.2.mlp.act"]
    with pytest.raises(UnsupportedSurgery, match=r"'blocks.0.mlp.act'.*inside of what mlp=KANMlp replaces"):
        build("vit_tiny_patch16_224", mlp="kan", act="silu", **VIT)


def test_a_pattern_names_any_module_that_keeps_the_shape():
    model = build("test_resnet", mlp={"type": Doubled, "where": "layer2.0.bn1"})
    assert original_class(model.layer2[0].bn1) is Doubled
    given, _, out = call_of(model, "layer2.0.bn1", images(model))
    assert torch.equal(out, given * torch.arange(1.0, given.shape[1] + 1)[:, None, None])
    # Of modules in one another it is the outermost.
    outer = build("test_vit", img_size=32, mlp={"type": Doubled, "where": "blocks.1*"})
    assert [c.path for c in outer.zoo_composition.changes if c.path.startswith("blocks.1.")] == ["blocks.1.mlp"]
    whole = build("test_vit", img_size=32, mlp={"type": Doubled, "where": "block[s].1"})
    assert original_class(whole.blocks[1]) is Doubled


def test_an_average_in_the_place_of_the_own_one_changes_nothing():
    for base in ("test_resnet", "test_convnext", "test_efficientnet", "test_mambaout"):
        model, old = build(base, pool="avg"), plain(base)
        x = images(model)
        with torch.no_grad():
            assert torch.allclose(model(x), old(x), atol=1e-5), base


@pytest.mark.parametrize("base", ["test_vit", "deit_tiny_distilled_patch16_224"])
def test_an_average_of_tokens_is_timms_with_the_same_weights(base):
    options = {"img_size": 64, "num_classes": 5}
    model = build(base, pool="avg", **options)
    x = images(model)
    with torch.no_grad():
        tokens = model.forward_features(x)
        mean = tokens[:, model.num_prefix_tokens :].mean(1)
        if base == "test_vit":
            other = plain(base, global_pool="avg", fc_norm=False, **options)
            other.load_state_dict(model.state_dict())
            assert torch.allclose(model(x), other(x), atol=1e-6)
            assert torch.allclose(model(x), model.head(model.fc_norm(mean)), atol=1e-6)
        else:
            assert torch.allclose(model(x), (model.head(mean) + model.head_dist(mean)) / 2, atol=1e-6)


@pytest.mark.parametrize(
    ("base", "options"),
    [
        ("test_vit", {"img_size": 64, "global_pool": "avg"}),
        ("test_resnet", {}),
        ("test_convnext", {}),
        ("test_efficientnet", {}),
        ("swin_tiny_patch4_window7_224", SMALL_SWIN),
    ],
)
def test_pools_see_every_token_of_the_map_and_no_other(base, options):
    model = vary(build(base, pool=MaxPool, num_classes=5, **options))
    old = plain(base, num_classes=5, **options, **({"global_pool": "max"} if base != "test_vit" else {}))
    x = images(model)
    with torch.no_grad():
        if base == "test_vit":
            features = model.forward_features(x)[:, model.num_prefix_tokens :].amax(1)
            expected = model.head(model.fc_norm(features))
        else:
            old.load_state_dict(model.state_dict())
            expected = old(x)
        assert torch.allclose(model(x), expected, atol=1e-5)


@pytest.mark.parametrize(
    ("base", "options", "norm", "head"),
    [
        ("test_vit", {"img_size": 64, "global_pool": "avg", "fc_norm": True}, "fc_norm", "head"),
        ("test_vit", {"img_size": 64}, "fc_norm", "head"),
        ("test_convnext", {}, "head.norm", "head.fc"),
        ("test_resnet", {}, "", "fc"),
        ("swin_tiny_patch4_window7_224", SMALL_SWIN, "", "head.fc"),
    ],
)
@pytest.mark.parametrize("kind", [None, "kan"])
def test_a_pool_that_concatenates_widens_what_follows(base, options, norm, head, kind):
    model = vary(build(base, pool=MeanAndMax, num_classes=5, **options, **({"head": kind} if kind else {})))
    width = 2 * model.num_features
    assert (model.get_submodule(head).in_features, model.head_hidden_size) == (width, width)
    assert type(model.get_submodule(head)) is (KANHead if kind else nn.Linear)
    x = images(model)
    with torch.no_grad():
        features = model.forward_features(x)
        if features.ndim == 3:
            tokens = features[:, model.num_prefix_tokens :]
        else:
            tokens = features.flatten(1, 2) if features.shape[-1] == model.num_features else features.flatten(2).mT
        pooled = torch.cat((tokens.mean(1), tokens.amax(1)), 1)
        if norm and not isinstance(layer := model.get_submodule(norm), nn.Identity):
            assert layer.normalized_shape == (width,)
            pooled = nn.functional.layer_norm(pooled, (width,), layer.weight, layer.bias, layer.eps)
        expected = model.get_submodule(head)(pooled)
        assert torch.allclose(model(x), expected, atol=1e-5)
        model.reset_classifier(3)
        assert (model.get_submodule(head).in_features, model.get_submodule(head).out_features) == (width, 3)
        assert model(x).shape == (2, 3)
        model.reset_classifier(0)
        assert torch.allclose(model(x), pooled, atol=1e-5)
    # The backbone's own pooling again: everything as wide as it was.
    model.reset_classifier(4, "avg")
    assert (model.get_submodule(head).in_features, model.head_hidden_size) == (model.num_features, model.num_features)
    assert "pool" not in model.zoo_spec
    with torch.no_grad():
        assert model(x).shape == (2, 4)


def test_one_pool_after_another():
    model = vary(build("test_convnext", pool=MeanAndMax, num_classes=5))
    compose_onto(model, Spec.of({"base": "test_convnext", "pool": "avg", "num_classes": 5}))
    old = plain("test_convnext", num_classes=5)
    assert {k: v.shape for k, v in model.state_dict().items()} == {k: v.shape for k, v in old.state_dict().items()}
    old.load_state_dict(model.state_dict())
    x = images(model)
    with torch.no_grad():
        assert torch.allclose(model(x), old(x), atol=1e-5)


def test_an_attention_pool_is_pooled_away_too():
    options = {"global_pool": "map", "class_token": False, "img_size": 64, "num_classes": 5}
    model = build("test_vit", pool="avg", mlp="mlp", **options)
    assert "attn_pool.mlp" in [s.path for s in replaceable(plain("test_vit", **options))["mlp"].slots]
    assert {c.path for c in model.zoo_composition.changes if c.path.startswith("attn_pool")} == {"attn_pool"}
    x = images(model)
    with torch.no_grad():
        expected = model.head(model.fc_norm(model.forward_features(x)[:, model.num_prefix_tokens :].mean(1)))
        assert torch.allclose(model(x), expected, atol=1e-5)


def test_without_classes_the_chosen_head_waits_for_reset_classifier():
    model = build("test_convnext", head={"type": "kan", "grid_size": 3}, num_classes=0)
    assert model.zoo_composition.changes == []
    x = images(model)
    with torch.no_grad():
        features = model(x)
    assert features.shape == (2, model.num_features)
    model.reset_classifier(6)
    head = model.head.fc
    assert (type(head), head.out_features, head.basis.num_bases) == (KANHead, 6, 3)
    assert model.zoo_spec["num_classes"] == 6
    with torch.no_grad():
        assert torch.allclose(model.eval()(x), head(features), atol=1e-6)
    model.reset_classifier(0)
    with torch.no_grad():
        assert torch.equal(model(x), features)


def test_reset_classifier_keeps_kind_options_place_type_and_mode():
    model = build("resnetv2_18", head={"type": "kan", "grid_range": [-1.0, 1.0]}, channels=(16, 16, 24, 24))
    model = model.to(torch.float64)
    rest = {k: v.clone() for k, v in model.state_dict().items() if not k.startswith("head.fc")}
    model.reset_classifier(4)
    head = model.head.fc
    assert (original_class(head), head.out_features, head.basis.grid_range) == (KANHead, 4, (-1.0, 1.0))
    assert {p.dtype for p in head.parameters()} == {torch.float64}
    assert all(torch.equal(v, model.state_dict()[k]) for k, v in rest.items())
    with torch.no_grad():
        assert model.eval()(images(model).double()).shape == (2, 4)


def test_mixers_on_maps_follow_to_another_size():
    mixer = {"type": "neighborhood", "kernel_size": 3}
    model = build("vit_tiny_patch16_224", mixer=mixer, **VIT)
    assert model.blocks[0].attn.zoo_grid == (4, 4, 1)
    model.set_input_size(img_size=(48, 96))
    assert model.blocks[0].attn.zoo_grid == (3, 6, 1)
    direct = build("vit_tiny_patch16_224", mixer=mixer, **{**VIT, "img_size": (48, 96)})
    direct.load_state_dict(model.state_dict())
    x = torch.randn(2, 3, 48, 96)
    with torch.no_grad():
        assert torch.equal(model(x), direct(x))


def test_device_dtype_and_mode_are_those_of_what_was_there():
    model = zoo.create_model("test_vit", mlp="kan", head="kan", mixer="attention", img_size=32, dtype=torch.bfloat16)
    assert {p.dtype for p in model.parameters()} == {torch.bfloat16}
    assert all(m.training for m in model.modules())
    assert all(p.requires_grad for p in model.parameters())
    base = timm.create_model("test_vit", img_size=32).double().eval()
    base.requires_grad_(False)
    base.head.train()
    compose_onto(
        base, Spec.of({"base": "test_vit", "mlp": {"type": Doubled, "where": [0]}, "head": "kan", "img_size": 32})
    )
    assert {p.dtype for p in base.parameters()} == {torch.float64}
    assert base.blocks[0].mlp.factor.dtype == torch.float64
    assert (base.training, base.blocks[0].mlp.training, base.head.training) == (False, False, True)
    assert {n.partition(".")[0] for n, p in base.named_parameters() if p.requires_grad} == {"head"}
    with torch.device("meta"):
        on_meta = zoo.create_model("test_vit", mlp="kan", head="kan", img_size=32)
    assert {p.device.type for p in on_meta.parameters()} == {"meta"}


def test_a_module_without_parameters_or_options_fits_too():
    with registered("mixer", "running", Running):
        model = build("vit_tiny_patch16_224", mixer="running", mlp=Doubled, **VIT)
    assert sum(p.numel() for p in model.blocks[0].mlp.parameters()) == 0
    x = images(model)
    given, _, out = call_of(model, "blocks.1.mlp", x)
    assert torch.equal(out, given * torch.arange(1.0, 49.0))


def test_composing_again_adds_and_keeps():
    first = build("vit_tiny_patch16_224", mlp={"type": "kan", "where": [0]}, **VIT)
    kept = copy.deepcopy(first.blocks[0].mlp.state_dict())
    spec = Spec.of({**first.zoo_spec, "head": "kan", "pool": "avg"})
    compose_onto(first, spec)
    assert json.loads(json.dumps(first.zoo_spec)) == {**spec.to_dict(), "in_chans": 3}
    assert [(c.slot, c.path) for c in first.zoo_composition.changes] == [
        ("mlp", "blocks.0.mlp"),
        ("pool", "zoo_pool"),
        ("head", "head"),
    ]
    assert all(torch.equal(v, first.blocks[0].mlp.state_dict()[k]) for k, v in kept.items())
    assert isinstance(first.zoo_pool, AveragePool)


def test_places_are_told_by_kind():
    places = replaceable(plain("test_vit", img_size=32))
    assert {slot: len(found.slots) for slot, found in places.items()} == {
        "mlp": 6, "mixer": 6, "act": 6, "pool": 1, "head": 1,
    }  # fmt: skip
    assert set(replaceable(plain("test_resnet"))) == {"act", "pool", "head"}
    composed = build("vit_tiny_patch16_224", mlp="kan", mixer={"type": "neighborhood", "kernel_size": 3}, **VIT)
    again = replaceable(composed)
    assert [s.path for s in again["mlp"].slots] == [f"blocks.{i}.mlp" for i in range(3)]
    assert [type(composed.get_submodule(s.path)).__name__ for s in again["mixer"].slots] == [
        NeighborhoodAttention2d.__name__
    ] * 3


@pytest.mark.parametrize(
    ("base", "parts", "options", "size", "pool"),
    [
        ("vit_tiny_patch16_224", {"mlp": {"type": "kan", "where": [0]}, "pool": "avg"}, VIT, (32, 64), None),
        ("swin_tiny_patch4_window7_224", {"mlp": "mlp", "pool": "avg"}, SMALL_SWIN, (128, 128), "max"),
        ("test_vit", {"mlp": "mlp", "pool": "avg"}, {}, None, "avg"),
        ("test_resnet", {"act": "silu", "pool": "avg"}, {}, None, "max"),
    ],
)
@pytest.mark.filterwarnings("ignore::UserWarning:timm.layers.interpolate")
def test_the_spec_is_that_of_the_model_as_it_is_now(base, parts, options, size, pool):
    model = build(base, **parts, **options)
    if size is not None:
        model.set_input_size(img_size=size)  # Swin's windows change with it
        assert model.zoo_spec["img_size"] == list(size)
    model.reset_classifier(3)
    assert model.zoo_spec["num_classes"] == 3
    assert "global_pool" not in model.zoo_spec
    if pool is not None:
        model.reset_classifier(4, pool)
        assert (model.zoo_spec["global_pool"], "pool" in model.zoo_spec) == (pool, False)
    again = zoo.compose(model.zoo_spec).eval()
    again.load_state_dict(model.state_dict())
    x = images(again)
    with torch.no_grad():
        assert torch.equal(again(x), model.eval()(x))
