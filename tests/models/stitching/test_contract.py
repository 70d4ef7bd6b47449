"""timm's contract for stitched networks: classifiers, groups, image size, features of the current path."""

from __future__ import annotations

import copy
import fnmatch
import subprocess
import sys
import textwrap
from typing import Any

import pytest
import timm
import torch
from timm.models import group_parameters
from torch import nn

import zoo
from tests.models.stitching.golden import network_of
from zoo.errors import UnknownStitchError
from zoo.models.stitching.anchors import AnchorSpec
from zoo.models.stitching.network import StitchNet

#: Small networks of every family, with the size of their images.
WIDTHS = (8, 16)
FAMILIES: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "vit": (
        {"name": "vit_tiny_patch16_224", "depth": 4, "patch_size": 8},
        [{"embed_dim": w, "num_heads": 2} for w in WIDTHS],
    ),
    "levit": (
        {"name": "levit_128s", "key_dim": 8, "num_heads": [2] * 3, "depth": [2] * 3},
        [{"embed_dim": [w, w, 2 * w]} for w in WIDTHS],
    ),
    "swin": (
        {"name": "swin_tiny_patch4_window7_224", "depths": [2, 2, 3, 1], "num_heads": [2] * 4},
        [{"embed_dim": w} for w in WIDTHS],
    ),
    "resnet": ({"name": "resnet18"}, [{"channels": [w, w, 2 * w, 2 * w]} for w in WIDTHS]),
    "convnext": ({"name": "convnext_atto", "depths": [2] * 4}, [{"dims": [w, w, 2 * w, 2 * w]} for w in WIDTHS]),
}
SIDE = 64


def make(family: str, **options: Any) -> Any:
    torch.manual_seed(0)
    shared, own = FAMILIES[family]
    size = {} if family in ("resnet", "convnext") else {"img_size": SIDE}
    anchors = [{**shared, **widths} for widths in own]
    return zoo.create_model("snnet", anchors=anchors, num_classes=5, **size, **options).eval()


def build(family: str) -> tuple[StitchNet, torch.Tensor]:
    net = make(family)
    net._unsure = False  # random layers are what these tests are about
    return net, torch.randn(2, 3, SIDE, SIDE)


def stitched(net: StitchNet) -> int:
    return next(config.id for config in net._configs if config.cuts and config.usable)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_and_head_are_the_forward_pass(family: str) -> None:
    net, x = build(family)
    for number in (0, 1, stitched(net), len(net._configs) - 1):
        net.set_stitch(number)
        features = net.forward_features(x)
        assert torch.equal(net.forward_head(features), net(x))
        assert features.shape[net.feature_dim] == net.num_features
        assert net.forward_head(features, pre_logits=True).shape == (2, net.head_hidden_size)
        assert net.output_fmt == getattr(net.anchors[net._path.end], "output_fmt", {3: "NLC", 4: "NCHW"}[features.ndim])


@pytest.mark.parametrize("family", FAMILIES)
def test_intermediates_are_those_of_an_anchor_alone(family: str) -> None:
    """A path of one anchor gives what timm's own method gives, of staged networks for every stage."""
    net, x = build(family)
    for number, model in enumerate(net.anchors):
        net.set_stitch(number)
        final, maps = net.forward_intermediates(x)
        last, theirs = model.forward_intermediates(x)  # type: ignore[operator]
        theirs = theirs[len(theirs) - len(maps) :]  # a ResNet also gives its stem
        assert len(maps) == len(net.feature_info)
        torch.testing.assert_close(final, last)
        for ours, other in zip(maps, theirs, strict=True):
            torch.testing.assert_close(ours, other)
    with pytest.raises(ValueError, match="must be between"):
        net.forward_intermediates(x, [99])
    with pytest.raises(ValueError, match="output_fmt must be"):
        net.forward_intermediates(x, output_fmt="NHWC")


@pytest.mark.parametrize("family", FAMILIES)
def test_intermediates_of_a_stitched_path(family: str) -> None:
    net, x = build(family)
    net.set_stitch(stitched(net))
    final, maps = net.forward_intermediates(x)
    assert torch.equal(final, net.forward_features(x))
    widths = [row["num_chs"] for row in net.feature_info]
    assert [m.shape[1] for m in maps] == widths
    assert len(set(widths)) > 1
    for row, features in zip(net.feature_info, maps, strict=True):
        assert features.shape[2] == -(-x.shape[2] // row["reduction"])
        assert isinstance(net.get_submodule(row["module"]), nn.Module)
    early = net.forward_intermediates(x, [0], stop_early=True, intermediates_only=True)
    assert torch.equal(early[0], maps[0])
    backwards = net.forward_intermediates(x, [-1, 0], intermediates_only=True)
    assert torch.equal(backwards[0], maps[-1])
    assert torch.equal(backwards[1], maps[0])
    tokens = net.forward_intermediates(x, 1, output_fmt="NLC", intermediates_only=True)[0]
    assert torch.equal(tokens, maps[-1].flatten(2).transpose(1, 2))


def test_the_norm_of_intermediates_and_prefix_tokens() -> None:
    net, x = build("vit")
    net.set_stitch(stitched(net))
    final, rows = net.forward_intermediates(x, norm=True, return_prefix_tokens=True)
    end = [row["module"].startswith("anchors.1.") for row in net.feature_info]
    _, plain = net.forward_intermediates(x)
    assert [not torch.equal(a, b) for (a, _), b in zip(rows, plain, strict=True)] == end  # of the last anchor alone
    joined = torch.cat([rows[-1][1], rows[-1][0].flatten(2).transpose(1, 2)], dim=1)
    assert torch.equal(joined, final)
    named = net.forward_intermediates(x, 1, norm=True, return_prefix_tokens=True, output_dict=True)
    assert sorted(named) == ["image_features", "image_intermediates", "image_intermediates_prefix"]
    assert torch.equal(named["image_features"], final)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_only_keeps_what_it_needs(family: str) -> None:
    net, x = build(family)
    number = stitched(net)
    features = make(family, features_only=True, stitch=number)
    inner = features.model
    assert isinstance(inner, StitchNet)
    inner.load_state_dict({key: value for key, value in net.state_dict().items() if key in inner.state_dict()})
    net.set_stitch(number)
    staged = len(net._anchors[0].stages) > 1
    wanted = net.forward_intermediates(x, None if staged else 3, intermediates_only=True)
    given = features(x)
    assert features.feature_info.channels() == [m.shape[1] for m in given]
    for ours, other in zip(given, wanted, strict=True):
        assert torch.equal(ours, other)
    sum(m.mean() for m in given).backward()
    assert [name for name, p in inner.named_parameters() if p.grad is None] == []
    path = sum(p.numel() for p in inner.parameters())
    assert path < sum(p.numel() for p in net.parameters()) / 2 + sum(p.numel() for p in net.anchors[1].parameters())
    with pytest.raises(UnknownStitchError, match=f"features of stitch {number} alone are left"):
        inner.set_stitch(0)
    assert inner.set_stitch(number).id == number
    assert (inner.num_classes, inner.get_classifier()) == (0, ())
    with pytest.raises(ValueError, match="were cut off"):
        inner.reset_classifier(3)


def test_pruning_to_an_inner_feature_drops_all_behind_it() -> None:
    net, x = build("swin")
    net.set_stitch(stitched(net))
    wanted = net.forward_intermediates(x, [0, 1], intermediates_only=True)
    assert net.prune_intermediate_layers([-4, 1]) == [0, 1]
    assert all(map(torch.equal, net.forward_intermediates(x, [0, 1], intermediates_only=True), wanted))
    assert not [
        key
        for key in net.state_dict()
        if ".layers.2." in key or ".head." in key or (key.endswith("norm.weight") and key.count(".") == 3)
    ]
    assert net.num_features == wanted[-1].shape[1]
    kept, x = build("vit")
    before = kept(x)
    assert kept.prune_intermediate_layers(1, prune_head=False)
    assert torch.equal(kept(x), before)
    kept.reset_classifier(2)
    assert kept(x).shape == (2, 2)


@pytest.mark.parametrize("family", FAMILIES)
def test_classifiers_of_all_anchors(family: str) -> None:
    net, x = build(family)
    heads = net.get_classifier()
    assert len(heads) == (4 if family == "levit" else 2)
    named = dict(net.named_modules())
    inside = {named[name] for name in zoo.weights.adapt.classifier_names(net)}
    assert len(inside) == len(heads)
    assert all(inside & set(head.modules()) for head in heads)
    net.double().train()
    net.reset_classifier(2)
    parameters = [p for head in net.get_classifier() for p in head.parameters()]
    assert parameters
    assert all(p.dtype == torch.float64 for p in parameters)
    assert all(module.training for module in net.modules())
    net.eval()
    for number in (0, stitched(net)):
        assert net(x.double(), stitch=number).shape == (2, 2)
    net.reset_classifier(0)
    assert net.num_classes == 0
    assert net(x.double()).shape == (2, net.head_hidden_size)
    for wrong in (-1, True):
        with pytest.raises(ValueError, match="num_classes must be an int"):
            net.reset_classifier(wrong)


def test_a_pooling_that_an_anchor_does_not_have() -> None:
    net, x = build("levit")
    before = net(x)
    with pytest.raises(ValueError, match="global_pool='max' is none of a LevitDistilled"):
        net.reset_classifier(5, "max")
    assert torch.equal(net(x), before)


@pytest.mark.parametrize("family", FAMILIES)
def test_names_of_groups_and_of_what_does_not_decay(family: str) -> None:
    net, _ = build(family)
    names = [name for name, _ in net.named_parameters()]
    for a, model in enumerate(net.anchors):
        own = model.no_weight_decay() if hasattr(model, "no_weight_decay") else set()  # type: ignore[operator]
        assert {f"anchors.{a}.{name}" for name in own} <= net.no_weight_decay()
    for pattern in net.no_weight_decay():
        assert pattern.startswith("anchors.")
        if any(fnmatch.fnmatch(name, pattern) for name in names):
            continue
        anchor, _, name = pattern.rpartition(".")
        assert getattr(net.get_submodule(anchor), name, None) is None  # an optional one
    for coarse in (False, True):
        layers = group_parameters(net, net.group_matcher(coarse=coarse), reverse=True)
        assert layers.keys() == set(names)
        assert len(set(layers.values())) > 2
        last = max(layers.values())
        assert all(layers[name] == last for name in names if name.startswith("stitch_layers."))
        for a, model in enumerate(net.anchors):
            own = group_parameters(model, model.group_matcher(coarse=coarse), reverse=True)  # type: ignore[operator]
            ranks = {layers[f"anchors.{a}.{name}"]: group for name, group in own.items()}
            # What an anchor tells apart stays apart, in its order.
            assert len(ranks) == len(set(own.values()))
            assert [ranks[key] for key in sorted(ranks)] == sorted(ranks.values())


def test_groups_of_patterns_with_alternatives() -> None:
    net, _ = build("resnet")
    layers = group_parameters(net, net.group_matcher(), reverse=True)
    assert {layers[n] for n in layers if ".bn1." in n and ".layer" not in n} == {0}
    assert {layers[n] for n in layers if n.startswith(("anchors.0.conv1", "anchors.1.conv1"))} == {0}


@pytest.mark.parametrize("family", FAMILIES)
def test_checkpointed_blocks_give_the_same_gradients(family: str) -> None:
    net, x = build(family)
    net.train()
    other = copy.deepcopy(net)
    number = stitched(net)
    other.set_grad_checkpointing()
    calls: list[int] = []
    other.set_stitch(number)
    block = other._path.steps[next(i for i, s in enumerate(other._path.plan) if s.piece and s.piece.kind == "block")]
    assert isinstance(block, nn.Module)
    block.register_forward_pre_hook(lambda *_: calls.append(1))
    torch.manual_seed(1)
    net(x, stitch=number).square().mean().backward()
    torch.manual_seed(1)
    other(x, stitch=number).square().mean().backward()
    assert len(calls) == 2  # run again in the backward pass
    for (name, p), q in zip(net.named_parameters(), other.parameters(), strict=True):
        assert (p.grad is None) == (q.grad is None), name
        if p.grad is not None:
            torch.testing.assert_close(p.grad, q.grad)
    for (name, b), c in zip(net.named_buffers(), other.buffers(), strict=True):
        torch.testing.assert_close(b, c, msg=name)


def test_images_of_another_size() -> None:
    net, _ = build("vit")
    before = net.stitches[0].flops
    net.set_input_size((96, 64))
    assert net(torch.randn(1, 3, 96, 64), stitch=stitched(net)).shape == (1, 5)
    assert net.stitches[0].flops != before
    assert zoo.data_config(net)["input_size"] == (3, 96, 64)
    levit, _ = build("levit")
    assert not hasattr(levit, "set_input_size")
    convolutions, _ = build("resnet")
    convolutions.set_input_size(96)
    assert zoo.data_config(convolutions)["input_size"] == (3, 96, 96)
    assert all(p.requires_grad for p in net.parameters())


def test_tokens_that_become_maps_follow_the_size() -> None:
    options = {"depth": 2, "embed_dim": 16, "num_heads": 2, "class_token": False, "global_pool": "avg"}
    vit = {"name": "vit_tiny_patch16_224", "img_size": 64, "num_classes": 5, **options}
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 5))
    blocks = [[nn.Conv2d(24, 24, 3, padding=1), nn.Conv2d(24, 24, 3, padding=1)]]
    end = AnchorSpec(nn.Conv2d(3, 24, 16, 16), blocks, head, widths=(24,), layout="nchw", reductions=(16,))
    net = StitchNet([vit, end], cuts="paired")
    net._unsure = False
    assert net(torch.randn(1, 3, 64, 64), stitch=stitched(net)).shape == (1, 5)
    net.set_input_size((64, 96))
    assert net(torch.randn(1, 3, 64, 96), stitch=stitched(net)).shape == (1, 5)


def test_weights_can_be_drawn_anew() -> None:
    with torch.device("meta"):
        net = network_of("snnet_vit_tiny")
    net.to_empty(device="cpu")
    for p in net.parameters():
        p.data.fill_(torch.nan)
    net.init_weights()
    assert net.has_random_layers
    net._unsure = False
    assert all(torch.isfinite(p).all() for p in net.parameters())
    assert torch.isfinite(net.eval()(torch.randn(1, 3, 32, 32), stitch=4)).all()


def test_traced_by_fx_and_by_jit() -> None:
    code = """
        import torch, timm, zoo
        from torchvision.models.feature_extraction import create_feature_extractor, get_graph_node_names, NodePathTracer
        from timm.models import get_notrace_modules, get_notrace_functions
        torch.manual_seed(0)
        anchors = [{"name": "resnet18", "channels": [w] * 4} for w in (8, 16)]
        net = timm.create_model("snnet", anchors=anchors, num_classes=3, stitch=3).eval()
        net._unsure = False
        x = torch.randn(1, 3, 64, 64)
        how = dict(leaf_modules=list(get_notrace_modules()), autowrap_functions=list(get_notrace_functions()))
        names, _ = get_graph_node_names(net, tracer_kwargs=how)
        assert any(n.startswith("stitch_layers.") for n in names), names[:10]
        graph = create_feature_extractor(net, return_nodes=[names[-1]], tracer_kwargs=how)
        assert torch.equal(graph(x)[names[-1]], net(x))
        traced = torch.jit.trace(net, x)
        assert torch.equal(traced(x), net(x))
        exported = torch.export.export(net, (x,)).module()
        torch.testing.assert_close(exported(x), net(x))
    """
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


def test_composing_and_listing_know_it() -> None:
    assert timm.is_model("snnet_deit_ti_s_b")
    cfg = timm.get_pretrained_cfg("snnet_resnet18_swin_ti")
    assert cfg.classifier == ("anchors.0.fc", "anchors.1.head.fc")
    assert cfg.first_conv == ("anchors.0.conv1", "anchors.1.patch_embed.proj")
    assert cfg.crop_pct == timm.get_pretrained_cfg("swin_tiny_patch4_window7_224").crop_pct
