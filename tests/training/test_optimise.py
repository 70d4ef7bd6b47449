"""Parameter groups, learning rates and schedules."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

from tests.training.helpers import tiny_net
from zoo.training.optimise import auto_lr, build_optimiser, build_schedule, check_optimiser

GOLDEN = Path(__file__).parents[1] / "golden" / "platform"


@pytest.mark.parametrize("name", ["resnet10t", "vit_tiny"])
def test_layer_decay_equals_the_golden(name: str) -> None:
    golden = json.loads((GOLDEN / f"layer_decay_{name}.json").read_text())
    options = golden["kwargs"]
    with torch.device("meta"):
        model = timm.create_model(options["model"], num_classes=options["num_classes"])
    optimiser = build_optimiser(
        model, "adamw", 1e-3, weight_decay=options["weight_decay"], layer_decay=options["layer_decay"]
    )
    names = {id(p): n for n, p in model.named_parameters()}
    ours = {names[id(p)]: [g["lr_scale"], g["weight_decay"]] for g in optimiser.param_groups for p in g["params"]}
    assert ours.keys() == golden["out"].keys()
    for key, expected in golden["out"].items():
        assert ours[key] == pytest.approx(expected, abs=golden["tolerance"]), key


def test_layer_decay_scales_the_schedule() -> None:
    model = tiny_net()
    optimiser = build_optimiser(model, "sgd", 0.1, weight_decay=0.0, layer_decay=0.5)
    schedule = build_schedule(optimiser, "cosine", lr=0.1, min_lr=0.0, epochs=4, warmup=0, updates=5)
    schedule.step_update(10)
    rates = {id(p): g["lr"] for g in optimiser.param_groups for p in g["params"]}
    half = 0.1 * 0.5
    assert rates[id(model.fc.weight)] == pytest.approx(half)
    assert rates[id(model.body[0].weight)] == pytest.approx(half * 0.5)
    assert rates[id(model.stem[0].weight)] == pytest.approx(half * 0.25)


def test_norms_and_biases_are_not_decayed() -> None:
    model = tiny_net()
    optimiser = build_optimiser(model, "adamw", 1e-3, weight_decay=0.1, layer_decay=None)
    decayed = {id(p) for g in optimiser.param_groups if g["weight_decay"] for p in g["params"]}
    named = {n for n, p in model.named_parameters() if id(p) in decayed}
    assert named == {"stem.0.weight", "body.0.weight", "fc.weight"}


@pytest.mark.parametrize(
    ("sched", "expected"),
    [
        ("cosine", lambda t: 0.01 + 0.5 * 0.99 * (1 + math.cos(math.pi * t / 30))),
        ("linear", lambda t: 0.01 + 0.99 * (1 - t / 30)),
        ("step", lambda t: 0.1 ** (t // 10)),
        ("constant", lambda t: 1.0),
    ],
)
def test_schedules(sched: str, expected: Any) -> None:
    model = nn.Linear(2, 2)
    optimiser = build_optimiser(model, "sgd", 1.0, weight_decay=0.0, layer_decay=None)
    schedule = build_schedule(optimiser, sched, lr=1.0, min_lr=0.01, epochs=6, warmup=0.6, updates=5)
    for t in range(30):
        schedule.step_update(t)
        rising = 0.01 + t / 3 * 0.99
        assert optimiser.param_groups[0]["lr"] == pytest.approx(rising if t < 3 else expected(t)), t


def test_automatic_learning_rate() -> None:
    assert auto_lr("adamw", 64, probe=False) == pytest.approx(5e-4)
    assert auto_lr("adamw", 256, probe=False) == pytest.approx(1e-3)
    assert auto_lr("adamw", 64, probe=True) == pytest.approx(5e-3)
    assert auto_lr("sgd", 128, probe=False) == pytest.approx(4e-2)


@pytest.mark.parametrize("decay", [0.0, 1.5, -1.0])
def test_layer_decay_range(decay: float) -> None:
    with pytest.raises(ValueError, match=r"must lie in \(0, 1\]"):
        build_optimiser(tiny_net(), "adamw", 1e-3, weight_decay=0.0, layer_decay=decay)


def test_layer_decay_needs_groups() -> None:
    with pytest.raises(ValueError, match="Linear has one"):
        build_optimiser(nn.Linear(2, 2), "adamw", 1e-3, weight_decay=0.0, layer_decay=0.5)


def test_unknown_names() -> None:
    with pytest.raises(ValueError, match=r"unknown optimiser 'adamx'; did you mean .*'adamw'"):
        check_optimiser("adamx")
    with pytest.raises(ValueError, match=r"'adahessian' needs gradients of gradients .*, so a run cannot use it"):
        check_optimiser("adahessian")
    with pytest.raises(
        ValueError, match=r"'adafactorbv' keeps settings that .*cannot use it; did you mean 'adafactor'"
    ):
        check_optimiser("adafactorbv")
    optimiser = build_optimiser(nn.Linear(2, 2), "adamw", 1e-3, weight_decay=0.0, layer_decay=None)
    with pytest.raises(ValueError, match="sched must be one of cosine, linear, step, constant, got 'cosin'"):
        build_schedule(optimiser, "cosin", lr=1.0, min_lr=0.0, epochs=1, warmup=0, updates=1)
