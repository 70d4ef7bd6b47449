"""Updates that are not finite: left out when that is wanted, counted, and no trace of them stays."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

import zoo
from tests.training.helpers import QUICK, few_digits, tiny_net
from tests.training.test_failures import Poison
from tests.training.test_processes import launch
from zoo.errors import NonFiniteLossError
from zoo.training.data.loader import epoch_plan

SKIP: dict[str, Any] = {**QUICK, "on_nan": "skip", "val": False, "transform": None, "ema": 0.9}


def pairs(bad: tuple[int, ...] = (7,), count: int = 64) -> list[tuple[torch.Tensor, int]]:
    """Ready images, some of them infinite in one pixel."""
    images = torch.rand(count, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    images[list(bad), 0, 3, 3] = float("inf")
    return [(image, i % 2) for i, image in enumerate(images)]


def saved(folder: Path) -> list[dict[str, torch.Tensor]]:
    """Everything that each checkpoint holds, oldest first."""
    return [
        {f"{f}.{k}": v for f in ("model", "ema", "optim") for k, v in load_file(p / f"{f}.safetensors").items()}
        for p in sorted((folder / "checkpoints").iterdir())
    ]


def test_an_update_that_is_left_out_leaves_no_trace(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {**SKIP, "save_every": 1, "keep_last": 99, "progress": True}
    result = zoo.finetune(tiny_net(num_classes=2), pairs(), out=tmp_path, **options)
    plan = [epoch_plan(64, batch_size=16, accum=1, seed=0, epoch=epoch) for epoch in range(2)]
    guilty = {4 * e + u for e, updates in enumerate(plan) for u, batches in enumerate(updates) if 7 in batches[0]}
    assert len(guilty) == 2
    states = saved(tmp_path)
    assert len(states) == 8
    for number, (before, after) in enumerate(itertools.pairwise(states), start=1):
        same = {name for name in before if torch.equal(before[name], after[name])}
        if number in guilty:
            assert same == before.keys()  # batch norm's statistics, the average and the optimiser's among them
        else:
            assert "model.fc.weight" not in same
            assert "ema.fc.weight" not in same
            assert "model.stem.1.running_mean" not in same
    assert [row["skipped"] for row in result.history] == [1, 1]
    assert all(torch.isfinite(value).all() for state in states for value in state.values())
    said = [line for line in capsys.readouterr().err.splitlines() if "left out" in line]
    assert "the input itself is not finite: image 7 of list" in said[0]
    assert "epoch 1" in said[0]
    assert said[1].endswith(", 1 updates left out (best)")
    assert "epoch 2" in said[2]
    assert "input itself" not in said[2]  # the cause is told once


def test_the_mean_loss_is_of_what_was_learned_from(tmp_path: Path) -> None:
    options = {**SKIP, "epochs": 1, "lr": 1e-12, "ema": None}
    model = tiny_net(num_classes=2)
    model.stem[1], model.body[1], model.drop = nn.Identity(), nn.Identity(), nn.Identity()
    result = zoo.finetune(model, pairs(), out=tmp_path, **options)
    learned = [
        torch.stack([pairs()[i][0] for i in batch]) for (batch,) in epoch_plan(64, batch_size=16, accum=1, seed=0,
                                                                              epoch=0) if 7 not in batch
    ]  # fmt: skip
    labels = [
        torch.tensor([i % 2 for i in batch]) for (batch,) in epoch_plan(64, batch_size=16, accum=1, seed=0, epoch=0)
        if 7 not in batch
    ]  # fmt: skip
    with torch.no_grad():
        losses = [nn.functional.cross_entropy(model(x), y) for x, y in zip(learned, labels, strict=True)]
    assert result.history[0]["train_loss"] == pytest.approx(float(torch.stack(losses).mean()), abs=1e-6)


def test_non_finite_gradients_are_left_out_too(tmp_path: Path) -> None:
    for clip in (1.0, None):
        model = tiny_net()
        poison = Poison(after=2, backward=True)
        model.body[2] = nn.Sequential(nn.ReLU(), poison)
        with pytest.raises(
            NonFiniteLossError, match=r"gradients are not at epoch 2, update 8.*first in 'stem.0.weight'"
        ):
            zoo.finetune(model, few_digits(), out=tmp_path / str(clip), clip_grad=clip, **{**QUICK, "on_nan": "skip"})
        assert all(torch.isfinite(p).all() for p in model.parameters())


def test_five_in_a_row_are_the_most(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An epoch without any update that counted is no number; the sixth in a row ends the run."""
    everything = pairs(tuple(range(64)))
    options = {**SKIP, "batch_size": 32, "epochs": 9, "progress": True}
    with pytest.raises(
        NonFiniteLossError, match=r"at epoch 3, update 6.*; the 5 updates before it were left out \(on_nan='skip'\)"
    ):
        zoo.finetune(tiny_net(num_classes=2), everything, out=tmp_path, **options)
    assert "epoch 1/9: loss –" in capsys.readouterr().err
    rows = (tmp_path / "history.csv").read_text().splitlines()
    assert rows[1].startswith("1,,")
    assert rows[1].split(",")[rows[0].split(",").index("skipped")] == "2"


def test_resuming_counts_on(tmp_path: Path) -> None:
    """Cut off between updates that are left out, the run still ends where it would have ended, or gives up there."""
    bad = (7, 8, 9, 10, 40)
    whole = zoo.finetune(tiny_net(num_classes=2), pairs(bad), out=tmp_path / "whole", **{**SKIP, "batch_size": 8})
    assert sum(row["skipped"] for row in whole.history) >= 4
    import shutil

    options = {**SKIP, "batch_size": 8, "save_every": 1, "keep_last": 99}
    zoo.finetune(tiny_net(num_classes=2), pairs(bad), out=tmp_path / "every", **options)
    for step in (1, 3, 6, 11):
        part = tmp_path / f"part-{step}"
        shutil.copytree(tmp_path / "every", part)
        for path in (part / "checkpoints").iterdir():
            if int(path.name[5:]) > step:
                shutil.rmtree(path)
        shutil.rmtree(part / "best", ignore_errors=True)
        again = zoo.finetune(tiny_net(seed=3, num_classes=2), pairs(bad), out=part, **options)
        assert [r["skipped"] for r in again.history] == [r["skipped"] for r in whole.history]
        assert [r["train_loss"] for r in again.history] == [r["train_loss"] for r in whole.history]
        one, two = saved(part)[-1], saved(tmp_path / "whole")[-1]
        assert all(torch.equal(one[name], two[name]) for name in two)


def test_a_run_that_was_stopped_by_a_nan_goes_on_without_it(tmp_path: Path) -> None:
    options = {**SKIP, "on_nan": "raise", "save_every": 1}
    with pytest.raises(NonFiniteLossError):
        zoo.finetune(tiny_net(num_classes=2), pairs(), out=tmp_path / "run", **options)
    zoo.finetune(tiny_net(num_classes=2), pairs(), out=tmp_path / "run", **{**options, "on_nan": "skip"})
    zoo.finetune(tiny_net(num_classes=2), pairs(), out=tmp_path / "whole", **SKIP)
    one, two = saved(tmp_path / "run")[-1], saved(tmp_path / "whole")[-1]
    assert all(torch.equal(one[name], two[name]) for name in two)


SCRIPT = """
import json, sys
from tests.training.test_on_nan import pairs
from tests.training.test_processes import plain_net
import zoo
result = zoo.finetune(plain_net(num_classes=2), pairs(), out=sys.argv[1], **json.loads(sys.argv[2]))
print(json.dumps([row["skipped"] for row in result.history]))
"""


@pytest.mark.ci_long
def test_all_processes_leave_out_the_same(tmp_path: Path) -> None:
    """The infinite image is seen by one of two; both leave the update out."""
    from tests.training.test_processes import plain_net

    options = {**SKIP, "opt": "sgd", "ema": 0.5}
    zoo.finetune(plain_net(num_classes=2), pairs(), out=tmp_path / "one", **options)
    answers = launch(tmp_path / "two", script=SCRIPT, **{**options, "batch_size": 8})
    assert answers == [[1, 1], [1, 1]]
    one, two = saved(tmp_path / "one")[-1], saved(tmp_path / "two")[-1]
    for name in one:
        if not name.startswith("optim"):
            assert torch.allclose(one[name], two[name], atol=1e-6), name


def test_other_words_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="on_nan must be 'raise' or 'skip', got 'ignore'"):
        zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "run", on_nan="ignore", **QUICK)
