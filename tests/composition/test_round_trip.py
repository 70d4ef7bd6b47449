"""Spec to model to folder and back: bit for bit, for any composition."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import zoo
from tests.composition.models import NAMES, composed, images, output
from tests.composition.random_specs import random_spec
from zoo.composition import specialise

# Statistics of two or four channels are nobody's concern here.
pytestmark = pytest.mark.filterwarnings("ignore:the model takes . channels:UserWarning")
SEEDS = 100
IN_THE_DEFAULT_RUN = 20
IN_CI = 50


def made(spec: dict[str, Any], seed: int) -> Any:
    torch.manual_seed(seed)
    model = zoo.compose(spec).eval()
    with torch.no_grad():  # nothing may be what any constructor would make it
        for tensor in model.state_dict().values():
            if tensor.is_floating_point():
                tensor.mul_(1 + torch.rand_like(tensor) / 8)
    return model


def same_state(a: nn.Module, b: nn.Module) -> bool:
    ours, theirs = a.state_dict(), b.state_dict()
    return list(ours) == list(theirs) and all(torch.equal(ours[n], theirs[n]) for n in ours)


def round_trip(seed: int, folder: Path) -> None:
    spec = random_spec(seed)
    model = made(spec, seed)
    out = output(model)
    assert torch.isfinite(out).all()
    assert json.loads(json.dumps(model.zoo_spec)) == model.zoo_spec
    zoo.save_pretrained(model, folder / "a", verify=False)
    again = zoo.create_model(f"local-dir:{folder / 'a'}").eval()
    assert type(again) is type(model)
    assert same_state(model, again)
    assert torch.equal(output(again), out)
    lasting = {k: v for k, v in model.zoo_spec.items() if k != "drop_rate"}
    assert again.zoo_spec == lasting
    assert list(again.zoo_spec) == list(lasting)
    zoo.save_pretrained(again, folder / "b", verify=False)
    for name in ("config.json", "model.safetensors"):
        assert (folder / "a" / name).read_bytes() == (folder / "b" / name).read_bytes(), name
    if seed % 3 == 0:
        composed_anew = zoo.compose(json.loads(json.dumps(model.zoo_spec))).eval()
        composed_anew.load_state_dict(model.state_dict())
        assert torch.equal(output(composed_anew), out)
        assert composed_anew.zoo_spec == model.zoo_spec
    if seed % 5 == 0:
        theirs = timm.create_model(f"local-dir:{folder / 'a'}", pretrained=True).eval()
        assert type(theirs) is type(model)
        assert same_state(model, theirs)
        assert torch.equal(output(theirs), out)


@pytest.mark.parametrize("seed", range(IN_THE_DEFAULT_RUN))
def test_random_compositions(seed, tmp_path):
    round_trip(seed, tmp_path)


@pytest.mark.parametrize(
    "seed",
    [
        pytest.param(seed, marks=pytest.mark.ci_long if seed < IN_CI else pytest.mark.slow)
        for seed in range(IN_THE_DEFAULT_RUN, SEEDS)
    ],
)
def test_more_random_compositions(seed, tmp_path):
    round_trip(seed, tmp_path)


def test_the_compositions_are_of_every_kind_and_hardly_one_comes_twice():
    specs = [random_spec(seed) for seed in range(SEEDS)]
    assert len({json.dumps(spec) for spec in specs}) > 0.95 * SEEDS
    for slot in ("head", "mlp", "mixer", "pool", "act"):
        assert sum(slot in spec for spec in specs) > 10, slot


@pytest.mark.parametrize("name", NAMES)
def test_half_precision_comes_back_with_equal_values(name, tmp_path):
    model = composed(name).bfloat16()
    zoo.save_pretrained(model, tmp_path / "a")
    again = zoo.create_model(f"local-dir:{tmp_path / 'a'}", dtype=torch.bfloat16).eval()
    assert same_state(model, again)
    assert {p.dtype for p in again.parameters()} == {torch.bfloat16}


def backbone_state(model: nn.Module) -> dict[str, torch.Tensor]:
    heads = tuple(f"{c.path}." for c in model.zoo_composition.changes if c.slot == "head")
    names = model.pretrained_cfg["classifier"]
    heads += tuple(f"{n}." for n in ([names] if isinstance(names, str) else names))
    return {n: t for n, t in model.state_dict().items() if not n.startswith(heads)}


@pytest.mark.parametrize("reader", ["zoo", "timm"])
@pytest.mark.parametrize("name", NAMES)
def test_other_classes_at_load(name, reader, tmp_path):
    model = composed(name)
    zoo.save_pretrained(model, tmp_path / "a", verify=False)
    read = zoo.create_model if reader == "zoo" else timm.create_model
    again = read(f"local-dir:{tmp_path / 'a'}", pretrained=True, num_classes=3).eval()
    ours, theirs = backbone_state(model), backbone_state(again)
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[n], theirs[n]) for n in ours)
    assert output(again).shape == (2, 3)
    assert again.zoo_spec == {**model.zoo_spec, "num_classes": 3}
    heads = [c.new for c in again.zoo_composition.changes if c.slot == "head"]
    assert heads == [c.new for c in model.zoo_composition.changes if c.slot == "head"]
    for path in (
        [again.pretrained_cfg["classifier"]]
        if isinstance(again.pretrained_cfg["classifier"], str)
        else again.pretrained_cfg["classifier"]
    ):
        assert specialise.original_class(again.get_submodule(path)) is specialise.original_class(
            model.get_submodule(path)
        )
        assert all(p.isfinite().all() for p in again.get_submodule(path).parameters())
    features = read(f"local-dir:{tmp_path / 'a'}", pretrained=True, num_classes=0).eval()
    with torch.no_grad():
        pre = model.forward_head(model.forward_features(images(model)), pre_logits=True)
    assert torch.equal(output(features), pre)


@pytest.mark.parametrize("reader", ["zoo", "timm"])
@pytest.mark.parametrize("name", ["convnet head", "vit mlp and pool", "convnext mlp and head", "ours"])
def test_other_channels_at_load(name, reader, tmp_path):
    model = composed(name)
    zoo.save_pretrained(model, tmp_path / "a", verify=False)
    read = zoo.create_model if reader == "zoo" else timm.create_model
    again = read(f"local-dir:{tmp_path / 'a'}", pretrained=True, in_chans=1).eval()
    first = model.pretrained_cfg["first_conv"]
    summed = model.get_submodule(first).weight.sum(dim=1, keepdim=True)
    torch.testing.assert_close(again.get_submodule(first).weight, summed)
    rest = {n: t for n, t in model.state_dict().items() if n != f"{first}.weight"}
    assert all(torch.equal(again.state_dict()[n], t) for n, t in rest.items())
    assert again.zoo_spec["in_chans"] == 1


@pytest.mark.parametrize("reader", ["zoo", "timm"])
def test_features_of_a_saved_composition(reader, tmp_path):
    model = composed("convnext mlp and head")
    zoo.save_pretrained(model, tmp_path / "a", verify=False)
    read = zoo.create_model if reader == "zoo" else timm.create_model
    extractor = read(f"local-dir:{tmp_path / 'a'}", pretrained=True, features_only=True, out_indices=(1, 3)).eval()

    with torch.no_grad():
        found = extractor(images(model))
        wanted = model.forward_intermediates(images(model), indices=[1, 3], intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(found, wanted, strict=True))


def test_parts_replaced_in_a_saved_composition(tmp_path):
    """What is loaded can be composed further; what it has already stays."""
    model = composed("convnext mlp and head")
    zoo.save_pretrained(model, tmp_path / "a", verify=False)
    again = zoo.create_model(f"local-dir:{tmp_path / 'a'}", act="silu").eval()
    assert again.zoo_spec == {**model.zoo_spec, "act": {"type": "silu"}}
    assert same_state(model, again)
    assert not torch.equal(output(again), output(model))
    zoo.save_pretrained(again, tmp_path / "b")
    assert torch.equal(output(zoo.create_model(f"local-dir:{tmp_path / 'b'}").eval()), output(again))


def test_saved_after_changes(tmp_path):
    model = composed("vit mlp and pool")
    model.set_input_size(img_size=96)
    model.reset_classifier(3)
    zoo.save_pretrained(model, tmp_path / "a")
    again = zoo.create_model(f"local-dir:{tmp_path / 'a'}").eval()
    assert again.zoo_spec["img_size"] == [96, 96]
    assert torch.equal(output(again), output(model))
