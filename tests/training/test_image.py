"""Channels, bit depths and value ranges of images; augmentation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from zoo.errors import DataError
from zoo.training.data.image import to_channels
from zoo.training.data.transform import eval_transform, train_transform
from zoo.training.randomness import seed_host

CONFIG: dict[str, Any] = {
    "input_size": (3, 24, 24),
    "interpolation": "bilinear",
    "mean": (0.5, 0.4, 0.3),
    "std": (0.2, 0.3, 0.4),
    "crop_pct": 1.0,
    "crop_mode": "center",
}


def test_grey_is_repeated_and_colour_becomes_luma() -> None:
    grey = to_channels(np.full((4, 4), 100, np.uint8), 3)
    assert isinstance(grey, Image.Image)
    assert grey.getpixel((0, 0)) == (100, 100, 100)
    red = to_channels(Image.new("RGB", (4, 4), (200, 0, 0)), 1)
    assert isinstance(red, Image.Image)
    assert red.getpixel((0, 0)) == round(200 * 0.299)
    assert to_channels(Image.new("RGBA", (4, 4)), 3).mode == "RGB"  # type: ignore[union-attr]
    assert to_channels(Image.new("P", (4, 4)), 3).mode == "RGB"  # type: ignore[union-attr]


def test_sixteen_bits_are_not_crushed_to_eight() -> None:
    values = np.array([[0, 1, 255, 256], [1000, 30000, 65534, 65535]], np.uint16)
    for stored in (values, Image.fromarray(values)):
        tensor = to_channels(stored, 1)
        assert isinstance(tensor, torch.Tensor)
        assert torch.allclose(tensor[0], torch.from_numpy(values.astype(np.float32)) / 65535, rtol=1e-6)
        assert len(tensor.unique()) == 8
    assert to_channels(values, 3).shape == (3, 2, 4)  # type: ignore[union-attr]


def test_unusual_files() -> None:
    paletted = Image.new("P", (4, 4))
    paletted.info["transparency"] = b"\0\1"
    assert to_channels(paletted, 3).mode == "RGB"  # type: ignore[union-attr]
    floats = Image.fromarray(np.full((2, 2), 0.25, np.float32))
    assert torch.equal(to_channels(floats, 1), torch.full((1, 2, 2), 0.25))  # type: ignore[arg-type]
    assert to_channels(Image.new("CMYK", (4, 4)), 3).mode == "RGB"  # type: ignore[union-attr]


def test_floats_need_a_range() -> None:
    unit = np.linspace(0, 1, 16, dtype=np.float32).reshape(4, 4)
    assert torch.equal(to_channels(unit, 1)[0], torch.from_numpy(unit))  # type: ignore[index]
    with pytest.raises(DataError, match=r"slice 3 has values from 0 to 4095 \(float64\); expected 0 to 1.*scale="):
        to_channels(unit.astype(np.float64) * 4095, 1, where="slice 3")
    scaled = to_channels(unit * 4095, 1, scale=4095)
    assert torch.allclose(scaled[0], torch.from_numpy(unit))  # type: ignore[index]
    with pytest.raises(DataError, match="transform=None"):
        to_channels(torch.full((1, 4, 4), -1.0), 1)
    with pytest.raises(DataError, match="values from nan"):
        to_channels(np.full((4, 4), np.nan), 1)


def test_channel_counts() -> None:
    spectral = torch.rand(5, 6, 6)
    assert torch.equal(to_channels(spectral, 5), spectral)  # type: ignore[arg-type]
    with pytest.raises(DataError, match="has 5 channels but the model takes 3; create the model with in_chans=5"):
        to_channels(spectral, 3)
    colour = torch.rand(3, 6, 6)
    luma = to_channels(colour, 1)
    assert torch.allclose(luma[0], 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2])  # type: ignore[index]
    with pytest.raises(DataError, match="shape"):
        to_channels(np.zeros((2, 3, 4, 5)), 3)
    with pytest.raises(DataError, match="shape"):
        to_channels(np.zeros((0, 3)), 3)


def test_evaluation_resizes_and_normalises() -> None:
    image = to_channels(np.full((12, 12, 3), (51, 102, 204), np.uint8), 3)
    out = eval_transform(CONFIG)(image)
    assert out.shape == (3, 24, 24)
    expected = [(0.2 - 0.5) / 0.2, (0.4 - 0.4) / 0.3, (0.8 - 0.3) / 0.4]
    assert torch.allclose(out.mean((1, 2)), torch.tensor(expected), atol=1e-6)


@pytest.mark.parametrize("aug", ["none", "light", "timm"])
@pytest.mark.parametrize("channels", [1, 3])
def test_augmentation_is_a_function_of_the_seed(aug: str, channels: int) -> None:
    config = {**CONFIG, "input_size": (channels, 24, 24), "mean": (0.5,) * channels, "std": (0.5,) * channels}
    transform = train_transform(config, aug, hflip=0.5)
    random = np.random.RandomState(0)
    image = to_channels(random.randint(0, 256, (20, 20, 3), dtype=np.uint8), channels)
    outputs = []
    for seed in (1, 1, 2):
        seed_host(seed)
        outputs.append(transform(image))
    assert outputs[0].shape == (channels, 24, 24)
    assert torch.equal(outputs[0], outputs[1])
    assert torch.equal(outputs[0], outputs[2]) == (aug == "none")


@pytest.mark.parametrize("channels", [1, 3])
def test_strong_augmentation_never_fails(channels: int) -> None:
    config = {**CONFIG, "input_size": (channels, 24, 24), "mean": (0.5,) * channels, "std": (0.5,) * channels}
    transform = train_transform(config, "timm", hflip=0.5)
    image = to_channels(np.random.RandomState(0).randint(0, 256, (20, 20, 3), dtype=np.uint8), channels)
    for seed in range(300):
        seed_host(seed)
        assert torch.isfinite(transform(image)).all()


def test_no_mirroring_when_told_so() -> None:
    ramp = to_channels(np.tile(np.arange(0, 240, 10, dtype=np.uint8), (24, 1)), 3)
    transform = train_transform(CONFIG, "light", hflip=0.0)
    for seed in range(20):
        seed_host(seed)
        row = transform(ramp)[0, 12]
        assert row[-1] > row[0]


@pytest.mark.parametrize("aug", ["none", "light"])
def test_tensors_are_transformed_too(aug: str) -> None:
    config = {**CONFIG, "input_size": (5, 24, 24), "mean": (0.5,) * 5, "std": (0.5,) * 5}
    assert train_transform(config, aug, hflip=0.5)(torch.rand(5, 30, 30)).shape == (5, 24, 24)


def test_unknown_augmentation() -> None:
    with pytest.raises(ValueError, match="aug must be one of none, light, timm, got 'strong'"):
        train_transform(CONFIG, "strong", hflip=0.5)
