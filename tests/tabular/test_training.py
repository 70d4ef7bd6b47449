"""What the estimators share: rows held out, and an import that says what is missing."""

from __future__ import annotations

import subprocess
import sys

import torch

from zoo.tabular.training import hold_out


def test_every_class_is_held_out_by_its_share():
    classes = torch.tensor([0] * 60 + [1] * 40 + [2] * 3)
    found = hold_out(classes, 0.2, torch.Generator().manual_seed(0))
    assert classes[found].bincount(minlength=3).tolist() == [12, 8, 0]
    assert len(found.unique()) == 20
    other = hold_out(classes, 0.2, torch.Generator().manual_seed(1))
    assert set(found.tolist()) != set(other.tolist())


def test_fewer_than_ten_rows_are_not_worth_it():
    assert hold_out(torch.zeros(60), 0.15, torch.Generator()) is None
    assert len(hold_out(torch.zeros(67), 0.15, torch.Generator())) == 10


def test_without_scikit_learn():
    code = """
import sys
sys.modules["sklearn"] = None
import zoo
try:
    import zoo.tabular
except zoo.errors.MissingExtraError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    expected = "zoo.tabular needs the package 'scikit-learn'; install it with: pip install 'zoo-layers[tabular]'"
    assert done.stdout.strip() == expected
