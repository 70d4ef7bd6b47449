"""Stitched networks of timm's anchors against the authors' code: every stitch, gradients, what learns."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import zoo
from tests.models.stitching.golden import OPEN, golden, network_of, official_state

NETWORKS = tuple(OPEN)
WITH_GRADIENTS = ("snnet_vit_tiny", "snnet_swin_tiny", "snnetv2_tiny")


def loaded(name: str) -> Any:
    net = network_of(name)
    net.load_state_dict(zoo.weights.convert(official_state(name), OPEN[name]), strict=True)
    return net.eval()


def close(name: str, given: torch.Tensor, wanted: torch.Tensor) -> None:
    tolerance = {"rtol": 2e-4, "atol": 2e-5}
    torch.testing.assert_close(given, wanted, **tolerance)


@pytest.mark.parametrize("name", NETWORKS)
def test_every_stitch(name: str) -> None:
    facts, data = golden(name)
    net = loaded(name)
    x = data["in.x"]
    assert len(facts["configs"]) == len(net.stitches)
    for row in facts["configs"]:
        with torch.no_grad():
            close(name, net(x, stitch=row["id"]), data[f"out.logits.{row['id']}"])
            net.set_stitch(row["id"])
            close(name, net(x), data[f"out.logits.{row['id']}"])


@pytest.mark.parametrize("name", WITH_GRADIENTS)
def test_gradients(name: str) -> None:
    facts, data = golden(name)
    net = loaded(name)
    x = data["in.x"].clone().requires_grad_()
    net(x, stitch=facts["grad_stitch_id"]).backward(data["in.cotangent"])
    wanted = {key.removeprefix("grad."): value for key, value in data.items() if key.startswith("grad.")}
    close(name, x.grad, wanted.pop("x"))  # type: ignore[arg-type]
    assert wanted
    given = dict(net.named_parameters())
    for key, value in wanted.items():
        close(name, given[key].grad, value)  # type: ignore[arg-type]
    ran = {key.split(".")[1] for key, p in given.items() if p.grad is not None and key.startswith("anchors.")}
    assert ran == {str(a) for a in facts["configs"][facts["grad_stitch_id"]]["anchors"]}


@pytest.mark.parametrize("name", ["snnet_vit_tiny", "snnet_vit_ls_init"])
def test_features_of_the_first_anchor(name: str) -> None:
    """The input of the first block, and what it gives: tokens with the class token in front."""
    _, data = golden(name)
    net = loaded(name)
    net.set_stitch(0)
    x = data["in.x"]
    with torch.no_grad():
        stem = net._anchors[0].stem(x)
        (first,) = net.forward_intermediates(
            x, [0], return_prefix_tokens=True, output_fmt="NLC", intermediates_only=True
        )
    close(name, stem, data["out.features.anchor0.-1"])
    close(name, torch.cat([first[1], first[0]], dim=1), data["out.features.anchor0.0"])


def test_low_rank_layers_are_the_same_in_training() -> None:
    facts, data = golden("snnetv2_tiny")
    net = loaded("snnetv2_tiny")
    number = facts["grad_stitch_id"]
    with torch.no_grad():
        evaluated = net(data["in.x"], stitch=number)
        trained = net.train()(data["in.x"], stitch=number)
    assert torch.equal(trained, evaluated)  # no dropout, and nothing is merged
    close("snnetv2_tiny", trained, data[f"out.train_logits.{number}"])


def test_the_matrices_of_low_rank_layers_are_frozen() -> None:
    facts, _ = golden("snnetv2_tiny")
    net = loaded("snnetv2_tiny")
    assert [key for key, p in net.named_parameters() if not p.requires_grad] == facts["frozen_parameters"]
