"""`batch_size="auto"`: the batch is halved until a step fits, and the run is the one that those numbers give."""

from __future__ import annotations

import itertools
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import zoo
from tests.training.helpers import QUICK, few_digits, tiny_net
from tests.training.test_processes import launch, plain_net
from zoo.errors import OutOfMemoryError, TrainingError
from zoo.training.batch_fit import _sizes
from zoo.training.settings import read_batch_size


class _Backward(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, most: int) -> Tensor:
        ctx.most = most
        return x.clone()

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        if len(gradients[0]) > ctx.most:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return gradients[0], None


class Cramped(nn.Module):
    """Passes its input on, if there are not too many images in training."""

    def __init__(self, most: int, *, backward: bool = False):
        super().__init__()
        self.most, self.backward, self.sizes = most, backward, []

    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            self.sizes.append(len(x))
            if self.backward:
                return _Backward.apply(x, self.most)  # type: ignore[return-value]
            if len(x) > self.most:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
        return x


def cramped_net(most: int, *, backward: bool = False) -> Any:
    model = tiny_net()
    model.body[2] = nn.Sequential(nn.ReLU(), Cramped(most, backward=backward))
    return model


def stored(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "args.json").read_text())["options"]


@pytest.mark.parametrize(
    ("opt", "backward"),
    [
        ("adamw", True),
        ("adafactor", False),
        *(
            pytest.param(opt, backward, marks=pytest.mark.slow)
            for opt, backward in itertools.product(("adamw", "lamb", "adafactor", "sgd"), (False, True))
            if (opt, backward) not in {("adamw", True), ("adafactor", False)}
        ),
    ],
)
def test_the_run_is_the_one_of_those_numbers(tmp_path: Path, opt: str, backward: bool) -> None:
    options = {**QUICK, "opt": opt, "ema": 0.9, "lr": "auto", "epochs": 2, "unfreeze": {1: None}, "freeze": "blocks:1"}
    found = zoo.finetune(
        cramped_net(20, backward=backward), few_digits(), out=tmp_path / "a", **{**options, "batch_size": "auto"}
    )
    assert (stored(tmp_path / "a")["batch_size"], stored(tmp_path / "a")["accum"]) == (16, 4)
    told = zoo.finetune(cramped_net(20), few_digits(), out=tmp_path / "b", **{**options, "accum": 4})
    assert stored(tmp_path / "a") == stored(tmp_path / "b")  # the learning rate among the rest
    for name, value in told.model.state_dict().items():
        assert torch.equal(value, found.model.state_dict()[name]), name
    assert found.history[0]["train_loss"] == told.history[0]["train_loss"]


def test_what_fits_at_once_is_not_changed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = {**QUICK, "epochs": 1, "progress": True}
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "a", **{**options, "batch_size": "auto"})
    assert (stored(tmp_path / "a")["batch_size"], stored(tmp_path / "a")["accum"]) == (64, 1)
    assert "out of memory" not in capsys.readouterr().err
    zoo.finetune(cramped_net(10), few_digits(), out=tmp_path / "b", **{**options, "batch_size": "auto:24", "accum": 2})
    assert (stored(tmp_path / "b")["batch_size"], stored(tmp_path / "b")["accum"]) == (6, 8)
    assert "zoo: out of memory with batches of 24: batch_size=6, accum=8" in capsys.readouterr().err


def test_resuming_takes_the_same_without_a_search(tmp_path: Path) -> None:
    options = {**QUICK, "batch_size": "auto", "save_every": 1, "epochs": 2}
    whole = zoo.finetune(cramped_net(20), few_digits(), out=tmp_path / "a", **options)
    newest = sorted((tmp_path / "a" / "checkpoints").iterdir())[-1]
    state = json.loads((newest / "state.json").read_text())
    state["position"] |= {"finished": False, "epoch": 1, "history": state["position"]["history"][:1]}
    (newest / "state.json").write_text(json.dumps(state))
    model = cramped_net(20)
    zoo.finetune(model, few_digits(), out=tmp_path / "a", **options)
    assert set(model.body[2][1].sizes) == {16}
    assert stored(tmp_path / "a")["batch_size"] == 16
    assert len(whole.history) == 2
    # Where more fits, the run keeps its batch; another number of images an update is another run.
    zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "a", **options)
    with pytest.raises(TrainingError, match="other settings"):
        zoo.finetune(tiny_net(), few_digits(), out=tmp_path / "a", **{**options, "batch_size": "auto:32"})


def test_nothing_fits(tmp_path: Path) -> None:
    with pytest.raises(
        OutOfMemoryError, match=r"out of memory on cpu even with batch_size=1\. Remedies: amp='bf16'.*img_size"
    ):
        zoo.finetune(cramped_net(0), few_digits(), out=tmp_path / "a", **{**QUICK, "batch_size": "auto"})
    with pytest.raises(OutOfMemoryError, match="even with batch_size=2"):  # mixup takes pairs
        zoo.finetune(cramped_net(0), few_digits(), out=tmp_path / "b", mixup=0.2, **{**QUICK, "batch_size": "auto"})


def test_other_errors_of_the_trial_pass(tmp_path: Path) -> None:
    model = tiny_net()
    model.fc = nn.Linear(7, 10)
    with pytest.raises(RuntimeError, match="mat1 and mat2 shapes cannot be multiplied"):
        zoo.finetune(model, few_digits(), out=tmp_path, **{**QUICK, "batch_size": "auto"})


def test_sizes_divide_the_first() -> None:
    assert list(_sizes(64, 1)) == [64, 32, 16, 8, 4, 2, 1]
    assert list(_sizes(24, 2)) == [24, 12, 6, 2]
    assert list(_sizes(7, 1)) == [7, 1]


def test_words() -> None:
    assert read_batch_size("auto") == (64, True)
    assert read_batch_size("auto:96") == (96, True)
    assert read_batch_size(7) == (7, False)
    for word in ("many", "auto:", "auto:0", "auto:x", "64"):
        with pytest.raises(ValueError, match=rf"batch_size must be a whole number from 1, 'auto' .*got '{word}'"):
            read_batch_size(word)


SCRIPT = """
import json, sys, os
from tests.training.test_batch_fit import few_digits, uneven_net
import zoo
zoo.finetune(uneven_net(int(os.environ["RANK"])), few_digits(), out=sys.argv[1], **json.loads(sys.argv[2]))
print(open(sys.argv[1] + "/args.json").read().replace(chr(10), " "))
"""


def uneven_net(rank: int) -> Any:
    """A model for which the second process has less memory than the first."""
    model: Any = plain_net()
    model.body[2] = nn.Sequential(nn.ReLU(), Cramped(40 if rank == 0 else 10))
    return model


@pytest.mark.ci_long
def test_processes_agree(tmp_path: Path) -> None:
    options = {**QUICK, "epochs": 1}
    answers = launch(tmp_path / "two", script=SCRIPT, **{**options, "batch_size": "auto:32"})
    for answer in answers:
        assert (answer["options"]["batch_size"], answer["options"]["accum"]) == (8, 4)
    alone = zoo.finetune(plain_net(), few_digits(), out=tmp_path / "one", **{**options, "batch_size": 16, "accum": 4})
    history = json.loads((tmp_path / "two" / "history.json").read_text())
    assert history[0]["train_loss"] == pytest.approx(alone.history[0]["train_loss"], abs=1e-5)
