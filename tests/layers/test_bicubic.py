"""Bicubic reduction: the authors' numbers, and what follows from the formula."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from zoo.layers.bicubic import bicubic_downscale

FOLDER = Path(__file__).parents[1] / "golden" / "pcsr"


@pytest.mark.parametrize("name", ["bicubic_down4", "bicubic_down_frac"])
def test_equals_what_small_images_are_made_with(name):
    about = json.loads((FOLDER / f"{name}.json").read_text())
    stored = load_file(FOLDER / f"{name}.safetensors")
    found = bicubic_downscale(stored["in.x"], tuple(about["kwargs"]["size"]))
    torch.testing.assert_close(found, stored["out.y"], **about["tolerance"])


def test_keeps_what_is_constant_and_the_size_it_has():
    x = torch.rand(2, 3, 13, 17, dtype=torch.float64)
    torch.testing.assert_close(bicubic_downscale(x, (13, 17)), x)
    one = torch.full((1, 9, 21), 0.3)
    torch.testing.assert_close(bicubic_downscale(one, (3, 5)), torch.full((1, 3, 5), 0.3))


def test_mirrored_images_give_mirrored_results():
    x = torch.rand(3, 24, 30, dtype=torch.float64)
    torch.testing.assert_close(bicubic_downscale(x.flip(-1), (6, 9)).flip(-1), bicubic_downscale(x, (6, 9)))
    torch.testing.assert_close(bicubic_downscale(x.mT, (9, 6)).mT, bicubic_downscale(x, (6, 9)))


def test_says_what_it_takes():
    with pytest.raises(ValueError, match="divide by 255"):
        bicubic_downscale(torch.zeros(3, 8, 8, dtype=torch.uint8), (2, 2))
    with pytest.raises(ValueError, match=r"at least 1, got \(8, 8\) and \(0, 2\)"):
        bicubic_downscale(torch.zeros(3, 8, 8), (0, 2))
