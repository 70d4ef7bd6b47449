"""What stops a run says what happened, where, and what to do."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import zoo
from tests.training.helpers import QUICK, few_digits, tiny_net
from zoo.errors import MissingExtraError, NonFiniteLossError, OutOfMemoryError, TrainingError
from zoo.training import diagnose
from zoo.training.checkpoint import checkpoints


class Poison(nn.Module):
    """Passes its input on and, from the n-th training call, a NaN (in the output or the gradient)."""

    def __init__(self, after: int, *, backward: bool = False):
        super().__init__()
        self.calls, self.after, self.backward = 0, after, backward

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.calls += self.training
        if self.calls <= self.after:
            return x
        if self.backward:
            return x + (x - x.detach()).square().sqrt()  # zero, with gradient 0 / 0
        return x * float("nan")


def test_non_finite_loss_names_the_module_and_keeps_the_checkpoint(tmp_path: Path) -> None:
    model = tiny_net()
    model.body[2] = nn.Sequential(nn.ReLU(), Poison(after=8))
    with pytest.raises(NonFiniteLossError) as error:
        zoo.finetune(model, few_digits(), out=tmp_path, **QUICK)
    text = str(error.value)
    assert "not finite at epoch 2, update 9, lr 0.0" in text
    assert "first module with a non-finite output: 'body.2.1'" in text
    assert "gradient norm of the update before" in text
    assert "lower lr" in text
    assert "image" in text.rpartition("; ")[2]
    assert [p.name for p in checkpoints(tmp_path / "checkpoints")] == ["step-00000006"]


def test_non_finite_gradients_name_the_parameter(tmp_path: Path) -> None:
    model = tiny_net()
    model.body[2] = nn.Sequential(nn.ReLU(), Poison(after=2, backward=True))
    with pytest.raises(NonFiniteLossError, match=r"gradients are not at epoch 1, update 3.*first in 'stem.0.weight'"):
        zoo.finetune(model, few_digits(), out=tmp_path, **QUICK)


def test_non_finite_images_are_named(tmp_path: Path) -> None:
    images = torch.rand(32, 1, 8, 8)
    images[7, 0, 3, 3] = float("inf")
    pairs = [(image, i % 2) for i, image in enumerate(images)]
    with pytest.raises(NonFiniteLossError, match=r"the input itself is not finite: image 7 of list"):
        zoo.finetune(tiny_net(num_classes=2), pairs, val=False, transform=None, out=tmp_path, **QUICK)


def test_a_parameter_that_is_not_finite(tmp_path: Path) -> None:
    model = tiny_net()
    with torch.no_grad():
        model.body[0].bias[2] = float("inf")
    with pytest.raises(NonFiniteLossError, match=r"the parameter 'body\.0\.bias' is not finite"):
        zoo.finetune(model, few_digits(), out=tmp_path, **QUICK)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:119] DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)
def test_out_of_memory_lists_remedies(tmp_path: Path, error: RuntimeError) -> None:
    class Hungry(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise error

    model = tiny_net()
    model.drop = Hungry()
    with pytest.raises(OutOfMemoryError) as caught:
        zoo.finetune(model, few_digits(), out=tmp_path, **QUICK)
    assert re.search(r"out of memory on cpu with batch_size=16 \(peak \d+\.\d [MG]iB\)\. Remedies: ", str(caught.value))
    assert "batch_size=8 with accum=2" in str(caught.value)
    assert "batch_size='auto'" in str(caught.value)
    assert "set_grad_checkpointing" in str(caught.value)
    assert "amp='bf16'" in str(caught.value)
    assert caught.value.__cause__ is error


def test_other_errors_pass() -> None:
    with pytest.raises(RuntimeError, match=r"^something else$"), diagnose.explained_memory(1, 1, torch.device("cpu")):
        raise RuntimeError("something else")


def test_an_error_gives_the_model_back(tmp_path: Path) -> None:
    model: Any = tiny_net()
    model.body[2] = nn.Sequential(nn.ReLU(), Poison(after=0))
    with pytest.raises(TrainingError):
        zoo.finetune(model, few_digits(), out=tmp_path, freeze="blocks:1", **{**QUICK, "amp": "bf16"})
    assert all(p.requires_grad for p in model.parameters())
    assert not {"forward", "_is_accelerate_prepared"} & vars(model).keys()


@pytest.mark.parametrize(
    ("package", "call"), [("accelerate", "finetune"), ("torchmetrics", "finetune"), ("accelerate", "evaluate")]
)
def test_a_missing_package_names_the_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, package: str, call: str
) -> None:
    import sys

    for name in [
        n for n in sys.modules if n.startswith(("zoo.training.engine", "zoo.training.forward", "zoo.training.loop"))
    ]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, package, None)
    calls: dict[str, Any] = {
        "finetune": lambda: zoo.finetune(tiny_net(), few_digits(), out=tmp_path, **QUICK),
        "evaluate": lambda: zoo.evaluate(tiny_net(), few_digits()),
    }
    with pytest.raises(MissingExtraError, match=rf"zoo\.{call} needs the package '{package}'.*\[train\]"):
        calls[call]()
