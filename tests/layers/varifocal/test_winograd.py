"""Winograd's convolution is the ordinary one."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from zoo.layers.varifocal.winograd import transformed_weight, winograd_conv


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(8, 8), (7, 9), (1, 1), (2, 13), (33, 6)])
def test_it_is_the_convolution(size, bias):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(3, 5, *size, dtype=torch.float64, generator=generator)
    weight = torch.randn(7, 5, 3, 3, dtype=torch.float64, generator=generator)
    shift = torch.randn(7, dtype=torch.float64, generator=generator) if bias else None
    wanted = F.conv2d(x, weight, shift, padding=1)
    torch.testing.assert_close(winograd_conv(x, transformed_weight(weight), shift), wanted, rtol=0, atol=1e-12)


@pytest.mark.parametrize("at_a_time", [1, 1 << 12, 1 << 30])
def test_parts_of_any_size_give_the_same(monkeypatch, at_a_time):
    monkeypatch.setattr("zoo.layers.varifocal.winograd._AT_A_TIME", at_a_time)
    x, weight = torch.randn(2, 4, 20, 14), torch.randn(6, 4, 3, 3)
    got = winograd_conv(x, transformed_weight(weight))
    torch.testing.assert_close(got, F.conv2d(x, weight, padding=1), rtol=1e-4, atol=1e-5)


def test_float32_is_as_exact_as_the_convolution():
    """Sums of 64 numbers are rounded less than those of 576."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(1, 64, 32, 32, generator=generator)
    weight = torch.randn(64, 64, 3, 3, generator=generator) / 24
    exact = F.conv2d(x.double(), weight.double(), padding=1)
    error = (winograd_conv(x, transformed_weight(weight)) - exact).abs().max()
    assert float(error) < 1e-5
    assert float(error) < 2 * float((F.conv2d(x, weight, padding=1) - exact).abs().max())
