"""Checkpoints: every optimiser's state comes back bit for bit; half-written ones do not count."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from timm.optim import create_optimizer_v2
from torch import nn

from tests.training.helpers import tiny_net
from zoo.errors import TrainingError
from zoo.training.checkpoint import checkpoints, read_optimiser, read_state, read_tensors, save_checkpoint


def save(folder: Path, step: int, model: nn.Module, optimiser: Any, keep_last: int = 2) -> Path:
    return save_checkpoint(
        folder,
        step,
        model=model.state_dict(),
        ema=None,
        optimiser=optimiser.state_dict(),
        state={"step": step},
        keep_last=keep_last,
    )


def some_updates(model: nn.Module, optimiser: torch.optim.Optimizer, count: int) -> None:
    for i in range(count):
        generator = torch.Generator().manual_seed(i)
        loss = model(torch.randn(4, 1, 8, 8, generator=generator)).square().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()


@pytest.mark.parametrize(
    "opt", ["sgd", "adamw", "lamb", "lion", "adafactor", "nadamw", "rmsprop", "adopt", "lookahead_adamw"]
)
def test_going_on_from_a_checkpoint_changes_nothing(tmp_path: Path, opt: str) -> None:
    straight, cut = tiny_net().eval(), tiny_net().eval()
    first = create_optimizer_v2(straight, opt, lr=1e-3, weight_decay=0.05)
    some_updates(straight, first, 9)
    second = create_optimizer_v2(cut, opt, lr=1e-3, weight_decay=0.05)
    some_updates(cut, second, 6)
    path = save(tmp_path, 6, cut, second)

    resumed = tiny_net(seed=7).eval()
    third = create_optimizer_v2(resumed, opt, lr=1e-3, weight_decay=0.05)
    resumed.load_state_dict(read_tensors(path / "model.safetensors"))
    third.load_state_dict(read_optimiser(path, read_state(path)["optimiser"]))
    for i in range(6, 9):
        generator = torch.Generator().manual_seed(i)
        loss = resumed(torch.randn(4, 1, 8, 8, generator=generator)).square().mean()
        third.zero_grad()
        loss.backward()
        third.step()
    for name, value in straight.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_only_the_newest_are_kept_and_none_is_a_pickle(tmp_path: Path) -> None:
    model = tiny_net()
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9)
    for step in (3, 12, 100):
        some_updates(model, optimiser, 1)
        save(tmp_path, step, model, optimiser)
    assert [p.name for p in checkpoints(tmp_path)] == ["step-00000012", "step-00000100"]
    files = {p.name for p in tmp_path.rglob("*") if p.is_file()}
    assert files == {"model.safetensors", "optim.safetensors", "state.json"}


def test_a_folder_without_its_state_is_no_checkpoint(tmp_path: Path) -> None:
    model = tiny_net()
    save(tmp_path, 1, model, torch.optim.SGD(model.parameters(), 0.1))
    (tmp_path / "step-00000009").mkdir()
    assert [p.name for p in checkpoints(tmp_path)] == ["step-00000001"]


def test_shared_tensors_are_written_each(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    model[1].weight = model[0].weight
    path = save(tmp_path, 1, model, torch.optim.SGD(model.parameters(), 0.1))
    read = read_tensors(path / "model.safetensors")
    assert torch.equal(read["0.weight"], read["1.weight"])


def test_damage_is_named(tmp_path: Path) -> None:
    model = tiny_net()
    path = save(tmp_path, 1, model, torch.optim.SGD(model.parameters(), 0.1))
    weights = path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:100])
    with pytest.raises(TrainingError, match=r"cannot read .*model\.safetensors.*remove .*step-00000001"):
        read_tensors(weights)
    state = json.loads((path / "state.json").read_text())
    (path / "state.json").write_text(json.dumps({**state, "format": 99}))
    with pytest.raises(TrainingError, match="format 99"):
        read_state(path)
    (path / "state.json").write_text("{")
    with pytest.raises(TrainingError, match="cannot read the checkpoint"):
        read_state(path)
