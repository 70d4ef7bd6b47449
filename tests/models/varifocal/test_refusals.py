"""Bad inputs and options, each refused with what was given and a way out."""

from __future__ import annotations

import pytest
import torch
from torch import nn

import zoo
from zoo.models.varifocal import GNet, VarifocalNet

SMALL = {"img_size": 32, "widths": (4, 6, 8), "depths": (1, 1, 1), "loc_hidden": 8, "mlp_hidden": 12}


@pytest.fixture(scope="module")
def net() -> VarifocalNet:
    return VarifocalNet(**SMALL).eval()


def _with(value: float) -> torch.Tensor:
    x = torch.rand(3, 1, 32, 32)
    x[1, 0, 4, 5] = value
    return x


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.rand(1, 32, 32), r"expected images \(batch, 1, height, width\), got \(1, 32, 32\); add the batch"),
        (torch.rand(2, 3, 32, 32), r"got \(2, 3, 32, 32\); in_chans="),
        (torch.rand(2, 1, 32, 7), "smaller than one cell of the map, 8x8"),
        (_with(float("nan")), "NaN or infinity is in image 1 of 3"),
        (_with(float("inf")), "NaN or infinity is in image 1 of 3"),
    ],
)
def test_images_that_are_none(net, images, message):
    with pytest.raises(ValueError, match=message):
        net(images)


def test_whole_numbers_say_how_to_convert(net):
    with pytest.raises(TypeError, match=r"got torch.uint8; x.float\(\) / 255"):
        net(torch.zeros(2, 1, 32, 32, dtype=torch.uint8))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_classes": (1, 2, 3)}, r"must be a pair \(types, polarities\) or a number of types.*got \(1, 2, 3\)"),
        ({"num_classes": (24, -1)}, "whole numbers from 0"),
        ({"num_classes": -1}, "whole numbers from 0"),
        ({"num_classes": (24, 2), "num_polarities": 3}, "give one of them"),
        ({"img_size": (1, 2, 3)}, "img_size must be one side"),
        ({"img_size": 8}, "images of 4x4 are smaller than one cell of the map, 8 pixels"),
        ({"local_size": 7}, "images of 7x7 are smaller than one cell of the map"),
        ({"local_size": 0}, "local_size must be one side"),
        ({"img_size": (32, True)}, r"whole numbers from 1, got \(32, True\)"),
        ({"stage": "globl"}, "unknown stage 'globl'; did you mean 'global'"),
        ({"box_mode": "insets"}, "did you mean 'inset'"),
        ({"min_ratio": 1.5}, "min_ratio must be above 0 and at most 1"),
        ({"head_pool": 0}, "head_pool must be at least 1"),
        ({"loc_pool": 0}, "dim, pool and hidden must be at least 1"),
        ({"mlp_hidden": 0}, "mlp_hidden must be at least 1"),
        ({"widths": (4, 6)}, "one number a group"),
        ({"strides": (2, 0, 2)}, "must be at least 1"),
        ({"temperature": (1.0, -1.0)}, "two numbers above 0"),
        ({"backbone": "resnet18x"}, "there is no backbone 'resnet18x'; did you mean .*'resnet18"),
        ({"backbone": "hf-hub:someone/else"}, "there is no backbone 'hf-hub:someone/else'"),
        ({"backbone": {"nam": "resnet18"}}, "a mapping with a 'name' or a 'base'"),
    ],
)
def test_options_out_of_range(options, message):
    with pytest.raises(ValueError, match=message):
        VarifocalNet(**{**SMALL, **options})


def test_sizes_that_are_no_whole_numbers(unchecked):
    for options in ({"img_size": 32.0}, {"local_size": 16.0}, {"img_size": "32"}):
        (name, value), *_ = options.items()
        with pytest.raises(ValueError, match=f"{name} must be one side or .*, whole numbers from 1, got {value!r}"):
            VarifocalNet(**{**SMALL, **options})


def test_modules_that_give_no_map():
    class Pooled(nn.Module):
        def forward(self, x):
            return x.mean((2, 3))

    with pytest.raises(ValueError, match=r"must give a map .* got \(1, 1\)"):
        GNet(Pooled(), img_size=16)
    with pytest.raises(ValueError, match="takes 3 channels, the images have 1"):
        GNet(zoo.create_model("resnet10t"), img_size=32)


def test_parts_behind_the_map_are_no_part_of_a_trunk():
    small = {"img_size": 32, "head_pool": 1, "loc_pool": 1, "loc_hidden": 4, "mlp_hidden": 4, "num_classes": 3}
    for part in ({"head": "kan"}, {"pool": "hopfield"}):
        (slot, _), *_ = part.items()
        with pytest.raises(ValueError, match=rf"another {slot}, which a trunk does not have.*head= beside"):
            zoo.create_model("varifocal", backbone={"base": "test_resnet", **part}, **small)
    outer = zoo.create_model("varifocal", backbone="test_resnet", head="kan", **small)
    assert any("KAN" in type(part).__name__ for part in outer.modules())


def test_what_a_trunk_refuses_is_told_with_the_images(unchecked):
    with pytest.raises(
        ValueError, match=r"medvit2_kan_nano cannot be used for images of 16x16 .*small.* crops of local_size"
    ):
        zoo.create_model("varifocal", backbone="medvit2_kan_nano", img_size=32)
    with pytest.raises(TypeError, match=r"the backbone is the class Identity: give a module of it, Identity\(...\)"):
        GNet(nn.Identity, img_size=32)
    with pytest.raises(TypeError, match=r"a backbone is a name, a mapping .*, or a module; got 3"):
        GNet(3, img_size=32)


def test_unknown_options_and_stages(net):
    with pytest.raises(TypeError, match="did you mean 'box_mode'"):
        zoo.create_model("varifocal_chromosome", box_mod="clamp")
    with pytest.raises(TypeError, match="num_classes must be an int"):
        zoo.create_model("resnet18", num_classes=(24, 2))
    with pytest.raises(ValueError, match="unknown stage 'all'"):
        net(torch.rand(1, 1, 32, 32), "all")
    with pytest.raises(ValueError, match="unknown stage 'localise'; did you mean 'localize'"):
        net.freeze_stage("localise")


def test_a_network_around_a_module_is_not_saved_by_name(tmp_path):
    model = VarifocalNet(nn.Conv2d(1, 4, 3, 2), img_size=32)
    with pytest.raises(zoo.ZooError, match="not made by a registered name"):
        zoo.save_pretrained(model, tmp_path / "net")
