"""Regions are shown where they are: the box in pixels, the crop as the local network sees it, the scores of scales."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import zoo
from zoo import explain
from zoo.layers.varifocal import boxcar_mask, varifocal_crop
from zoo.models.varifocal.network import VarifocalNet

#: What the localisation says of every image, and the box of it: side 0.25 + 0.75 * 0.5 = 0.625, corner 0.375 * u.
REGION = (0.8, 0.2, 0.5)
BOX = (0.3, 0.075, 0.925, 0.7)


def _net(**options: Any) -> VarifocalNet:
    torch.manual_seed(0)
    net: Any = zoo.create_model("varifocal_chromosome_nano", **options)
    with torch.no_grad():
        net.g_net.loc.fc2.weight.zero_()
        net.g_net.loc.fc2.bias.copy_(torch.tensor(REGION).logit())
        for layer in (net.g_net.head.fc_type, net.l_net.head.fc_type, net.fusion.mlp_type[3]):
            layer.weight.mul_(60)  # so that the scores are not all alike
    return net


def _images(count: int = 2) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.rand(count, 1, 64, 64)


def _rows(figure: Any) -> list[list[Any]]:
    return [figure.axes[start : start + 3] for start in range(0, len(figure.axes), 3)]


def _bars(axes: Any) -> dict[str, list[float]]:
    return {group.get_label(): [bar.get_width() for bar in group] for group in axes.containers}


def test_the_box_stands_in_pixels_and_the_crop_beside() -> None:
    net, images = _net(), _images()
    with torch.no_grad():
        out = net.eval()(images)
    rows = _rows(explain.plot_regions(net, images))
    assert len(rows) == 2
    for (whole, near, _), image, crop in zip(rows, images, out.crop, strict=True):
        (frame,) = whole.patches
        found = (*frame.get_xy(), frame.get_xy()[0] + frame.get_width(), frame.get_xy()[1] + frame.get_height())
        assert found == pytest.approx([64 * edge for edge in BOX], abs=1e-4)
        assert whole.images[0].get_extent() == [0, 64, 64, 0]
        np.testing.assert_array_equal(whole.images[0].get_array(), image[0])
        np.testing.assert_array_equal(near.images[0].get_array(), crop[0])
        assert near.images[0].get_clim() == whole.images[0].get_clim()
        assert near.get_title() == "crop, 32×32"


def test_the_box_of_an_image_that_is_not_square() -> None:
    figure = explain.plot_regions(_net(img_size=(64, 96)), torch.rand(1, 1, 64, 96))
    (frame,) = figure.axes[0].patches
    assert frame.get_xy() == pytest.approx((0.3 * 96, 0.075 * 64), abs=1e-4)
    assert (frame.get_width(), frame.get_height()) == pytest.approx((0.625 * 96, 0.625 * 64), abs=1e-4)
    assert figure.axes[1].images[0].get_extent() == [0, 48, 32, 0]


def test_bars_are_the_probabilities_of_the_scales() -> None:
    net, images = _net(), _images(1)
    net.temperature = (1.7, 0.6)
    with torch.no_grad():
        out = net.eval()(images)
    net.train()
    bars = _rows(explain.plot_regions(net, images, top=4))[0][2]
    assert all(module.training for module in net.modules())
    wanted = {
        words: (logits[0] / 1.7).softmax(0)
        for words, logits in (("global", out.g_type), ("local", out.l_type), ("both", out.type))
    }
    best = wanted["both"].topk(4).indices
    assert wanted["both"][best[0]] > 1.2 * wanted["both"][best[3]]
    drawn = _bars(bars)
    assert list(drawn) == ["global", "local", "both"]
    for words, values in wanted.items():
        np.testing.assert_allclose(drawn[words], values[best], rtol=1e-5)
    names = net.pretrained_cfg["label_names"]
    assert [text.get_text() for text in bars.get_yticklabels()] == [names[i] for i in best.tolist()]
    polarity = (out.polarity[0] / 0.6).softmax(0)
    side = ("short arm up", "short arm down")[int(polarity.argmax())]
    share = float(wanted["both"].max())
    assert bars.get_title(loc="left") == f"{names[int(best[0])]} ({share:.2f}), {side} ({float(polarity.max()):.2f})"


def test_bars_of_a_type_do_not_lie_on_each_other() -> None:
    bars = _rows(explain.plot_regions(_net(), _images(1)))[0][2]
    spans = sorted((bar.get_y(), bar.get_y() + bar.get_height()) for group in bars.containers for bar in group)
    assert all(a[1] <= b[0] + 1e-9 for a, b in itertools.pairwise(spans))


def test_scales_that_are_not_run() -> None:
    net, images = _net(stage="global"), _images(1)
    (_, near, bars) = _rows(explain.plot_regions(net, images))[0]
    assert list(_bars(bars)) == ["global"]
    crop = varifocal_crop(images, torch.tensor([BOX]), 32)
    np.testing.assert_allclose(near.images[0].get_array(), crop[0, 0], atol=1e-5)
    net.stage = "local"
    assert list(_bars(_rows(explain.plot_regions(net, images))[0][2])) == ["global", "local"]


def test_the_mask_veils_what_it_leaves_out() -> None:
    whole = explain.plot_regions(_net(), _images(1), mask=0.5).axes[0]
    veil = np.asarray(whole.images[1].get_array())
    kept = boxcar_mask(torch.tensor([BOX]), (64, 64), 0.5)[0, 0].numpy()
    np.testing.assert_allclose(veil[..., 3], 0.65 * (1 - kept), atol=1e-4)
    assert veil[24, 38, 3] < 0.01  # the middle of the box, row first
    assert veil[60, 4, 3] > 0.64
    assert whole.images[1].get_extent() == whole.images[0].get_extent()


def test_which_images_and_their_names() -> None:
    images = _images(9)
    assert len(explain.plot_regions(_net(), images).axes) == 18
    names = [f"plate {i}" for i in range(9)]
    types = [f"t{i}" for i in range(24)]
    rows = _rows(explain.plot_regions(_net(), images, indices=[7, 2], names=names, class_names=types))
    assert [row[0].get_title() for row in rows] == ["plate 7", "plate 2"]
    np.testing.assert_array_equal(rows[0][0].images[0].get_array(), images[7, 0])
    assert all(text.get_text().startswith("t") for text in rows[1][2].get_yticklabels())


def test_colours_are_shown_as_they_were() -> None:
    torch.manual_seed(0)
    net = zoo.create_model("varifocal_nano", in_chans=3, num_classes=5)
    images, mean, std = torch.randn(1, 3, 28, 28), (0.5, 0.4, 0.3), (0.2, 0.2, 0.1)
    whole, _, bars = explain.plot_regions(net, images, mean=mean, std=std).axes
    wanted = images[0] * torch.tensor(std).view(3, 1, 1) + torch.tensor(mean).view(3, 1, 1)
    np.testing.assert_allclose(whole.images[0].get_array(), wanted.clamp(0, 1).permute(1, 2, 0), atol=1e-6)
    assert "," not in bars.get_title(loc="left")  # one task
    assert {text.get_text() for text in bars.get_yticklabels()} <= set("01234")


def test_a_network_in_another_module_and_a_file(tmp_path: Path) -> None:
    explain.plot_regions(nn.Sequential(_net()), _images(1), title="rods", path=tmp_path / "regions.png")
    with Image.open(tmp_path / "regions.png") as image:
        assert image.format == "PNG"
        assert image.width > 1000
    assert [p.name for p in tmp_path.iterdir()] == ["regions.png"]


def test_what_does_not_fit_is_refused() -> None:
    net, images = _net(), _images()
    with pytest.raises(ValueError, match="Linear has no varifocal network"):
        explain.plot_regions(nn.Linear(2, 2), images)
    with pytest.raises(TypeError, match=r"images must be a tensor .*, got ndarray"):
        explain.plot_regions(net, images.numpy())  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="add the batch with x"):
        explain.plot_regions(net, images[0])
    with pytest.raises(TypeError, match="floating point"):
        explain.plot_regions(net, (images * 255).to(torch.uint8))
    with pytest.raises(ValueError, match="image 0 of 1"):
        explain.plot_regions(net, images * torch.nan, indices=[1])
    with pytest.raises(ValueError, match=r"indices must be in 0\.\.1, got 2"):
        explain.plot_regions(net, images, indices=[2])
    with pytest.raises(ValueError, match="names must be 2 names, got 1"):
        explain.plot_regions(net, images, names=["a"])
    with pytest.raises(ValueError, match="class_names must be 24 names, got 2"):
        explain.plot_regions(net, images, class_names=["a", "b"])
    with pytest.raises(ValueError, match="polarity_names must be 2 names, got 1"):
        explain.plot_regions(net, images, polarity_names=["a"])
    with pytest.raises(ValueError, match="mask must be a steepness above 0, got 0"):
        explain.plot_regions(net, images, mask=0)
    with pytest.raises(ValueError, match="top=0"):
        explain.plot_regions(net, images, top=0)
    with pytest.raises(ValueError, match=r"must end in \.png"):
        explain.plot_regions(net, images, path="a.jpg")
    with pytest.raises(ValueError, match="at least one image"):
        explain.plot_regions(net, images[:0])
    with pytest.raises(ValueError, match="no types to tell"):
        explain.plot_regions(zoo.create_model("varifocal_nano", num_classes=0), torch.rand(1, 1, 28, 28))
