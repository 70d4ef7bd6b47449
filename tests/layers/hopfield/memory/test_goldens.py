"""Energies and states as the authors' code gave them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from zoo.layers.hopfield.memory import boosting_score, border_energy, energy, memory_energy, retrieve

FOLDER = Path(__file__).parents[3] / "golden" / "hopfield" / "memory"


def golden(name):
    limits = json.loads((FOLDER / f"{name}.json").read_text())["tolerance"]
    return load_file(FOLDER / f"{name}.safetensors"), limits


@pytest.mark.parametrize("composed", [False, True])
@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("softmax", {"association": "softmax"}),
        ("entmax15", {"association": "entmax", "alpha": 1.5}),
        ("sparsemax", {"association": "sparsemax"}),
    ],
)
def test_energies_and_states(name, options, composed):
    tensors, limits = golden("energy_retrieval")
    close = {"rtol": limits["out_rel"], "atol": limits["out_abs"]}
    stored, state = tensors["in.stored"], tensors["in.state"].requires_grad_(composed)
    for update in range(5):
        if update:
            state = retrieve(state, stored, beta=0.8, **options)
            torch.testing.assert_close(state, tensors[f"out.{name}.state_{update}"], **close)
        found = energy(state, stored, beta=0.8, **options)
        torch.testing.assert_close(found, tensors[f"out.{name}.energy"][update], **close)


def test_boosting_energies():
    tensors, limits = golden("boosting_energy")
    close = {"rtol": limits["out_rel"], "atol": limits["out_abs"]}
    x, inside, outside = tensors["in.x"].requires_grad_(), tensors["in.a"], tensors["in.b"]
    border = border_energy(x, inside, outside)
    torch.testing.assert_close(memory_energy(x, inside), tensors["out.a_energy"], **close)
    torch.testing.assert_close(memory_energy(x, outside), tensors["out.b_energy"], **close)
    torch.testing.assert_close(border, tensors["out.border"], **close)
    torch.testing.assert_close(boosting_score(x, inside, outside), tensors["out.one_sided"], **close)
    (grad,) = torch.autograd.grad(border.sum(), x)
    torch.testing.assert_close(grad, tensors["grad.x"], rtol=limits["grad_rel"], atol=limits["grad_abs"])
    with torch.no_grad():  # read chunk by chunk
        torch.testing.assert_close(border_energy(x, inside, outside), tensors["out.border"], **close)
