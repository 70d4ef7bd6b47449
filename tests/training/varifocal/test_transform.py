"""Preparation and augmentation of chromosomes: sizes are kept, backgrounds are 0, polarities are right."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import zoo
from zoo.training.data.chromosome_transform import ChromosomeAugment, ChromosomeToTensor, moved
from zoo.training.data.rendered_chromosomes import Look, render_chromosome
from zoo.training.data.transform import OnCanvas, eval_transform, train_transform

STILL: dict[str, Any] = {"rotation": 0.0, "shift": 0.0, "scale": 0.0, "jitter": 0.0, "hflip": 0.0, "vflip": 0.0}
CONFIG: dict[str, Any] = {
    "input_size": (1, 32, 32),
    "mean": (0.0,),
    "std": (1.0,),
    "crop_pct": 1.0,
    "crop_mode": "canvas",
    "interpolation": "bilinear",
}


def rod(height: int, width: int, *, white: bool) -> np.ndarray:
    """A grey rectangle with a free border of two pixels."""
    picture = np.full((height, width), 255 if white else 0, dtype=np.uint8)
    picture[2:-2, 2:-2] = 100
    return picture


@pytest.mark.parametrize("white", [True, False])
def test_the_background_becomes_0_and_the_size_stays(white: bool):
    made = ChromosomeToTensor(size=32)(rod(20, 9, white=white))
    assert made.shape == (1, 32, 32)
    assert made.dtype == torch.float32
    object_ = made > 0
    assert int(object_.sum()) == 16 * 5
    assert float(made.max()) == pytest.approx((155 if white else 100) / 255)
    rows, columns = object_[0].any(1).nonzero().flatten(), object_[0].any(0).nonzero().flatten()
    assert (int(rows[0]), int(columns[0])) == (6 + 2, 11 + 2)  # in the middle


def test_background_that_is_told_and_not_looked_for():
    dark = rod(20, 9, white=False)
    assert torch.equal(ChromosomeToTensor(32, "black")(dark), ChromosomeToTensor(32)(dark))
    assert torch.equal(ChromosomeToTensor(32, "white")(255 - dark), ChromosomeToTensor(32)(255 - dark))
    with pytest.raises(ValueError, match=r"background must be one of auto, white, black, got 'blue'"):
        ChromosomeToTensor(32, "blue")


def test_grey_paper_becomes_0_too():
    paper = rod(20, 9, white=True)
    paper[paper == 255] = 230
    made = ChromosomeToTensor(32)(paper)
    assert float(made[made > 0].min()) == pytest.approx(130 / 255, abs=1e-6)
    assert float(made[0, 0, 0]) == float(made[0, 7, 13]) == 0


def test_what_is_darker_than_grey_paper_or_brighter_than_a_grey_film_is_the_object():
    for paper, ink in ((120, 20), (150, 250)):
        picture = np.full((20, 9), paper, dtype=np.uint8)
        picture[2:-2, 2:-2] = ink
        made = ChromosomeToTensor(32)(picture)
        assert (int((made > 0).sum()), float(made.max())) == (16 * 5, pytest.approx(100 / 255))


def test_what_is_blank_is_refused_by_its_name(tmp_path):
    for shade in (0, 120, 255):
        with pytest.raises(zoo.errors.DataError, match="nothing is other than the background"):
            ChromosomeToTensor(32)(np.full((20, 9), shade, dtype=np.uint8))
    with pytest.raises(zoo.errors.DataError, match="no chromosome is in an image of which nothing is brighter than"):
        ChromosomeToTensor(32, "black")(rod(20, 9, white=True))
    Image.new("L", (20, 20), 255).save(tmp_path / "blank.png")
    net = zoo.create_model("varifocal_chromosome_nano", widths=(4, 4, 4), depths=(1, 1, 1))
    with pytest.raises(zoo.errors.DataError, match=r"blank.png: no chromosome is in an image"):
        zoo.predict(net, tmp_path / "blank.png")


def test_all_forms_of_an_image_give_the_same():
    picture = rod(20, 9, white=True)
    prepare = ChromosomeToTensor(32)
    wanted = prepare(picture)
    for form in (
        Image.fromarray(picture),
        torch.from_numpy(picture)[None],
        torch.from_numpy(picture.astype(np.float32))[None] / 255,
        picture.astype(np.uint16) * 257,
        picture[:, :, None],
    ):
        assert torch.allclose(prepare(form), wanted, atol=1e-6)


def test_relative_sizes_are_kept_and_what_is_too_large_is_an_error():
    heights = []
    for kind in (0, 7, 20):
        picture = render_chromosome(kind, size=64, look=Look(blur=0.005))
        made = ChromosomeToTensor(64)(picture)
        heights.append(int((made[0].amax(1) > 0.2).sum()))
    assert heights[0] > heights[1] > heights[2]
    with pytest.raises(zoo.errors.DataError, match=r"9 x 40 pixels does not fit .* 32 x 32; images are never resized"):
        ChromosomeToTensor(32)(rod(40, 9, white=True))
    whole, half = (ChromosomeToTensor(64, scale=scale)(rod(40, 20, white=False)) for scale in (1.0, 0.5))
    assert float(half.sum()) == pytest.approx(float(whole.sum()) / 4, rel=1e-2)


@pytest.mark.parametrize(("option", "turns"), [("hflip", False), ("vflip", True)])
def test_mirroring_and_the_polarity(option: str, turns: bool):
    image = torch.rand(1, 8, 8)
    made, polarity = ChromosomeAugment(**{**STILL, option: 1.0})(image, 0)
    assert torch.allclose(made, image.flip(1 if turns else 2), atol=1e-5)
    assert polarity == int(turns)
    assert ChromosomeAugment(**{**STILL, option: 1.0})(image, -1)[1] == -1


def shown(image: Tensor) -> int:
    """Which end has the mark: 0 above, 1 below."""
    rows = image[0].sum(1)
    half = len(rows) // 2
    return int(rows[half:].sum() > rows[:half].sum())


def test_the_polarity_that_is_returned_is_the_one_that_is_shown():
    """Of an arrow whose mark is at its upper end, at any angle but those about 90 degrees."""
    image = torch.zeros(1, 33, 33)
    image[0, 4:9, 14:19] = 1
    vary = ChromosomeAugment(rotation=180, vflip=0.5)
    torch.manual_seed(0)
    seen = set()
    for _ in range(200):
        made, polarity = vary(image, 0)
        rows = (made[0].sum(1) * torch.arange(33)).sum() / made.sum() - 16
        if abs(float(rows)) > 2.5:  # else it lies on its side
            assert shown(made) == polarity
            seen.add(polarity)
    assert seen == {0, 1}


def test_turns_below_90_degrees_keep_it_and_beyond_do_not():
    torch.manual_seed(0)
    image = torch.rand(1, 8, 8)
    assert {ChromosomeAugment(rotation=90, vflip=0)(image, 1)[1] for _ in range(50)} == {1}
    assert {ChromosomeAugment(rotation=15, vflip=0)(image, 0)[1] for _ in range(50)} == {0}


def test_movement_by_hand():
    image = torch.zeros(1, 21, 21)
    image[0, 2:5, 9:12] = 1  # above
    assert torch.allclose(moved(image, 0.0, 1.0, (0.0, 0.0)), image, atol=1e-5)
    left = moved(image, 90.0, 1.0, (0.0, 0.0))  # against the clock
    assert torch.allclose(left, image.rot90(1, (1, 2)), atol=1e-4)
    right = moved(image, 0.0, 1.0, (2 / 21, 3 / 21))
    assert torch.allclose(right[0, 5:8, 11:14], torch.ones(3, 3), atol=1e-4)
    assert float(right.sum()) == pytest.approx(9, abs=1e-3)
    middle = moved(image, 0.0, 1.0, (0.0, 7 / 21))
    assert float(moved(middle, 0.0, 3.0, (0.0, 0.0)).sum()) == pytest.approx(9 * 3**2, rel=1e-3)
    tall = torch.zeros(1, 31, 11)
    tall[0, 14:17, 1:4] = 1
    turned = moved(tall, 90.0, 1.0, (0.0, 0.0))  # a square stays one though the image is none
    assert torch.allclose(turned[0, 17:20, 4:7], torch.ones(3, 3), atol=1e-3)


def test_augmentation_is_little_and_of_the_seed():
    image = ChromosomeToTensor(64)(render_chromosome(0, size=64))
    vary = ChromosomeAugment()
    torch.manual_seed(1)
    one = vary(image, 0)
    torch.manual_seed(1)
    same, other = vary(image, 0), vary(image, 0)
    assert torch.equal(one[0], same[0])
    assert not torch.equal(same[0], other[0])
    assert other[0].min() >= 0
    assert other[0].max() <= 1
    sizes = torch.tensor([float((vary(image)[0] > 0.3).sum()) for _ in range(50)]) / float((image > 0.3).sum())
    assert sizes.min() > 0.6
    assert sizes.max() < 1.5


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ({"rotation": 190}, "rotation must be a number of degrees from 0 to 180, got 190"),
        ({"shift": -0.1}, "shift must be a number from 0, below 1"),
        ({"vflip": 2}, "vflip must be a number from 0 to 1, got 2"),
    ],
)
def test_augmentation_that_cannot_be(option: dict[str, Any], words: str):
    with pytest.raises(ValueError, match=words):
        ChromosomeAugment(**option)


def test_a_data_configuration_asks_for_the_canvas():
    transform = eval_transform(CONFIG)
    picture = rod(20, 9, white=True)
    assert isinstance(transform, OnCanvas)
    assert torch.equal(transform(picture), ChromosomeToTensor(32)(picture))
    scaled = eval_transform({**CONFIG, "crop_pct": 0.5, "mean": (0.5,), "std": (0.25,)})
    assert torch.allclose(scaled(picture), (ChromosomeToTensor(32, scale=0.5)(picture) - 0.5) / 0.25)
    torch.manual_seed(0)
    varied: Any = train_transform(CONFIG, "light", hflip=0.0)
    assert {varied.with_polarity(picture, 0)[1] for _ in range(20)} == {0, 1}
    assert torch.equal(train_transform(CONFIG, "none", hflip=0.0)(picture), transform(picture))
    with pytest.raises(ValueError, match="aug must be 'none' or 'light' for images whose size counts"):
        train_transform(CONFIG, "timm", hflip=0.0)
    with pytest.raises(zoo.errors.DataError, match="square canvas, the model takes 20 x 32"):
        eval_transform({**CONFIG, "input_size": (1, 32, 20)})
