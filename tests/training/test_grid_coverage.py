"""`zoo.finetune` says when much of what a KAN gets lies outside of its grid."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

import zoo
from tests.training.helpers import QUICK, two_shades
from zoo.layers.kan import KAN, KANLinear
from zoo.training.grid_coverage import coverage_notes


class Flat(nn.Module):
    """A KAN on the pixels."""

    def __init__(self, **options) -> None:
        super().__init__()
        self.flatten = nn.Flatten()
        self.kan = KAN([3 * 4 * 4, 2, 2], **options)

    def forward(self, x):
        return self.kan(self.flatten(x))


def _rows(factor: float) -> torch.Tensor:
    return factor * torch.linspace(-1, 1, 8 * 48).view(8, 3, 4, 4)


def test_the_layer_with_the_lowest_share_is_named():
    model = Flat()
    assert coverage_notes(model, lambda: _rows(1.0)) == []
    notes = coverage_notes(model, lambda: _rows(4.0))
    assert len(notes) == 1
    assert notes[0].startswith("only 25% of the inputs of kan.layers.0 lie in its grid")
    assert "update_grid" in notes[0]


def test_a_grid_that_follows_the_data_needs_no_note():
    model = Flat()
    model.kan.update_grid(_rows(4.0).flatten(1))
    assert coverage_notes(model, lambda: _rows(4.0)) == []


def test_other_models_are_not_called():
    def fail():
        raise AssertionError("the images were asked for")

    assert coverage_notes(nn.Sequential(nn.Flatten(), nn.Linear(48, 2)), fail) == []
    assert coverage_notes(Flat(layer=KANLinear.faster), fail) == []  # bells have a long reach


def test_the_model_is_left_as_it_was():
    model = Flat()
    model.kan.layers[1].eval()
    coverage_notes(model, lambda: _rows(4.0))
    assert model.training
    assert not model.kan.layers[1].training
    assert not any(module._forward_pre_hooks for module in model.modules())
    assert all(p.grad is None for p in model.parameters())


@pytest.mark.parametrize(("grid_range", "noted"), [((-0.1, 0.1), True), ((-9.0, 9.0), False)])
def test_a_run_says_it_once(grid_range: tuple[float, float], noted: bool, tmp_path: Path, capsys):
    torch.manual_seed(0)
    data = {"train": two_shades(24, seed=0), "val": two_shades(8, seed=1)}
    model = nn.Sequential(nn.AdaptiveAvgPool2d(4), Flat(grid_range=grid_range))
    zoo.finetune(model, data, out=tmp_path, **{**QUICK, "progress": True, "epochs": 1})
    said = capsys.readouterr().err
    assert said.count("of the inputs of 1.kan.layers") == noted
