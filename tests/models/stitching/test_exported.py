"""Single paths taken out of a stitched network: the same answers, nothing else, and nothing shared."""

from __future__ import annotations

import copy
import gc
import json
import subprocess
import sys
import textwrap
import weakref
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import zoo
from tests.models.stitching.golden import OPEN, options_of
from tests.models.stitching.published import rows_of_table
from tests.models.stitching.test_contract import FAMILIES, build, make, stitched
from zoo.errors import ConfigError
from zoo.models.stitching.anchors import AnchorSpec
from zoo.models.stitching.network import StitchNet
from zoo.models.stitching.stitched import Stitched
from zoo.weights.save import save_safetensors

X = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))


def golden_net(name: str, **options: Any) -> Any:
    torch.manual_seed(0)
    net: Any = zoo.create_model(OPEN[name], **{**options_of(name), **options}).eval()
    for layer in net._layers():
        if layer.lora_rank:
            nn.init.normal_(layer.transform.lora_B)
    net._unsure = False
    return net


def size_of(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


@pytest.mark.parametrize("name", OPEN)
def test_every_path_gives_the_same_and_has_what_it_needs(name: str) -> None:
    net = golden_net(name)
    costs = net.costs()
    for config in net._configs:
        made = net.export(config.id)
        assert (made(X) - net(X, stitch=config.id)).abs().max() <= 1e-6
        assert size_of(made) == costs[config.id].params
        assert {key.partition(".")[0] for key in made.state_dict()} <= {"stem", "blocks", "stitch", "norm", "head"}
        assert len(made.stitch) == len(config.cuts)


@pytest.mark.parametrize("family", FAMILIES)
def test_every_family_in_float64_and_in_training(family: str) -> None:
    net, x = build(family)
    net, x = net.double(), x.double()
    number = stitched(net)
    net.set_stitch(number)
    made = net.export()
    assert torch.equal(made(x), net(x))
    assert not made.training
    trained = net.train().export(number)
    assert trained.training
    torch.manual_seed(1)
    loss = trained(x)
    (loss if isinstance(loss, torch.Tensor) else loss[0]).square().mean().backward()
    without = [name for name, p in trained.named_parameters() if p.grad is None]
    assert all(name.startswith("head.head_dist") for name in without)


@pytest.mark.parametrize(
    ("model", "table", "numbers"),
    [
        ("snnet_deit_ti_s_b", "deit_ti_s_b", (4, 24, 56)),
        pytest.param("snnet_swin_ti_s_b", "swin_ti_s_b", (13,), marks=pytest.mark.slow),
    ],
)
def test_the_published_networks(model: str, table: str, numbers: tuple[int, ...], tmp_path: Path) -> None:
    net: Any = zoo.create_model(model).eval()
    net._unsure = False
    x = torch.randn(1, 3, 224, 224)
    rows = {row["id"]: row for row in rows_of_table(table)}
    for number in numbers:
        made = net.export(number)
        with torch.no_grad():
            assert (made(x) - net(x, stitch=number)).abs().max() <= 1e-6
        # The tables of DeiT leave out the class token and the positions, and count a norm that does not run.
        tokens, norm = 198 * made.stem.cls_token.shape[-1] if "deit" in table else 0, 2 * made.num_features
        assert size_of(made) == rows[number].get("params", rows[number]["upstream_params"] + tokens - norm)
        save_safetensors(made.state_dict(), tmp_path / "path.safetensors")
        assert (tmp_path / "path.safetensors").stat().st_size == pytest.approx(4 * size_of(made), rel=0.01)


@pytest.mark.parametrize("merge", [True, False])
def test_nothing_of_the_network_is_shared(merge: bool) -> None:
    net = golden_net("snnetv2_tiny")
    made = net.export(9, merge=merge)
    before = made(X)
    own = {tensor.data_ptr() for tensor in (*made.parameters(), *made.buffers())}
    assert own.isdisjoint(tensor.data_ptr() for tensor in (*net.parameters(), *net.buffers()))
    parent = [weakref.ref(net), *(weakref.ref(module) for module in net.modules())]
    state = copy.deepcopy(net.state_dict())
    with torch.no_grad():
        for p in made.parameters():
            p.zero_()
    assert all(torch.equal(value, state[key]) for key, value in net.state_dict().items())
    made = net.export(9, merge=merge)
    del net
    gc.collect()
    assert [ref for ref in parent if ref() is not None] == []
    assert torch.equal(made(X), before)


def test_low_rank_products_are_merged_or_kept() -> None:
    net = golden_net("snnetv2_tiny")
    kept, merged = net.export(9, merge=False), net.export(9)
    assert torch.equal(kept(X), net(X, stitch=9))
    assert "stitch.0.transform.lora_A" in kept.state_dict()
    assert not [key for key in merged.state_dict() if "lora" in key]
    assert (kept.config["lora_rank"], merged.config["lora_rank"]) == (net.lora_rank, 0)
    torch.testing.assert_close(merged(X), kept(X), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", OPEN)
@pytest.mark.parametrize("number", [0, 9])
def test_saved_and_rebuilt(name: str, number: int, tmp_path: Path) -> None:
    net = golden_net(name)
    net.pretrained_cfg = {**net.pretrained_cfg, "mean": (0.1, 0.2, 0.3)}
    made = net.export(number)
    zoo.save_pretrained(made, tmp_path / "path")
    again: Any = zoo.create_model(f"local-dir:{tmp_path / 'path'}").eval()
    assert isinstance(again, Stitched)
    assert again.state_dict().keys() == made.state_dict().keys()
    assert torch.equal(again(X), made(X))
    assert zoo.data_config(again) == zoo.data_config(net) == zoo.data_config(made)
    assert again.config == made.config == json.loads(json.dumps(made.config))
    assert torch.equal(timm.create_model(f"local-dir:{tmp_path / 'path'}", pretrained=True).eval()(X), made(X))
    fresh: Any = zoo.create_model("stitched", config=made.config, num_classes=made.num_classes, img_size=32)
    fresh.load_state_dict(made.state_dict())
    assert torch.equal(fresh.eval()(X), made(X))
    assert torch.equal(copy.deepcopy(again)(X), made(X))


def test_names_of_the_network_are_kept(tmp_path: Path) -> None:
    net: Any = zoo.create_model("snnet", anchors=["test_vit.r160_in1k", "test_vit2"], num_classes=2)
    assert net.export(1).config["anchors"] == ["test_vit2"]
    assert net.export(2).config["anchors"] == ["test_vit.r160_in1k", "test_vit2"]
    zoo.save_pretrained(net.export("test_vit.r160_in1k"), tmp_path / "path")
    saved = json.loads((tmp_path / "path" / "config.json").read_text())
    assert saved["architecture"] == "stitched"
    assert saved["model_args"]["config"]["anchors"] == ["test_vit.r160_in1k"]


def test_what_the_network_became_is_exported(tmp_path: Path) -> None:
    net = golden_net("snnet_vit_tiny")
    net.reset_classifier(4)
    net.set_input_size(64)
    made = net.export(7)
    x = torch.randn(1, 3, 64, 64)
    assert torch.equal(made(x), net(x, stitch=7))
    zoo.save_pretrained(made, tmp_path / "path")
    assert torch.equal(zoo.create_model(f"local-dir:{tmp_path / 'path'}").eval()(x), made(x))


def spec(width: int, block: nn.Module | None = None) -> AnchorSpec:
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 5))
    blocks = [block or nn.Conv2d(width, width, 1) for _ in range(3)]
    return AnchorSpec(nn.Conv2d(3, width, 4, 4), [blocks], head, widths=(width,), layout="nchw")


def test_networks_without_a_name_are_exported_and_cannot_be_saved(tmp_path: Path) -> None:
    net = StitchNet([spec(4), spec(8)]).eval()
    net._unsure = False
    made = net.export(2)
    assert torch.equal(made(X), net(X, stitch=2))
    with pytest.raises(ConfigError, match=r"anchor 0 is a AnchorSpec that no name stands for.*@zoo\.register_model"):
        zoo.save_pretrained(made, tmp_path / "path")
    assert not (tmp_path / "path").exists()


def test_blocks_that_share_their_weights_still_do() -> None:
    net = StitchNet([spec(4, nn.Conv2d(4, 4, 1)), spec(8, nn.Conv2d(8, 8, 1))]).eval()
    made = net.export(0)
    assert made.blocks[0] is made.blocks[2]
    assert size_of(made) == size_of(net.anchors[0])


@pytest.mark.parametrize("family", FAMILIES)
def test_timms_contract(family: str) -> None:
    net, x = build(family)
    net.set_stitch(stitched(net))
    made = net.export()
    assert torch.equal(made.forward_head(made.forward_features(x)), made(x))
    for name in ("num_features", "head_hidden_size", "output_fmt", "feature_dim", "num_classes", "in_chans"):
        assert getattr(made, name) == getattr(net, name), name
    final, maps = made.forward_intermediates(x)
    last, theirs = net.forward_intermediates(x)
    assert torch.equal(final, last)
    assert all(map(torch.equal, maps, theirs))
    rows = made.feature_info
    assert [row["num_chs"] for row in rows] == [row["num_chs"] for row in net.feature_info]
    assert all(isinstance(made.get_submodule(row["module"]), nn.Module) for row in rows)
    whole = net.no_weight_decay()
    assert len(made.no_weight_decay()) <= len(whole)
    assert made.no_weight_decay() <= {name for name, _ in made.named_parameters()}
    groups = timm.models.group_parameters(made, made.group_matcher(), reverse=False)
    assert sorted(n for names in groups.values() for n in names) == sorted(n for n, _ in made.named_parameters())
    names = made.pretrained_cfg["classifier"]
    for name in [names] if isinstance(names, str) else names:
        assert isinstance(made.get_submodule(name), nn.Linear)
    assert isinstance(made.get_submodule(made.pretrained_cfg["first_conv"]), nn.Conv2d)
    made.set_grad_checkpointing()
    made.train()
    again = made.eval()(x)
    assert torch.equal(again, net(x))
    made.reset_classifier(3)
    assert made(x).shape == (2, 3)
    assert made.num_classes == 3
    made.reset_classifier(0)
    assert made(x).shape == (2, made.head_hidden_size)


@pytest.mark.parametrize("family", FAMILIES)
def test_features_only_of_a_path(family: str) -> None:
    net, x = build(family)
    net.set_stitch(stitched(net))
    made = net.export()
    size = {"img_size": 64} if family in ("vit", "levit", "swin") else {}
    features: Any = zoo.create_model("stitched", config=made.config, num_classes=5, features_only=True, **size).eval()
    kept = features.model.state_dict()
    features.model.load_state_dict({key: value for key, value in made.state_dict().items() if key in kept})
    wanted = made.forward_intermediates(x, None if len(net._anchors[0].stages) > 1 else 3, intermediates_only=True)
    assert all(map(torch.equal, features(x), wanted))
    assert not [key for key in kept if key.startswith("head.")]


def test_images_of_another_size() -> None:
    net, _ = build("vit")
    made = net.export(stitched(net))
    made.set_input_size((96, 64))
    x = torch.randn(1, 3, 96, 64)
    assert made(x).shape == (1, 5)
    net.set_input_size((96, 64))
    assert torch.equal(made(x), net(x, stitch=stitched(net)))
    assert zoo.data_config(made)["input_size"] == (3, 96, 64)
    swin, _ = build("swin")
    assert not hasattr(swin.export(), "set_input_size")


def test_weights_drawn_anew() -> None:
    made = make("swin").export()
    for p in made.parameters():
        p.data.fill_(torch.nan)
    made.init_weights()
    assert all(torch.isfinite(p).all() for p in made.parameters())


def test_other_classes_take_the_weights(tmp_path: Path) -> None:
    net = golden_net("snnet_vit_tiny")
    zoo.save_pretrained(net.export(8), tmp_path / "path")
    again: Any = zoo.create_model(f"local-dir:{tmp_path / 'path'}", num_classes=2, in_chans=1).eval()
    assert again(X[:, :1]).shape == (2, 2)
    assert torch.equal(again.blocks[0].attn.qkv.weight, net.anchors[0].blocks[0].attn.qkv.weight)


@pytest.mark.parametrize(
    ("config", "error", "said"),
    [
        ({"anchors": ["test_vit", "test_vit2"], "cut": [[1, 2]]}, TypeError, "'cut'; did you mean 'cuts'"),
        ({"anchors": "test_vit"}, ValueError, "a list of one anchor or more"),
        ({"anchors": ["test_vit", "test_vit2"]}, ValueError, "2 anchors have 1 cuts between them, got 0"),
        ({"anchors": ["test_vit", "test_vit2"], "cuts": [[99, 0]]}, ValueError, r"needs a last block of 0\.\.5"),
        ({"anchors": ["test_vit", "test_vit2"], "cuts": [3]}, ValueError, "a list of pairs"),
        ({"anchors": ["resnet18", "resnet34"], "cuts": [[0, 1]]}, ValueError, r"stage must be one of 0\.\.3"),
        ({"anchors": ["test_vit", "resnet34"], "cuts": [[0, 1]]}, ValueError, "equal numbers of stages"),
        (["test_vit"], TypeError, "config is a mapping with the keys anchors, cuts"),
    ],
)
def test_configs_that_are_no_path(config: Any, error: type[Exception], said: str) -> None:
    with torch.device("meta"), pytest.raises(error, match=said):
        Stitched(config)


def test_a_network_cut_to_features_is_not_exported() -> None:
    net, _ = build("vit")
    net.prune_intermediate_layers(1)
    with pytest.raises(ValueError, match="export before it is cut"):
        net.export()


def run(code: str) -> None:
    """In a process of its own: what torch compiles leaves things behind."""
    command = [sys.executable, "-W", "ignore", "-c", textwrap.dedent(code)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.parametrize("ending", ["pt2", pytest.param("onnx", marks=pytest.mark.slow)])
@pytest.mark.parametrize("family", ["vit", *(pytest.param(f, marks=pytest.mark.slow) for f in FAMILIES if f != "vit")])
def test_written_by_torch_and_as_onnx(family: str, ending: str, tmp_path: Path) -> None:
    run(f"""
        import zoo
        from tests.models.stitching.test_contract import make, stitched
        net = make({family!r})
        done = zoo.export(net.export(stitched(net)), {str(tmp_path / "path")!r} + ".{ending}")
        assert done.error is not None and done.error < 1e-5, done
    """)


def test_compiled_whole_and_block_by_block() -> None:
    run("""
        import torch
        from tests.models.stitching.test_contract import make, stitched
        net, x = make("vit"), torch.randn(2, 3, 64, 64)
        net._unsure = False
        made = net.export(stitched(net))
        wanted = made(x)
        compiled = torch.compile(made, backend="aot_eager", fullgraph=True)
        torch.testing.assert_close(compiled(x), wanted)
        counts = []
        def count(graph, inputs):
            counts.append(1)
            return graph
        net.compile_blocks(backend=count)
        for number in range(len(net._configs)):
            net(x, stitch=number)
        assert len(counts) == 2, len(counts)  # one of each width
        torch.testing.assert_close(net(x, stitch=stitched(net)), wanted)
        torch.testing.assert_close(net.export(stitched(net))(x), wanted)
    """)
