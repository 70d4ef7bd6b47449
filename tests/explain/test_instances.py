"""The instances of a bag are shown by what the pooling took from each."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

import zoo
from zoo import explain
from zoo.training.data.source import open_split


def _vectors() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    model = zoo.create_model("hopfield_mil", num_classes=2, dim=6, embed_dim=16, num_heads=3, head_dim=8)
    with torch.no_grad():
        for parameter in model.pool.parameters():
            parameter.mul_(4)
    return model, torch.randn(9, 6)


def _pictures() -> tuple[nn.Module, torch.Tensor]:
    torch.manual_seed(0)
    return zoo.create_model("hopfield_mnist_bags", num_classes=2), torch.rand(7, 1, 28, 28)


def _weights(model: nn.Module, bag: torch.Tensor) -> torch.Tensor:
    """(heads, instances), in evaluation mode."""
    with torch.no_grad():
        return model.eval().association(bag[None])[0].mean(1)


def _bars(axes: Any) -> list[float]:
    return [bar.get_width() for bar in axes.containers[0]]


def _names(axes: Any) -> list[str]:
    return [text.get_text() for text in axes.get_yticklabels()]


def test_bars_are_the_mean_over_heads_and_dots_the_heads() -> None:
    model, bag = _vectors()
    (axes,) = explain.top_instances(model.train(), bag, top=4).axes
    assert model.training
    heads = _weights(model, bag)
    mean, order = heads.mean(0).sort(descending=True)
    np.testing.assert_allclose(_bars(axes), mean[:4], rtol=1e-5)
    assert mean[0] > 1.2 * mean[3]
    assert _names(axes) == [str(int(k)) for k in order[:4]]
    dots, even = axes.lines
    np.testing.assert_allclose(np.asarray(dots.get_xdata()).reshape(4, 3), heads.T[order[:4]], rtol=1e-5)
    np.testing.assert_array_equal(np.asarray(dots.get_ydata()).reshape(4, 3), [[k] * 3 for k in range(4)])
    assert even.get_xdata()[0] == pytest.approx(1 / 9)
    assert axes.get_xlabel() == f"share in the pooled bag; 5 others together {float(mean[4:].sum()):.3g}"
    answer = zoo.predict(model, [bag], 1)[0]
    assert axes.get_title(loc="left") == f"class {answer['label']}, probability {answer['probability']:.3g}"


def test_one_head_and_names() -> None:
    model, bag = _vectors()
    names = [f"patch {k}" for k in range(9)]
    (axes,) = explain.top_instances(model, bag, head=2, names=names).axes
    weights, order = _weights(model, bag)[2].sort(descending=True)
    np.testing.assert_allclose(_bars(axes), weights, rtol=1e-5)
    assert _names(axes) == [names[int(k)] for k in order]
    assert axes.get_xlabel() == "share in the pooled bag"
    assert axes.get_title(loc="left").endswith(", head 2")
    assert len(axes.lines) == 1  # the even share; no dots


def test_a_bag_of_arrays_is_a_bag_of_tensors() -> None:
    model, bag = _vectors()
    whole = [_bars(explain.top_instances(model, given).axes[0]) for given in (bag, bag.numpy(), [bag.numpy()])]
    assert whole[0] == whole[1] == whole[2]


def test_images_are_shown_with_their_weights() -> None:
    model, bag = _pictures()
    (axes,) = explain.top_instances(model, bag, top=3, title="").axes
    weights, order = _weights(model, bag).mean(0).sort(descending=True)
    assert len(axes.images) == 3
    for image, place in zip(axes.images, order, strict=False):
        np.testing.assert_array_equal(image.get_array(), bag[place, 0])
    assert [t.get_text() for t in axes.texts] == [
        f"{int(k)}: {float(w):.3g}" for k, w in zip(order[:3], weights[:3], strict=True)
    ]


def test_vectors_that_stand_for_images() -> None:
    model, bag = _vectors()
    looks = torch.rand(9, 3, 5, 4)
    (axes,) = explain.top_instances(model, bag, top=2, images=looks, mean=(0, 0, 0), std=(1, 1, 1)).axes
    best = _weights(model, bag).mean(0).argmax()
    np.testing.assert_allclose(axes.images[0].get_array(), looks[best].permute(1, 2, 0), rtol=1e-6)


def test_image_files(tmp_path: Path) -> None:
    model, bag = _pictures()
    for label, number in (("no", 0), ("yes", 1)):
        folder = tmp_path / label / f"bag{number}"
        folder.mkdir(parents=True)
        for k, image in enumerate(bag[:3]):
            pixels = (image[0].numpy() * 255).astype("uint8") // (1 + number)
            Image.fromarray(pixels).save(folder / f"{k}.png")
    bags = open_split(f"bags:{tmp_path}").images
    with pytest.raises(ValueError, match="the picture is of one bag, got 2"):
        explain.top_instances(model, bags)
    one = bags.subset([1], "one")
    best = max(zoo.predict(model, one)[0]["instances"], key=lambda instance: instance["weight"])
    shutil.rmtree(tmp_path / "no")
    for source in (one, f"bags:{tmp_path}"):  # of a set, and by the names of the files
        (axes,) = explain.top_instances(model, source).axes
        assert axes.texts[0].get_text() == f"{Path(best['instance']).name}: {best['weight']:.3g}"
        with Image.open(best["instance"]) as image:
            np.testing.assert_array_equal(axes.images[0].get_array(), np.array(image))


def test_a_bag_of_a_built_in_set() -> None:
    model, _ = _pictures()
    bag = open_split("digits_bags").images.subset([7], "bag 7")
    (axes,) = explain.top_instances(model, bag, top=1).axes
    answer = zoo.predict(model, bag, 1)[0]["instances"]
    best = max(range(len(answer)), key=lambda k: answer[k]["weight"])
    np.testing.assert_array_equal(axes.images[0].get_array(), np.array(bag.image(0)[best]))


def test_what_does_not_fit_is_refused() -> None:
    model, bag = _vectors()
    with pytest.raises(ValueError, match=r"head must be in 0\.\.2, got 3"):
        explain.top_instances(model, bag, head=3)
    with pytest.raises(ValueError, match="names must be 9 names, got 1"):
        explain.top_instances(model, bag, names=["a"])
    with pytest.raises(ValueError, match="images must be one for each of 9 instances, got 4"):
        explain.top_instances(model, bag, images=torch.rand(4, 8, 8))
    with pytest.raises(ValueError, match="top=0"):
        explain.top_instances(model, bag, top=0)
